"""The process that tries cases, so that one that crashes or hangs takes only itself along.

It reads a request a line, `{"seed": .., "number": .., "target": ..}` or `{"case": "a.psm"}`, and answers each with an
`Outcome`. What an engine prints goes to standard error.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psu_deploy.fuzz.case import Case, drawn_case, load_case
from psu_deploy.fuzz.judge import judge


def main() -> None:
    """Answer until nobody asks any more."""
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _one_thread()
    _say(answers, {"ready": True})
    for line in sys.stdin:
        with TemporaryDirectory(prefix="psu-deploy-fuzz-") as folder:
            _say(answers, judge(_case_of(json.loads(line)), Path(folder)).to_dict())


def _case_of(request: dict[str, Any]) -> Case:
    if "case" in request:
        return load_case(Path(request["case"]))
    return drawn_case(request["seed"], request["number"], request["target"])


def _one_thread() -> None:
    """Networks this small only wait for a second one."""
    import torch

    torch.set_num_threads(1)


def _say(answers: Any, data: dict[str, Any]) -> None:
    answers.write(json.dumps(data) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
