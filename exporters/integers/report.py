"""What quantisation did to a network, layer by layer, measured on calibration data: plain data, a table, JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from psu_deploy.text import columns

_SILENT, _ALWAYS = 0.0, 0.999
_MUCH = 0.05


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: of the machine's layer.
        kind: synapse and neuron, such as "dense 8 -> 128, PSU".
        weight_bits: sign included.
        scale: smallest and largest worth of one unit of a weight, over the channels.
        weight_error: `|W - s w| / |W|`, Frobenius.
        fraction_bits: of the states.
        bound: the largest magnitude of any state for any input, as a share of 24 bits: proven below 1.
        observed: the largest magnitude of V on the calibration data, as a share of 24 bits.
        percentile: the 99.9th percentile of |V|, the largest of any step, as a share of 24 bits.
        saturated: share of weights at the end of their range.
        firing_before: firing rate of the unrounded machine; None where there are no spikes.
        firing_after: of the integer network.
        flip_rate: share of its spikes that differ.
        dead: share of neurons that never fired though they did before.
        words: 24-bit words of state per neuron.
        simulation_only: more words than a neuron on a chip should have.
        time_constant_error: by how much rounding changed a time constant, relative; the largest.
    """

    name: str
    kind: str
    weight_bits: int
    scale: tuple[float, float]
    weight_error: float
    fraction_bits: int
    bound: float
    observed: float
    percentile: float
    saturated: float
    firing_before: float | None
    firing_after: float | None
    flip_rate: float | None
    dead: float
    words: int
    simulation_only: bool
    time_constant_error: float = 0.0

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a reader should look at, in words."""
        found = []
        if self.firing_after == _SILENT:
            before = f"at {self.firing_before:.1%} before" if self.firing_before else "neither did it before"
            found.append(f"layer {self.name!r} is dead: it never fired on the calibration data ({before})")
        elif self.firing_after is not None and self.firing_after >= _ALWAYS:
            found.append(f"layer {self.name!r} is always on: it fired at {self.firing_after:.1%} ({self._before()})")
        elif self.dead > 0:
            found.append(f"layer {self.name!r}: {self.dead:.1%} of its neurons fell silent")
        if self.flip_rate is not None and self.flip_rate > _MUCH:
            found.append(f"layer {self.name!r}: {self.flip_rate:.1%} of its spikes flipped; prepare and fine-tune")
        if self.time_constant_error > _MUCH:
            off = f"{self.time_constant_error:.0%}"
            found.append(f"layer {self.name!r}: a time constant is off by {off}: decays count in 1/4096")
        if self.simulation_only:
            found.append(
                f"layer {self.name!r} is simulation only: {self.words} words of state per neuron are more than "
                "a neuron on a chip should have"
            )
        return tuple(found)

    def _before(self) -> str:
        return f"{self.firing_before or 0.0:.1%} before"


@dataclass(frozen=True)
class QuantisationReport:
    """All of a network.

    Attributes:
        layers: in order.
        steps: of the calibration data.
        samples: of the calibration data.
        spikes_compared: on it, T * B * neurons.
        flip_rate: share of them that differ.
        input_unit: what one is worth at the input.
        input_levels: smallest and largest number at the input.
        input_error: largest |x - unit * number| on the calibration data.
        horizon: number of steps the network is defined for; None = any number.
    """

    layers: tuple[LayerReport, ...]
    steps: int
    samples: int
    spikes_compared: int
    flip_rate: float
    input_unit: float
    input_levels: tuple[int, int]
    input_error: float
    horizon: int | None = None

    @property
    def alarms(self) -> tuple[str, ...]:
        """Of the data and of every layer, in words."""
        short = self.horizon is not None and self.steps < self.horizon
        of_data = [f"the calibration data have {self.steps} of the {self.horizon} steps"] if short else []
        return (*of_data, *(alarm for layer in self.layers for alarm in layer.alarms))

    @property
    def simulation_only(self) -> bool:
        """Whether a layer keeps more than a neuron on a chip should."""
        return any(layer.simulation_only for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return asdict(self) | {"alarms": list(self.alarms), "simulation_only": self.simulation_only}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> QuantisationReport:
        """What `to_dict` gave, now or read from a file.

        Raises:
            TypeError: if it is anything else.
        """
        known = {field.name for field in fields(QuantisationReport)}
        layers = tuple(LayerReport(**layer | {"scale": tuple(layer["scale"])}) for layer in values["layers"])
        kept = {name: value for name, value in values.items() if name in known}
        found = QuantisationReport(**kept | {"layers": layers, "input_levels": tuple(values["input_levels"])})
        _check_types(found)
        for layer in layers:
            _check_types(layer)
        if not isinstance(values["alarms"], list) or not all(isinstance(alarm, str) for alarm in values["alarms"]):
            raise TypeError(f"the report's alarms are {values['alarms']!r}, expected texts")
        return found

    def __str__(self) -> str:
        head = ("layer", "kind", "bits", "weights off", "bound", "seen", "firing", "rounded", "flips", "state")
        rows = [head, *map(_row, self.layers)]
        lines = columns(rows, left=2)
        title = (
            f"Loihi-2-style fixed point, measured on {self.steps} steps and {self.samples} samples: "
            f"{self.flip_rate:.3%} of {self.spikes_compared:,} spikes flipped"
        )
        low, high = self.input_levels
        coded = f"  input {low}..{high} in units of {self.input_unit:.4g}, off by up to {self.input_error:.2g}"
        return "\n".join(
            [title, coded, *(f"  {line.rstrip()}" for line in lines), *_LEGEND, *(f"alarm: {a}" for a in self.alarms)]
        )


def _whole(value: Any) -> bool:
    return type(value) is int


def _real(value: Any) -> bool:
    return type(value) in (int, float)


_FITS: dict[Any, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "int": _whole,
    "int | None": lambda v: v is None or _whole(v),
    "float": _real,
    "float | None": lambda v: v is None or _real(v),
    "tuple[int, int]": lambda v: len(v) == 2 and all(map(_whole, v)),
    "tuple[float, float]": lambda v: len(v) == 2 and all(map(_real, v)),
    "tuple[LayerReport, ...]": lambda v: isinstance(v, tuple),  # each of them looks at itself
}
"""Type of a field, as it is written above -> whether a value from a file has it."""


def _check_types(owner: LayerReport | QuantisationReport) -> None:
    for field in fields(owner):
        value = getattr(owner, field.name)
        if not _FITS[field.type](value):
            raise TypeError(f"the report's {field.name} is {value!r}, expected {field.type}")


_LEGEND = (
    "  bits: of a weight + behind the point of a state; bound: the largest state that any input can cause, seen: that",
    "  this one caused, as shares of 24 bits; firing before and after rounding; state: words per neuron, * too many",
)


def _row(layer: LayerReport) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kind,
        f"{layer.weight_bits}+{layer.fraction_bits}",
        f"{layer.weight_error:.2%}",
        f"{layer.bound:.1%}",
        f"{layer.observed:.1%}",
        _share(layer.firing_before),
        _share(layer.firing_after),
        _share(layer.flip_rate),
        f"{layer.words} words" + ("*" if layer.simulation_only else ""),
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
