"""Every decision of a run held against what any runtime may be off by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.machine.inputs import check_horizon, check_sequence, check_static
from psu_deploy.numerics.checks import is_whole
from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.portable.cases import settled
from psu_deploy.verify.portable.certificate import MOST_LISTED, LayerCertificate, PortableCertificate
from psu_deploy.verify.portable.walk import Decided
from psu_deploy.verify.rounding import check_kinds


def certify(machine: StateMachine, x: Any, *, cases: int = 16) -> PortableCertificate:
    """Certify the spikes of a machine on some inputs, for every runtime that computes in IEEE-754 binary32.

    A decision is certified where

        |m| > e  or  e = 0,   m = V - R - V_th in exact arithmetic, e >= |m' - m| for the m' of any runtime

    whatever the order of a runtime's sums, with or without fused multiply-add, its sigmoid off by up to 8 u. By
    induction over layers and time every such runtime makes a certified decision alike: what feeds it is either
    certified too, or counts as 0 or 1, whichever is worse. See docs/proof.md for the proof and what it assumes.

    Args:
        machine: the network. A BatchNorm that is left in it may be folded by a runtime or not.
        x: (T, B, *input_shape), float32 or float64, numpy or torch; of a machine that answers L steps late, with the L
            silent steps it is fed at the end. The run starts from the initial state.
        cases: a decision that is not certain may be a spike or none; so many combinations of these a sample is
            followed into, each a run of its own, and what is the same in all of them is certified. 1 = none.

    Returns:
        Share of certified decisions, the tightest, those that are not, and margins and bounds of all.

    Raises:
        InputError: wrong type, dtype, shape, NaN, or no number of cases.
        HorizonError: more steps than the machine's horizon.
        UnsupportedModelError: naming every layer, operator and estimator whose rounding nothing is known about.

    >>> import numpy as np, psu_deploy as psu
    >>> net = psu.models.DigitsNet("psu", hidden=16).eval()
    >>> machine = psu.to_state_machine(net, input_shape=(8,))
    >>> certificate = psu.certify(machine, np.ones((8, 2, 8), np.float32))
    >>> certificate.decisions
    512
    """
    if not is_whole(cases) or cases < 1:
        raise InputError(f"cases must be a whole number, 1 or more, got {cases!r}")
    check_kinds(machine)
    check_sequence(x, machine.input_shape, machine.horizon, ("float32", "float64"))
    check_horizon(0, machine.horizon, len(x))
    if machine.static_input:
        check_static(x)
    values: Any = np.ascontiguousarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    found, counts = settled(machine, torch.from_numpy(values), cases)
    layers = tuple(_layer(name, one, machine.starts[name]) for name, one in found.items())
    listed = tuple(islice(merge(*map(_knife_edges, layers), key=lambda one: one.t), MOST_LISTED))
    hashed = hashlib.sha256(values.tobytes()).hexdigest()
    return PortableCertificate(machine.content_hash, hashed, values.shape, cases, counts, layers, listed)


def _layer(name: str, decided: Decided, first: int) -> LayerCertificate:
    if not len(decided.margin):
        return LayerCertificate(name, 0, 0, None, 0.0, first=first)
    margin, bound = (_padded(part, first) for part in decided)
    certified = (np.abs(margin) > bound) | (bound == 0)
    certified[:first] = True
    own = certified[first:]
    count = int(own.sum())
    tightest = None
    if count:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(own & (bound[first:] > 0), np.abs(margin[first:]) / bound[first:], np.inf)
        t, sample, *neuron = np.unravel_index(int(share.argmin()), share.shape)
        tightest = _decision(name, margin, bound, (int(t) + first, int(sample), *map(int, neuron)))
    largest = float(bound[first:][own].max(initial=0.0))
    return LayerCertificate(name, own.size, count, tightest, largest, margin, bound, certified, first)


def _padded(rows: Tensor, first: int) -> Any:
    """Steps before a layer's first decision are zero: it decides nothing there."""
    values = rows.numpy()
    return np.concatenate([np.zeros((first, *values.shape[1:])), values])


def _knife_edges(layer: LayerCertificate) -> Iterator[Decision]:
    if layer.margin is None or layer.bound is None or layer.certified is None:
        return
    for place in np.argwhere(~layer.certified)[:MOST_LISTED].tolist():
        yield _decision(layer.name, layer.margin, layer.bound, tuple(place))


def _decision(name: str, margin: Any, bound: Any, place: tuple[int, ...]) -> Decision:
    t, sample, *neuron = place
    return Decision(name, t, sample, tuple(neuron), float(margin[place]), float(bound[place]))
