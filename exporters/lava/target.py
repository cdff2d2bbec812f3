"""What a .net file is, and the limits of the hardware it imitates."""

from __future__ import annotations

import numpy as np

from psu_deploy.exporters.target import Option, Target

SUFFIX = ".net"
FORMAT = "psu-deploy.lava/1"

GROUP = "psu_deploy"
"""Of the file: our own numbers and metadata; lava-dl does not look there."""

SIMULATORS = ("lava", "integer")
"""What runs a file: Lava in fixed point, or our own numpy."""

MESSAGE_BITS = 24
"""Of a graded spike."""

LAVA = Target(
    name="lava",
    title="Lava",
    suffix=SUFFIX,
    export="psu_deploy.exporters.lava.export:export",
    load="psu_deploy.exporters.lava.runner:load",
    extra="lava",
    needs=("h5py",),
    packages={"h5py": "h5py"},
    options=(
        Option(
            "calibration",
            ("export",),
            "typical input (T, B, ...) as .npy; default: a run folder's test data.",
            np.ndarray,
            also=("--calibrate",),
            from_run=True,
        ),
        Option(
            "input_range",
            ("export",),
            "what the largest number at the input stands for: max or percentile.",
            default="max",
        ),
        Option("simulator", ("run", "verify"), f"what runs it: {', '.join(SIMULATORS)}.", default=SIMULATORS[0]),
        Option("timeout", ("run", "verify"), "seconds for one run.", float, default=600),
    ),
    checks=("psu_deploy.exporters.lava.doctor:interpreter",),
    reports=True,
    without_engine={"simulator": "integer"},
    prepare="psu_deploy.preparation.lava:LAVA",
)
