"""The network of handwritten digits, untrained but awake, exported, and on the board."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.exporters.integers.input_code import encode
from psu_deploy.models import DigitsNet
from psu_deploy.runtime import Runner
from tests.exporters.c.cortex_m4.board import Board

T = 8
FORMS = {"float32, no FPU": ("float32", "soft"), "float32": ("float32", "hard"), "int8": ("int8", "soft")}
"""Name -> numbers, and who computes with floating point."""


class Deployed(NamedTuple):
    """A network on the board, what it is given there, and what runs it here."""

    board: Board
    runner: Any
    x: np.ndarray[Any, Any]


def machine(neuron: str) -> psu.StateMachine:
    """8-128-128-10, its BatchNorm with numbers of its own, so that some neurons fire and some do not."""
    torch.manual_seed(0)
    net = DigitsNet(neuron).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_var.uniform_(0.01, 0.1)
            nn.init.normal_(module.bias, 0.3, 0.3)
    return psu.to_state_machine(net, net.input_shape)


def pictures(samples: int) -> np.ndarray[Any, Any]:
    """(T, samples, 8), gray in steps of 1/16."""
    return (np.random.default_rng(0).integers(0, 17, (T, samples, 8)) / 16).astype(np.float32)


def deploy(source: psu.StateMachine, form: str, folder: Path) -> Deployed:
    """Export, and compile for the board."""
    numerics, unit = FORMS[form]
    options: dict[str, Any] = {"numerics": "int8", "calibration": pictures(4)} if numerics == "int8" else {}
    path = psu.export(source, folder / "net.c", target="c", **options).path
    runner, x = psu.load(path), pictures(1)
    given = encode(runner._network, x)[:, 0].astype(np.int16) if options else x[:, 0]
    return Deployed(Board(folder / "board", path.parent, given, _traced(runner), unit), runner, x)


def _traced(runner: Runner) -> dict[str, tuple[str, int]]:
    """Neuron layer -> the member of the trace with its spikes, and how many there are."""
    facts = runner.facts
    if "trace" in facts:
        names = dict(zip(facts["layers"], facts["trace"], strict=True))
        return {layer: (names[layer], shape[0]) for layer, shape in facts["neurons"].items()}
    sizes = {layer["name"]: layer["shape"][0] for layer in facts["layers"]}
    return {layer: (f"{name}_S", sizes[layer]) for layer, name in facts["neurons"].items()}
