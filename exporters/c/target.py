"""What C files of ours are, and how they are compiled here."""

from __future__ import annotations

import numpy as np

from psu_deploy.exporters.target import Option, Target

SUFFIX = ".c"

NUMERICS = ("float32", "int8")
"""In which numbers a network may be written."""

LANGUAGE = "-std=c99"

EXACT = "-ffp-contract=off"
"""No product is fused with a sum: what is rounded, and when, is what is written."""

FLAGS = ("-O3", "-march=native", EXACT, LANGUAGE, "-fno-math-errno", "-fno-trapping-math")
"""The last two change no number; without them compilers do not vectorise what decides."""

C = Target(
    name="c",
    title="C",
    suffix=SUFFIX,
    export="psu_deploy.exporters.c.export:export",
    load="psu_deploy.exporters.c.load:load",
    options=(
        Option(
            "numerics",
            ("export",),
            f"{' or '.join(NUMERICS)}; int8: the integers of the Lava export, without floating point.",
            default=NUMERICS[0],
        ),
        Option(
            "calibration",
            ("export",),
            "for --numerics int8: typical input (T, B, ...) as .npy; default: a run folder's test data.",
            np.ndarray,
            also=("--calibrate",),
            only_with="numerics",
            only_at=NUMERICS[1],
            purpose="is for whole numbers",
            from_run=True,
        ),
        Option(
            "input_range",
            ("export",),
            "for --numerics int8: what the largest number at the input stands for: max or percentile.",
            default="max",
            only_with="numerics",
            only_at=NUMERICS[1],
            purpose="is for whole numbers",
        ),
        Option(
            "weights_file",
            ("export",),
            "`c`: numbers as source text (default); `bin`: as a file of their own, to be mapped.",
        ),
        Option(
            "flags",
            ("run", "verify"),
            "for the compiler, instead of -O3 and -march=native.",
            default=None,
        ),
    ),
    without_engine={"compiled": False},
    checks=("psu_deploy.exporters.c.compiler:found",),
    reports=True,
)
