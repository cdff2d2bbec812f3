"""Neurons of SpikingJelly -> layers of the state machine, one behind the other.

The machine counts V from the reset potential r and lets it start there, so a neuron becomes up to three layers: a
constant current where its leak does not pull towards r, a current in the first step where V starts elsewhere, and the
neuron itself. Source: spikingjelly 2.0.0, activation_based.neuron.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from psu_deploy.capture.conversion import Chain, Converter, FirstStep, array
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def spiking(module: Any) -> None:
    """Raise `Refusal` if a neuron emits its surrogate instead of spikes."""
    if not getattr(module.surrogate_function, "spiking", True):
        raise Refusal("surrogate_function.spiking=False: it emits no spikes", "train with spiking=True")


def number(module: Any, name: str) -> float:
    """An attribute that is one number for the whole layer."""
    value = getattr(module, name)
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        raise Refusal(f"{name} has {value.numel()} numbers", "use one number for the layer")
    return float(value)


def reset_potential(module: Any) -> float:
    """r; 0 for a soft reset."""
    return 0.0 if module.v_reset is None else number(module, "v_reset")


def start(module: Any) -> float:
    """V before the first step."""
    rest = module._memories_rv["v"]
    if isinstance(rest, torch.Tensor) and not bool((rest == reset_potential(module)).all()):
        raise Refusal("v starts from a tensor of potentials", 'call neuron.set_reset_value("v", one number)')
    return reset_potential(module) if isinstance(rest, torch.Tensor) else float(rest)


def time_constant(module: Any) -> tuple[float | None, bool]:
    """tau and decay_input of IF, LIF and ParametricLIF: 1/tau = sigmoid(w)."""
    if hasattr(module, "w"):
        return 1.0 + float(torch.tensor(-number(module, "w"), dtype=torch.float64).exp()), bool(module.decay_input)
    return (number(module, "tau"), bool(module.decay_input)) if hasattr(module, "tau") else (None, False)


def never_fires(module: Any) -> bool:
    """Whether a neuron is there for its membrane: its threshold is out of reach."""
    threshold = getattr(module, "v_threshold", None)
    return isinstance(threshold, float) and threshold == float("inf")


def remember_potentials(module: Any) -> None:
    """Let a neuron that never fires keep its potential of every step, where a network may read it."""
    if never_fires(module) and hasattr(module, "store_v_seq") and module.step_mode == "m":
        module.store_v_seq = True


def _leaky(module: Any, features: Shape) -> Chain:
    """IF, LIF, ParametricLIF and those that differ from them in training only."""
    spiking(module)
    if never_fires(module):
        return _leak_to_rest(module, features)
    threshold = number(module, "v_threshold") - reset_potential(module)
    neuron = ops.LIFNeuron(*time_constant(module), threshold, _kind(module), ">=")
    return _starting_from(start(module) - reset_potential(module), neuron)


def _leak_to_rest(module: Any, features: Shape) -> Chain:
    """The potential of a neuron that never fires: a leak, counted from r."""
    if module.v_reset is None:
        raise Refusal("never fires, and takes 0 * inf from its potential: no number is left", "use v_reset=0.0")
    tau, decay_input = time_constant(module)
    share = 0.0 if tau is None else 1.0 / tau
    reset = reset_potential(module)
    if start(module) != reset:
        raise Refusal("never fires and starts from another potential than it leaks to", "start from v_reset")
    leak = ops.Filter(ops.Leak(share if decay_input else 1.0, 1.0 - share))
    return (leak, shift(features, 1.0, reset)) if reset else (leak,)


def _kind(module: Any) -> str:
    return "soft" if module.v_reset is None else "hard"


def _starting_from(potential: float, neuron: ops.LIFNeuron) -> Chain:
    """A neuron whose V starts elsewhere: what is left of it after one step comes in with the first current."""
    if potential == 0.0:
        return (neuron,)
    if neuron.tau is None:
        return (FirstStep(potential), neuron)
    left = potential * (neuron.tau - 1.0)
    return (FirstStep(left if neuron.decay_input else left / neuron.tau), neuron)


def _cuba(module: Any, features: Shape) -> Chain:
    """c = c_decay c + x, v = v_decay v + c: the leak pulls towards 0, not towards r."""
    spiking(module)
    reset, decay = reset_potential(module), number(module, "v_decay")
    if not 0.0 <= decay <= 1.0:
        raise Refusal(f"v_decay = {decay:g} is no leak", "use 0 .. 1")
    tau = None if decay == 1.0 else 1.0 / (1.0 - decay)
    pull = reset * (1.0 - decay)
    constant = (shift(features, 1.0, -pull),) if pull else ()
    neuron = ops.LIFNeuron(tau, False, number(module, "v_threshold") - reset, _kind(module), ">=")
    begin = start(module) if hasattr(module, "_memories_rv") else reset
    return (ops.Filter(ops.Leak(1.0, number(module, "c_decay"))), *constant, *_starting_from(begin - reset, neuron))


def shift(features: Shape, scale: Any, offset: Any) -> ops.ChannelAffine:
    """scale x + offset; a number, or one for every channel."""
    if not features:
        raise Refusal("has no features", "keep one feature axis")
    return ops.ChannelAffine(np.broadcast_to(scale, features[0]).copy(), np.broadcast_to(offset, features[0]).copy())


def _dsr_if(module: Any, features: Shape) -> Chain:
    """Fires at alpha theta, is reset by theta and emits theta: U = V + (1 - alpha) theta fires at theta."""
    threshold = _dsr_threshold(module)
    neuron = ops.LIFNeuron(None, False, threshold, "soft", ">=")
    above = (1.0 - float(module.alpha)) * threshold
    return (*_starting_from(above, neuron), shift(features, threshold, 0.0))


def _dsr_lif(module: Any, features: Shape) -> Chain:
    """Likewise; what V is above U leaks away too, so a constant current holds it."""
    threshold, step = _dsr_threshold(module), float(module.delta_t)
    neuron = ops.LIFNeuron(-1.0 / np.expm1(-step / float(module.tau)), True, threshold, "soft", ">=")
    above = (1.0 - float(module.alpha)) * threshold
    held = (shift(features, 1.0, above),) if above else ()
    return (*held, *_starting_from(above, neuron), shift(features, threshold / step, 0.0))


def _dsr_threshold(module: Any) -> float:
    return max(number(module, "v_threshold"), float(module.v_threshold_lower_bound))


def _activation_aware(module: Any, features: Shape) -> Chain:
    """Fires where V + offset reaches the threshold."""
    spiking(module)
    reset, offset = reset_potential(module), number(module, "v_offset")
    threshold = number(module, "v_threshold")
    if module.v_reset is None:  # a soft reset takes the threshold: U = V + offset
        return _starting_from(start(module) + offset, ops.LIFNeuron(None, False, threshold, "soft", ">="))
    neuron = ops.LIFNeuron(None, False, threshold - offset - reset, "hard", ">=")
    return _starting_from(start(module) - reset, neuron)


def _mpbn(module: Any, features: Shape) -> Chain:
    """With its norm folded into the thresholds: one per channel, which the current is divided by."""
    if type(module.vbn).__name__ != "Identity":
        raise Refusal("normalises its membrane in every step", "call neuron.re_parameterize_v_threshold()")
    if module.normalize_residual:
        raise Refusal("normalises what is left of its membrane in every step", "use normalize_residual=False")
    if not (module.fold_bn or module.learnable_vth):
        return _leaky(module, features)
    spiking(module)
    if module.v_reset is None:
        raise Refusal("is reset by another potential than it fires at", "use v_reset=0.0")
    reset = reset_potential(module)
    thresholds = _mpbn_thresholds(module) - reset
    if not (thresholds > 0).all():
        raise Refusal("fires below its reset potential in some channels", "use thresholds above v_reset")
    if start(module) != reset:
        raise Refusal("starts from another potential than it is reset to", "start from v_reset")
    neuron = ops.LIFNeuron(number(module, "tau"), bool(module.decay_input), 1.0, "hard", ">=")
    return (shift(features, 1.0 / thresholds, 0.0), neuron)


def _mpbn_thresholds(module: Any) -> Any:
    if module.learnable_vth:
        return np.exp(array(module.a))
    scale = np.sqrt(array(module.sigma2) + module.eps) / array(module.gamma)
    plain = module.v_threshold if not isinstance(module.v_threshold, torch.Tensor) else array(module.v_threshold)
    return (plain - array(module.beta)) * scale + array(module.mu)


def _masked_psn(module: Any, features: Shape) -> Chain:
    spiking(module)
    if float(module.lambda_) < 1.0:
        reason = f"lambda_ = {float(module.lambda_):g} < 1: rows still look ahead"
        raise Refusal(reason, "finish masking: lambda_ = 1.0")
    matrix, steps = array(module.masked_weight()), int(module.T)
    columns = np.zeros((steps, min(int(module.k), steps)))
    for lag in range(columns.shape[1]):
        columns[: steps - lag, lag] = np.diagonal(matrix, -lag)
    return (_summing(ops.Window(columns, array(module.bias)[:, 0], time_invariant=False)),)


def _sliding_psn(module: Any, features: Shape) -> Chain:
    spiking(module)
    newest_first = array(module.weight)[::-1]
    return (_summing(ops.Window(newest_first[None], array(module.bias)[None], time_invariant=True)),)


def _summing(window: ops.Window) -> ops.SpikingNeuron:
    return ops.SpikingNeuron(window, None, ops.RawCurrent(), None, 0.0, ">=")


_DECODERS = {"max-mem": "max", "mean-mem": "mean"}
"""How a membrane that never fires is read out -> kind of readout."""


def _membrane(module: Any, features: Shape, last: str = "last_mem") -> Chain:
    """NonSpikingIF, NonSpikingLIF: the potential itself, at every step or read out."""
    if module.decode == "max-abs-mem":
        raise Refusal("decode='max-abs-mem' keeps two extremes and takes the larger", "use decode='max-mem'")
    tau = float(getattr(module, "tau", "inf"))
    leak = ops.Filter(ops.Leak(1.0 / tau if hasattr(module, "tau") else 1.0, 1.0 - 1.0 / tau))
    kind = (_DECODERS | {last: "last"}).get(module.decode)
    return (leak,) if kind is None else (leak, ops.Readout(kind))


def _noisy_membrane(module: Any, features: Shape) -> Chain:
    return _membrane(module, features, "last-me")


NEURONS: dict[str, Converter] = {
    "neuron.IFNode": _leaky,
    "neuron.SimpleIFNode": _leaky,
    "neuron.HalfThresholdIFNode": _leaky,
    "neuron.LIFNode": _leaky,
    "neuron.SimpleLIFNode": _leaky,
    "neuron.OTTTLIFNode": _leaky,
    "neuron.SLTTLIFNode": _leaky,
    "neuron.ParametricLIFNode": _leaky,
    "model.save_v_LIFNode": _leaky,  # remembers how far it was from its threshold
    "neuron.CUBALIFNode": _cuba,
    "neuron.NoisyCUBALIFNode": _cuba,
    "neuron.DSRIFNode": _dsr_if,
    "neuron.DSRLIFNode": _dsr_lif,
    "neuron.ActivationAwareIFNode": _activation_aware,
    "neuron.MPBNLIFNode": _mpbn,
    "neuron.MaskedPSN": _masked_psn,
    "neuron.SlidingPSN": _sliding_psn,
    "neuron.NonSpikingIFNode": _membrane,
    "neuron.NonSpikingLIFNode": _membrane,
    "neuron.NoisyNonSpikingIFNode": _noisy_membrane,
}
"""Name -> converter."""
