"""What C files of ours are, and how they are compiled here."""

from __future__ import annotations

from psu_deploy.exporters.target import Option, Target

SUFFIX = ".c"

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
    load="psu_deploy.exporters.c.runner:load",
    options=(
        Option(
            "flags",
            ("run", "verify"),
            "for the compiler, instead of -O3 and -march=native.",
            default=None,
        ),
    ),
    checks=("psu_deploy.exporters.c.compiler:found",),
)
