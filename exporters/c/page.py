"""The page beside the sources: what they are, how to compile them, and a program that calls them."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files

from psu_deploy.exporters.c.declare import facts
from psu_deploy.exporters.c.emit import Emitted
from psu_deploy.machine import StateMachine
from psu_deploy.text import visible


def page_text(machine: StateMachine, emitted: Emitted, stem: str) -> str:
    """The text of `net.md`: `@c:...@` is there where the numbers are source text, `@bin:...@` where they are not."""
    form, other = ("bin", "c") if emitted.mapped else ("c", "bin")
    text = files("psu_deploy.exporters.c").joinpath("text", "page.md").read_text("utf-8")
    text = re.sub(rf"@{other}:[^@]*@\n?", "", re.sub(rf"@{form}:([^@]*)@", r"\1", text.replace("@@", "\0")))
    said = "\n".join(visible(line) for line in facts(machine, emitted, f"{stem}_weights.{form}"))
    upper = emitted.prefix.upper()
    words = {"STEM": stem, "PREFIX": emitted.prefix, "UPPER": upper, "FACTS": said}
    words["STEPS"] = "10" if emitted.horizon is None else f"{upper}_HORIZON"
    words |= {"SOURCE": shlex.quote(f"{stem}.c"), "NUMBERS": shlex.quote(f"{stem}_weights.c")}
    for word, meaning in words.items():
        text = text.replace(f"\0{word}\0", meaning)
    return text
