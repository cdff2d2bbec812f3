"""What a neuron does with one pulse, and with a constant current: V, R and S of the real neurons, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from drawing import Drawing
from torch import Tensor

import psu_deploy as psu
from psu_deploy.nn.neurons import PSN, Neuron, TimeFirst

STEPS = 16
PULSE_AT, PULSE, CURRENT = 1, 3.0, 1.6

NEURONS: dict[str, Callable[[], TimeFirst]] = {
    "PSU": lambda: psu.PSU(tau=4.0, threshold=0.5),
    "IPSU": lambda: psu.IPSU(STEPS, tau=4.0, threshold=0.5),
    "RPSU": lambda: psu.RPSU(STEPS, tau=4.0, threshold=0.5),
    "PPSU": lambda: psu.PPSU(STEPS, tau=4.0, threshold=0.5),
    "PSN": lambda: psu.PSN(STEPS),
    "MaskedPSN": lambda: psu.MaskedPSN(STEPS, order=4),
    "SlidingPSN": lambda: psu.SlidingPSN(order=4),
    "SPSN": lambda: psu.SPSN(tau=4.0, seed=0),
    "LIF": lambda: psu.LIF(tau=4.0, threshold=0.5),
    "PLIF": lambda: psu.PLIF(tau=2.0, threshold=1.0, reset="soft"),
}
"""Every neuron there is, as it starts; those with learned matrices have learned something: see `made`."""

_WIDTH, _PLOT, _TOP, _HIGH, _GAP = 680.0, 270.0, 34.0, 86.0, 60.0


def made(name: str) -> TimeFirst:
    """The neuron, in eval mode. What is learned is moved from where it starts, by a fixed draw, so that it shows."""
    torch.manual_seed(3)
    neuron = NEURONS[name]().eval()
    with torch.no_grad():
        if name in ("IPSU", "RPSU", "PPSU"):
            for parameter in neuron.parameters():
                parameter += 0.12 * torch.randn_like(parameter)
        if name in ("PSN", "MaskedPSN"):
            for parameter in neuron.parameters():
                if parameter.ndim == 2:
                    parameter += 0.35
    return neuron


def currents() -> dict[str, Tensor]:
    """Name -> input (T, 1, 1)."""
    pulse = torch.zeros(STEPS, 1, 1)
    pulse[PULSE_AT] = PULSE
    return {f"one pulse of {PULSE:g}": pulse, f"a constant {CURRENT:g}": torch.full((STEPS, 1, 1), CURRENT)}


def response(neuron: TimeFirst, current: Tensor) -> dict[str, list[float]]:
    """V, R, the threshold and S of every step; of what has no V, what is compared with the threshold."""
    with torch.no_grad():
        spikes = neuron(current)
        if isinstance(neuron, PSN):
            potential = (neuron.weight @ current.flatten(1) + neuron.step_bias[:, None]).view_as(current)
            reset, margin = torch.zeros_like(current), potential
        else:
            assert isinstance(neuron, Neuron)
            potential, reset, margin = neuron.margin(current)
    rows = {"V": potential, "R": reset, "S": spikes, "V - R - margin": potential - reset - margin}
    return {name: [float(value) for value in row.flatten()] for name, row in rows.items()}


def draw(name: str) -> str:
    """The picture of one neuron: two inputs beside each other, V and R above, S below."""
    neuron = made(name)
    drawing = Drawing(_WIDTH, _TOP + _HIGH + 44, f"{name}: membrane V, reset R and spikes S")
    found = {title: response(neuron, current) for title, current in currents().items()}
    has_reset = any(any(values["R"]) for values in found.values())
    for place, (title, values) in enumerate(found.items()):
        _plot(drawing, 28 + place * (_PLOT + _GAP), title, values, has_reset)
    return drawing.svg()


def _plot(drawing: Drawing, left: float, title: str, values: dict[str, list[float]], has_reset: bool) -> None:
    curves = [values["V"], values["R"] if has_reset else [], _thresholds(values)]
    low, high = min(0.0, *map(min, filter(None, curves))), max(max(c) for c in curves if c)
    scale = _HIGH / ((high - low) or 1.0)

    def at(step: int, value: float) -> tuple[float, float]:
        return left + _PLOT * step / (STEPS - 1), _TOP + (high - value) * scale

    drawing.text(left, 16, title, kind="small", colour="mute")
    drawing.line([at(0, 0.0), at(STEPS - 1, 0.0)], colour="faint", width=1)
    drawing.line([at(t, value) for t, value in enumerate(curves[2])], colour="mute", width=1, dashed=True)
    _curve(drawing, [at(t, value) for t, value in enumerate(values["V"])], "v")
    ends = [(values["V"][-1], "V", "v")]
    if has_reset:
        _curve(drawing, [at(t, value) for t, value in enumerate(values["R"])], "r")
        ends.append((values["R"][-1], "R", "r"))
    below = _TOP + _HIGH + 26
    drawing.line([(left, below), (left + _PLOT, below)], colour="faint", width=1)
    for t, spike in enumerate(values["S"]):
        if spike:
            x = at(t, 0.0)[0]
            drawing.line([(x, below), (x, below - 13)], colour="s", width=2.5)
    for y, label, colour in _apart([(at(STEPS - 1, value)[1], label, colour) for value, label, colour in ends]):
        drawing.text(left + _PLOT + 8, y + 4, label, kind="small", colour=colour)
    drawing.text(left + _PLOT + 8, below, "S", kind="small", colour="s")


def _thresholds(values: dict[str, list[float]]) -> list[float]:
    """What V must reach: the reset moves it."""
    return [r + threshold for r, threshold in zip(values["R"], values["V - R - margin"], strict=True)]


def _curve(drawing: Drawing, points: Sequence[tuple[float, float]], colour: str) -> None:
    drawing.line(points, colour=colour, width=1.5)
    for x, y in points:
        drawing.dot(x, y, 2.2, colour=colour)


def _apart(labels: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Labels that would lie on each other are moved."""
    labels = sorted(labels)
    if len(labels) == 2 and labels[1][0] - labels[0][0] < 12:
        middle = (labels[0][0] + labels[1][0]) / 2
        return [(middle - 6, *labels[0][1:]), (middle + 6, *labels[1][1:])]
    return labels
