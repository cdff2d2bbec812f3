"""psu.centre_thresholds: look at every decision, move what can move, and hold the result against what was."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor, nn

from psu_deploy.centring.check import Network, check_exact, first_changed, unlike
from psu_deploy.centring.decisions import Decisions, decisions_of
from psu_deploy.centring.gap import best_in, worse
from psu_deploy.centring.report import CentredLayer, CentringReport
from psu_deploy.centring.thresholds import Threshold, machine_with, module_with, spread, thresholds_of
from psu_deploy.errors import InputError
from psu_deploy.forms import starts_of
from psu_deploy.given import Converters, features_of, machine_of, numpy_for
from psu_deploy.machine import StateMachine
from psu_deploy.machine.inputs import check_finite, check_sequence

Model = TypeVar("Model", bound=nn.Module | StateMachine)


def centre_thresholds(model: Model, x: Any, *, converters: Converters | None = None) -> tuple[Model, CentringReport]:
    """Move every firing threshold into the middle of its gap, so that rounding turns as few spikes as can be.

    A neuron fires where `V - R >= V_th` (or `>`). Of all decisions on x, in exact arithmetic, let

        a = max (V - R) over those that did not fire,   b = min (V - R) over those that did,   a < b

    Any threshold between a and b gives the same spikes on x, in exact arithmetic. A decision that lies nearer to it
    than float32 rounding can move its margin is a *knife edge*. V_th moves to the middle, `(a + b)/2` in float32, or,
    where another place between a and b is a knife edge for fewer decisions, to that.

    V_th moves alone: the reset R keeps its gain, though V_th was what it was made of. So V and R of every layer stay
    what they are, and with the spikes all layers behind it. Where V_th is more than what is compared, as in LIF with a
    soft reset, it stays. So it does where a layer never or always fired on x, and where no place is better.

    Afterwards spikes and outputs on x are held against those before. In exact arithmetic they are the same, bit for
    bit. A run in the model's own precision may change only where rounding had turned a decision before, and what it
    decides there is then what exact arithmetic does; outputs follow. The report counts such spikes and outputs. A
    threshold that would change another spike is given back. Nothing is promised about other data, nor is accuracy on
    them looked at: give as much of it as you have. A layer has one threshold for all of its neurons, so the more
    decisions there are, the narrower is its gap. A `state_dict` does not hold thresholds: keep the machine
    (`psu_deploy.to_state_machine(centred, shape).save(path)`).

    Args:
        model: a module with neurons of this package, or a machine. Stays as it is.
        x: input, (T, B, *input_shape), numpy or torch, or an iterable of such batches; taken as float32.
        converters: for layers of your own in a module; see `psu_deploy.to_state_machine`.

    Returns:
        A copy with its thresholds moved, of the same kind, and what was moved, with margins and knife edges before
        and after; printed, a table.

    Raises:
        InputError: if x does not fit, or there is no neuron layer.
        HorizonError: if x has more steps than the network is defined for.
        UnsupportedModelError: if the module cannot be captured, or holds something whose rounding is not known.
        InternalError: if a spike or an output on x is another in exact arithmetic.

    >>> import numpy as np
    >>> from psu_deploy.machine import Node, StateMachine, ops
    >>> fire = ops.SpikingNeuron(ops.Identity(), None, ops.Sigmoid(), None, 1.0, ">=")
    >>> machine = StateMachine((Node("n", fire, ("x",)),), (1,))
    >>> x = np.array([0.25, 1.0, 2.0], np.float32).reshape(3, 1, 1)  # 1.0 lies exactly on the threshold
    >>> centred, report = centre_thresholds(machine, x)
    >>> centred.nodes[0].layer.threshold, report.knife_edges, report.knife_edges_centred
    (0.625, 1, 0)
    """
    batches = _batches(x)
    features = None if isinstance(model, StateMachine) else features_of(batches[0])
    before = Network(model, machine_of(model, features, converters))
    machine = before.machine
    if not machine.spiking:
        raise InputError("there is no neuron layer in this network, so there is no threshold to centre")
    parts = [part for batch in batches for part in _parts(machine, _fitting(machine, numpy_for(batch, model)))]
    return cast(tuple[Model, CentringReport], _centred(before, parts))


def _centred(before: Network, parts: list[Any]) -> tuple[nn.Module | StateMachine, CentringReport]:
    thresholds = thresholds_of(before.model, before.machine)
    old = decisions_of(before.machine, parts)
    reasons = {threshold: threshold.reason for threshold in thresholds}
    moved: dict[Threshold, float] = {}
    for threshold in thresholds:
        if not threshold.reason:
            at, reasons[threshold] = best_in(_all(old, threshold))
            moved |= {} if at is None else {threshold: at}
    new = decisions_of(machine_with(before.machine, spread(moved)), parts)
    for threshold in list(moved):
        reasons[threshold] = worse(_all(old, threshold), _all(new, threshold))
        if reasons[threshold]:
            del moved[threshold]
    after, counts = _held(before, moved, reasons, parts)
    rows = {name: row for threshold in thresholds for name, row in _rows(threshold, before, after, reasons, old, new)}
    return after.model, CentringReport(tuple(rows[name] for name in before.machine.spiking), *counts)


def _all(found: dict[str, Decisions], threshold: Threshold) -> Decisions:
    """Of all layers that share a threshold."""
    return reduce(add, (found[name] for name in threshold.layers))


def _held(
    before: Network, moved: dict[Threshold, float], reasons: dict[Threshold, str], parts: list[Any]
) -> tuple[Network, tuple[int, ...]]:
    """The network with what could be moved, and what its own precision did; see `_compared`.

    Exact arithmetic leaves no doubt. A gap that is narrower than rounding may still turn a spike in the model's own
    precision that was right by luck: its threshold is given back.
    """
    while True:
        after = _moved(before, spread(moved))
        counts, changed = _compared(before, after, parts)
        if changed is None:
            return after, counts
        order = list(before.machine.spiking)
        suspects = [t for t in moved if order.index(t.layers[0]) <= order.index(changed)] or list(moved)
        del moved[suspects[-1]]
        reasons[suspects[-1]] = "its gap is narrower than rounding: in the model's own precision a spike would change"


def _compared(before: Network, after: Network, parts: list[Any]) -> tuple[tuple[int, ...], str | None]:
    """Decisions that precision turned before and after; spikes and outputs that are others in it; a layer to undo."""
    totals = np.zeros(4, np.int64)
    for x in parts:
        exact = check_exact(before.machine, after.machine, x)
        (old, outputs), (new, outputs_now) = before.run(x), after.run(x)
        totals += unlike(exact, old), unlike(exact, new), unlike(old, new), unlike(outputs, outputs_now)
        changed = first_changed(exact, old, new)
        if changed is not None:
            return (), changed
    return tuple(totals.tolist()), None


def _moved(before: Network, thresholds: dict[str, float]) -> Network:
    machine = machine_with(before.machine, thresholds)
    if isinstance(before.model, StateMachine):
        return Network(machine, machine)
    return Network(module_with(before.model, thresholds), machine)


def _rows(
    threshold: Threshold,
    before: Network,
    after: Network,
    reasons: dict[Threshold, str],
    old: dict[str, Decisions],
    new: dict[str, Decisions],
) -> list[tuple[str, CentredLayer]]:
    """A row for every layer that has this threshold."""
    reason, rows = reasons[threshold], []
    was, is_ = ({node.name: node.layer for node in network.machine.nodes} for network in (before, after))
    for name in threshold.layers:
        then, now = old[name], old[name] if reason else new[name]
        at, to = (float(getattr(layers[name], "threshold", 0.0)) for layers in (was, is_))
        edges = then.knife_edges, now.knife_edges
        rows.append((name, CentredLayer(name, at, to, then.tightest, now.tightest, *edges, now.count, reason)))
    return rows


def _batches(x: Any) -> list[Any]:
    if isinstance(x, np.ndarray | Tensor):
        return [x]
    if not isinstance(x, Iterable) or isinstance(x, str | bytes):
        raise InputError(f"x must be an array (T, B, *features) or an iterable of such, got {type(x).__name__}")
    batches = list(x)
    for index, batch in enumerate(batches):
        if not isinstance(batch, np.ndarray | Tensor):
            raise InputError(f"batch {index} of x must be an array (T, B, *features), got {type(batch).__name__}")
    if not batches:
        raise InputError("x is an iterable without a batch; without data there is no gap to look at")
    return batches


def _fitting(machine: StateMachine, x: Any) -> Any:
    check_sequence(x, machine.input_shape, machine.max_steps, ("float32", "float64"))
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    check_finite(single)
    return single


def _parts(machine: StateMachine, x: Any) -> list[Any]:
    """As many samples at a time as fit into memory."""
    starts = starts_of(machine, x)
    return [x[:, start : start + starts.step] for start in starts]
