"""The rooms whose tests are tested, and which tests cover which file: the quickest that know it best come first."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

ROOMS = {
    "nn": "psu_deploy/nn/**/*.py",
    "machine": "psu_deploy/machine/**/*.py",
    "verify": "psu_deploy/verify/*.py",
    "capture": "psu_deploy/capture/**/*.py",
    "exporters": "exporters/**/*.py",
}
"""Name -> its files."""

ELSEWHERE = (
    "exporters/lava/process/*",  # runs in Lava's own Python, from the tree it was installed from
    "exporters/lava/environment.py",  # pip, and the folder of that Python
    "exporters/lava/job.py",
    "exporters/lava/process_group.py",
    "exporters/lava/python310.py",
)
"""Files whose changes the tests would not see, or that must not be run changed."""

TESTS = {
    "psu_deploy/nn/temporal/fit.py": ("tests/nn/temporal/test_fit.py",),
    "psu_deploy/nn/temporal/*": (
        "tests/nn/temporal/test_operators.py",
        "tests/nn/neurons",
        "tests/nn/temporal/test_fit.py",
    ),
    "psu_deploy/nn/*": ("tests/nn",),
    "psu_deploy/files/atomic.py": ("tests/files/test_atomic.py", "tests/machine/test_storage.py"),
    "psu_deploy/machine/storage.py": ("tests/machine/test_storage.py", "tests/machine/test_validation.py"),
    "psu_deploy/machine/inputs.py": (
        "tests/machine/test_inputs.py",
        "tests/test_static_input.py",
        "tests/exporters/onnx/test_runner.py",
    ),
    "psu_deploy/machine/passes/*": ("tests/machine", "tests/verify/test_verify.py"),
    "psu_deploy/machine/ops/*": (
        "tests/machine",
        "tests/test_zoo.py",
        "tests/verify/test_soundness.py",
        "tests/verify/test_rounding.py",
        "tests/verify/test_table_rounding.py",
        "tests/nn/test_hand_over.py",
    ),
    "psu_deploy/machine/*": (
        "tests/machine",
        "tests/test_zoo.py",
        "tests/exporters/onnx/test_layers.py",
        "tests/test_latency.py",
    ),
    "psu_deploy/verify/rounding.py": (
        "tests/verify/test_soundness.py",
        "tests/verify/test_rounding.py",
        "tests/verify/test_table_rounding.py",
    ),
    "psu_deploy/verify/*": ("tests/verify", "tests/exporters/nir/test_verify.py"),
    "exporters/nir/importing/*": ("tests/exporters/nir/importing", "tests/exporters/nir/test_reading.py"),
    "psu_deploy/capture/spikingjelly/*": ("tests/capture/test_spikingjelly*.py",),
    "psu_deploy/capture/*": (
        "tests/capture/test_[!ns]*.py",
        "tests/capture/test_spikingjelly*.py",
        "tests/test_latency.py",
        "tests/test_static_input.py",
        "tests/nn/test_along_time.py",
        "tests/nn/test_hand_over.py",
    ),
    "exporters/integers/bounds.py": (
        "tests/exporters/integers/test_bounds.py",
        "tests/exporters/integers/test_quantise.py",
    ),
    "exporters/integers/fixed_point.py": (
        "tests/exporters/integers/test_fixed_point.py",
        "tests/exporters/integers/test_bounds.py",
    ),
    "exporters/integers/folding.py": (
        "tests/exporters/integers/test_folding.py",
        "tests/exporters/integers/test_lower.py",
    ),
    "exporters/integers/quantise.py": (
        "tests/exporters/integers/test_quantise.py",
        "tests/exporters/integers/test_bounds.py",
    ),
    "exporters/integers/lower.py": (
        "tests/exporters/integers/test_lower.py",
        "tests/exporters/integers/test_quantise.py",
    ),
    "exporters/integers/n*.py": (
        "tests/exporters/integers/test_lower.py",
        "tests/exporters/integers/test_fixed_point.py",
        "tests/exporters/integers/test_quantise.py",
        "tests/exporters/integers/test_bounds.py",
    ),
    "exporters/lava/*": (
        "tests/exporters/integers/test_lower.py",
        "tests/exporters/integers/test_quantise.py",
        "tests/exporters/lava/test_files.py",
        "tests/exporters/lava/test_export.py",
    ),
    "exporters/nir/*": ("tests/exporters/nir",),
    "exporters/onnx/*": ("tests/exporters/onnx",),
    "exporters/*": ("tests/exporters/test_targets.py", "tests/exporters/test_plugin.py"),
}
"""File -> what to run; the first pattern that fits."""


def files_of(room: str, tree: Path) -> list[str]:
    """The files of a room that are changed, relative to the tree."""
    found = sorted(path.relative_to(tree).as_posix() for path in tree.glob(ROOMS[room]))
    return [file for file in found if not any(fnmatch(file, pattern) for pattern in ELSEWHERE)]


def covering(file: str, tree: Path) -> list[str]:
    """The tests of a file, those that exist."""
    patterns = next(tests for pattern, tests in TESTS.items() if fnmatch(file, pattern))
    return [path.relative_to(tree).as_posix() for pattern in patterns for path in sorted(tree.glob(pattern))]
