"""Neurons: from the synapse's output `a` to a spike, or a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from psu_deploy.exporters.c.integers.layer import Layer, plus, share
from psu_deploy.exporters.c.integers.operators import write_operator
from psu_deploy.exporters.integers.fixed_point import STATE_MAX
from psu_deploy.exporters.integers.network import LIF, PSU, Cuba, Estimator, Levels, Raw, Relay, Reset, Table

_CUBA_SHIFT = 6
_SHORT_SHIFT = 12
"""From here on the argument of a sigmoid needs no 64 bits."""


def write_neuron(scope: Layer) -> str:
    """Lines of one neuron that is given `a`; returns what it sends: a condition, or for a Relay a number."""
    return _RULES[type(scope.layer.neuron)](scope, scope.layer.neuron)


def _current(scope: Layer, neuron: PSU | LIF | Relay) -> str:
    fraction = scope.of_channel(neuron.fraction, "fraction")
    x = scope.saturate("a")
    if neuron.fraction_bits:
        x = scope.saturate(plus(f"{x} * {2**neuron.fraction_bits}", fraction))
    scope.equations.append(f"x = saturate({2**neuron.fraction_bits} a + fraction)")
    scope.lines.append(f"const int32_t x = {x};")
    return "x"


def _relay(scope: Layer, neuron: Relay) -> str:
    x = _current(scope, neuron)
    return x if neuron.operator is None else write_operator(scope, neuron.operator, "Y", x)


def _cuba(scope: Layer, neuron: Cuba) -> str:
    state = f"{scope.state('V')}[i]"
    scope.equations += [
        f"v = saturate({share(neuron.decay)}V + {2**_CUBA_SHIFT} a)",
        f"S = v > {neuron.threshold * 2**_CUBA_SHIFT};  V = 0 where it spiked, v elsewhere",
    ]
    scope.lines += [
        f"const int32_t v = {scope.decayed(state, neuron.decay, f'a * {2**_CUBA_SHIFT}')};",
        f"{state} = v > {neuron.threshold * 2**_CUBA_SHIFT} ? 0 : v;",
    ]
    return f"v > {neuron.threshold * 2**_CUBA_SHIFT}"


def _lif(scope: Layer, neuron: LIF) -> str:
    x, state = _current(scope, neuron), f"{scope.state('V')}[i]"
    threshold = scope.of_channel(neuron.threshold, "threshold")
    scope.equations.append(f"H = saturate({share(neuron.decay)}V + x);  S = H >= threshold")
    scope.lines.append(f"const int32_t h = {scope.decayed(state, neuron.decay, x)};")
    if neuron.hard:
        after = "0"
        scope.equations.append("V = 0 where it spiked, H elsewhere")
    else:
        after = scope.saturate(f"h - {scope.of_channel(neuron.subtract, 'subtract')}")
        scope.equations.append("V = saturate(H - subtract) where it spiked, H elsewhere")
    scope.lines.append(f"{state} = h >= {threshold} ? {after} : h;")
    return f"h >= {threshold}"


def _psu(scope: Layer, neuron: PSU) -> str:
    x = _current(scope, neuron)
    v = write_operator(scope, neuron.integrate, "V", x)
    threshold = scope.of_channel(neuron.threshold, "threshold")
    if neuron.reset is None:
        scope.equations.append("S = V >= threshold")
        return f"{v} >= {threshold}"
    e = v if neuron.estimate is None else write_operator(scope, neuron.estimate, "E", x)
    spike, largest = _estimated(scope, neuron.estimator, e, v)
    r = _reset(scope, neuron.reset, spike, largest)
    scope.equations.append("S = V - R >= threshold")
    return f"{v} - {r} >= {threshold}"


def _estimated(scope: Layer, estimator: Estimator, e: str, v: str) -> tuple[str, int]:
    """S', and the largest it can be."""
    if isinstance(estimator, Raw):
        scope.equations.append(f"S' = {e.upper()}")
        return e, STATE_MAX
    if isinstance(estimator, Table):
        return _from_table(scope, estimator, e, v)
    return _levels(scope, estimator, e)


def _from_table(scope: Layer, table: Table, e: str, v: str) -> tuple[str, int]:
    """Three loops: only the look into the table cannot be a vector instruction."""
    slope, shift = scope.of_channel(table.coefficient, "slope"), scope.of_channel(table.shift, "slope_shift")
    argument = scope.use("argument" if int(table.shift.min()) >= _SHORT_SHIFT else "argument_wide")
    scope.equations.append(f"S' = sigmoid of slope {e.upper()} / 2^slope_shift, from a table")
    scope.looks_up = True
    scope.before.append("int16_t *restrict const estimate = w->estimates;")
    scope.lines += [f"{scope.room} = {v};", f"estimate[i] = (int16_t){argument}({e}, {slope}, {shift});"]
    scope.next_loop()
    scope.lines.append(f"estimate[i] = (int16_t){scope.use('sigmoid')}(estimate[i]);")
    scope.next_loop()
    scope.lines += [f"const int32_t {v} = (int32_t){scope.room};", "const int32_t spike = estimate[i];"]
    return "spike", 4096


def _levels(scope: Layer, levels: Levels, e: str) -> tuple[str, int]:
    scope.equations.append(f"S' = values[how many levels {e.upper()} reaches]")
    count, channels = levels.thresholds.shape
    values = scope.constant(levels.values, "values")
    if not count:
        scope.lines += [f"(void){e};", f"const int32_t spike = {values}[0];"]
        return "spike", int(np.abs(levels.values).max())
    name = scope.constant(levels.thresholds, "levels")
    at = "k" if channels == 1 else f"k * {channels} + {'i' if scope.size == scope.channels else 'c'}"
    scope.lines += [
        "int32_t reached = 0;",
        f"for (int32_t k = 0; k < {count}; k++) {{",
        f"    reached += {e} >= {name}[{at}];",
        "}",
        f"const int32_t spike = {values}[reached];",
    ]
    return "spike", int(np.abs(levels.values).max())


def _reset(scope: Layer, reset: Reset, spike: str, largest: int) -> str:
    coefficient = scope.of_channel(reset.coefficient, "reset")
    shift = scope.of_channel(reset.shift, "reset_shift")
    wide = largest * int(np.abs(reset.coefficient).max()) >= 2**31 or int(reset.shift.max()) > 30
    q = f"{scope.use('shifted_wide' if wide else 'shifted')}"
    product = f"(int64_t){spike} * {coefficient}" if wide else f"{spike} * {coefficient}"
    scope.equations.append("Q = saturate(reset S' / 2^reset_shift)")
    scope.lines.append(f"const int32_t q = {q}({product}, {shift});")
    if reset.operator is not None:
        return write_operator(scope, reset.operator, "R", "q")
    assert reset.decay is not None
    state = f"{scope.state('R')}[i]"
    scope.equations.append(f"R as it was, then R = {share(reset.decay)}saturate(R + Q)")
    scope.lines += [
        f"const int32_t r = {state};",
        f"{state} = {scope.multiply(scope.saturate('r + q'), reset.decay)};",
    ]
    return "r"


_RULES: dict[type, Callable[[Layer, Any], str]] = {PSU: _psu, LIF: _lif, Cuba: _cuba, Relay: _relay}
"""Kind -> rule."""
