"""What of SpikingJelly has no serial form, and why."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture.spikingjelly.names import name_of
from psu_deploy.errors import Refusal

_NEURON = "use IFNode, LIFNode, ParametricLIFNode, MaskedPSN or SlidingPSN"
_COUNTS = "emits counts: a spike is 0 or 1 here"
_NEGATIVE = "emits spikes of -1 too: a spike is 0 or 1 here"
_NOT_CAUSAL = "not causal: step t needs inputs of later steps, so there is no serial form"
_SPREAD = "codes the sum of its whole input in the steps to come, so its first step needs the last input"
_FEEDBACK = "feeds its spikes back into its own layer through a convolution"
_TIME_ATTENTION = "attends over time: the weight of a step is computed from all steps, later ones too"
_EVERY_STEP = ("scales every time step differently", "train with BatchNorm or ThresholdDependentBatchNorm")
_OUTPUT_BACK = ("feeds its output back into its input", "use layers without a loop around them")

REFUSED = {
    "neuron.PSN": (_NOT_CAUSAL, "train with MaskedPSN or SlidingPSN"),
    "neuron.QIFNode": ("its membrane is quadratic in V", _NEURON),
    "neuron.EIFNode": ("its membrane is exponential in V", _NEURON),
    "neuron.IzhikevichNode": ("its membrane is quadratic in V, beside a second state that adapts", _NEURON),
    "neuron.KLIFNode": ("its membrane is cut off at 0 in every step: relu(k V)", _NEURON),
    "neuron.LIAFNode": ("emits an activation of its membrane instead of spikes", _NEURON),
    "neuron.ComplementaryLIFNode": (
        "its reset grows with a second memory that its spikes drive",
        _NEURON,
    ),
    "neuron.GatedLIFNode": ("its leak and its reset are mixed anew by every spike, differently in every step", _NEURON),
    "neuron.RAFNode": ("its membrane oscillates: two states drive each other, and a spike resets one", _NEURON),
    "neuron.ILIFNode": (_COUNTS, _NEURON),
    "neuron.TernaryIFNode": (_NEGATIVE, _NEURON),
    "neuron.TernaryLIFNode": (_NEGATIVE, _NEURON),
    "neuron.STBIFNode": (_NEGATIVE, _NEURON),
    "neuron.FewSpikeNode": (_SPREAD, _NEURON),
    "neuron.OutlierAwareThresholdNode": (_SPREAD, _NEURON),
    "neuron.HGNode": (_SPREAD, _NEURON),
    "neuron.FlexSN": ("computes what a Python function says", _NEURON),
    "neuron.ILCIFNode": (_FEEDBACK, _NEURON),
    "neuron.ILCLIFNode": (_FEEDBACK, _NEURON),
    "neuron.ILCCUBALIFNode": (_FEEDBACK, _NEURON),
    "neuron.NoisyILCCUBALIFNode": (_FEEDBACK, _NEURON),
    "layer.SynapseFilter": (
        "its memory leaks only where no spike arrives",
        "use LIFNode",
    ),
    "layer.LinearRecurrentContainer": _OUTPUT_BACK,
    "layer.ElementWiseRecurrentContainer": _OUTPUT_BACK,
    "layer.NeuNorm": ("subtracts a running activity of all channels", "use BatchNorm"),
    "layer.DropConnectLinear": ("draws its weights at random, in eval mode too", "use Linear and Dropout"),
    "layer.SpikeCountToBinary": ("turns one step into several", "let a step stay a step"),
    "layer.TemporalBinSum": ("sums up several steps to one", "let a step stay a step"),
    "layer.TemporalWiseAttention": (_TIME_ATTENTION, "attend within a step"),
    "layer.MultiDimensionalAttention": (_TIME_ATTENTION, "attend within a step"),
    "layer.TLastSeqToANNContainer": ("runs its layers under torch.vmap", "use SeqToANNContainer, time first"),
    **{
        f"layer.{kind}{axes}d": _EVERY_STEP
        for kind in ("TemporalEffectiveBatchNorm", "BatchNormThroughTime")
        for axes in (1, 2, 3)
    },
}
"""Name -> reason and remedy."""


def refusal(module: nn.Module) -> Refusal | None:
    """Why a module of SpikingJelly has no serial form; None for any other."""
    name = name_of(type_of(module))
    if name.startswith("neuron.Noisy") and name not in REFUSED and getattr(module, "is_training", False):
        return Refusal("adds noise to its current and its spikes", "set neuron.is_training = False")
    return Refusal(*REFUSED[name]) if name in REFUSED else None
