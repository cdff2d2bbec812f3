"""A page in a real browser: what axe-core finds in it, and how wide it is on a phone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".venv" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")

_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_ANSWER = re.compile(r'<pre id="answer">(.*?)</pre>', re.S)

_RUN_AXE = """
axe.run({resultTypes: ["violations", "incomplete"]}).then(found => answer(
    found.violations.map(one => [one.id, one.nodes.map(node => node.html.slice(0, 200))])))
"""
_MEASURE = """
addEventListener("load", () => answer([...document.querySelectorAll("iframe")].map(
    frame => [frame.clientWidth, frame.contentDocument.documentElement.scrollWidth])))
"""


def browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str:
    """What of it is not installed."""
    return "Chromium" if browser() is None else "" if AXE.is_file() else "axe-core"


def violations(page: str, folder: Path, dark: bool) -> list:
    """What axe-core objects to, rule by rule; the page's own policy, which forbids every script, is taken out."""
    assert _POLICY.search(page)
    return _ask(_POLICY.sub("", page), f"{AXE.read_text()}\n", _RUN_AXE, folder, dark)


def widths(page: str, folder: Path, *windows: int) -> list:
    """Of every window: its width, and how wide the page is in it."""
    frame = '<iframe srcdoc="{}" style="border:0;width:{}px;height:900px"></iframe>'
    frames = "".join(frame.format(html.escape(page), width) for width in windows)
    return _ask(f"<!DOCTYPE html><body>{frames}</body>", "", _MEASURE, folder, dark=False)


def _ask(page: str, library: str, question: str, folder: Path, dark: bool):
    answer = """
    function answer(found) {
        const pre = document.createElement("pre");
        pre.id = "answer";
        pre.textContent = JSON.stringify(found);
        document.body.append(pre);
    }"""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{library}{answer}{question}</script></body>"))
    words = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=20000", "--dump-dom",
        path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    (found,) = _ANSWER.findall(done.stdout)
    return json.loads(html.unescape(found))
