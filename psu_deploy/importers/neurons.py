"""One neuron layer of a checkpoint -> our neuron.

Which neuron it is follows from the keys it has, as far as they tell, and from what the training script or the caller
says. The matrices m1 and m2 of the PSU code are taken as they were saved, never made anew, and must have the form

    m1[i, j] = a**(i - j + 1) for i >= j,    m2[i, j] = -c * a**(i - j) for i > j,    a = 1/tau

(c is the threshold for PSU and 1 for IPSU, PPSU and RPSU). Source: the code behind arXiv 2402.00449 and 2304.12760.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.importers.settings import Settings
from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PPSU, PSN, PSU, RPSU, SPSN, MaskedPSN, SlidingPSN

_ROUNDING = 1e-5
"""Relative: the powers were computed in float32, one rounding per factor."""

Parts = Mapping[str, Tensor]
"""Suffix of a key behind the neuron's path -> tensor."""


@dataclass(frozen=True)
class Family:
    """Neurons whose checkpoints have the same keys.

    Args:
        keys: what they have, the surrogate's `act_fun.alpha` left out.
        kinds: which neurons it can be.
        fire_on: "" where the script's surrogate decides.
    """

    keys: frozenset[str]
    kinds: tuple[str, ...]
    fire_on: str = ""


def _family(keys: str, *kinds: str, fire_on: str = "") -> Family:
    return Family(frozenset(keys.split()), kinds, fire_on)


FAMILIES = (
    _family("threshold m1 m2", "psu"),
    _family("threshold m1", "spsn"),
    _family("threshold m1 m2 mask0 fc.weight fc.bias", "ipsu", "ppsu", "rpsu"),
    _family("threshold mask0 fc.weight fc.bias", "masked_psn"),
    _family("threshold fc.weight fc.bias", "psn"),
    _family("threshold", "lif_soft", "lif_hard"),
    _family("threshold w", "plif_soft", "plif_hard"),
    _family("fc.weight fc.bias", "psn", fire_on=">="),
    _family("fc.weight fc.bias fc.mask0 fc.mask1", "masked_psn", fire_on=">="),
    _family("weight threshold", "sliding_psn", fire_on=">="),
    _family("weight bias", "psn", "sliding_psn", fire_on=">="),
    _family("weight bias _lambda_ mask0 mask1", "masked_psn", fire_on=">="),
    _family("w", "plif_soft", "plif_hard", fire_on=">="),
    _family("", "lif_soft", "lif_hard", fire_on=">="),
)
"""The first seven are BrainCog's, the next three those of the PSN authors, the last four SpikingJelly's."""


def read_neuron(path: str, parts: Parts, kind: str, settings: Settings) -> nn.Module:
    """Make our neuron of the tensors of theirs.

    Args:
        path: of the layer in their network, for messages.
        parts: its tensors.
        kind: a key of `_READERS`.
        settings: what the script and the caller say besides.

    Raises:
        InputError: if the tensors contradict each other or the kind.
    """
    try:
        neuron = _READERS[kind](parts, settings)
        if isinstance(neuron, PSU | IPSU | PPSU | RPSU | SPSN):
            settings.agrees("tau", neuron.tau)
        if "threshold" in parts and kind != "sliding_psn":
            settings.agrees("threshold", _threshold(parts))
        return neuron
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


_AXES = {
    "threshold": (0,),
    "act_fun.alpha": (0,),
    "_lambda_": (0,),
    "w": (0,),
    **dict.fromkeys(("m1", "m2", "mask0", "mask1", "fc.weight", "fc.mask0", "fc.mask1"), (2,)),
    "fc.bias": (1,),
    "weight": (1, 2, 3),
    "bias": (0, 1, 2),
}
"""Key -> how many axes its tensor can have; a single number may also be a tensor of one entry."""


def check_axes(path: str, parts: Parts) -> None:
    """Raise `InputError` if a tensor of a neuron has a shape that no such neuron has."""
    for key, value in parts.items():
        axes = _AXES.get(key)
        if axes is None:
            continue
        single = axes == (0,) and value.numel() == 1
        square = axes != (2,) or (value.ndim == 2 and value.shape[0] == value.shape[1])
        window = value.ndim != 3 or tuple(value.shape[:2]) == (1, 1)
        if value.numel() == 0 or not (single or (value.ndim in axes and square and window)):
            raise InputError(f"{path}: {key} has shape {tuple(value.shape)}, which no neuron has")


def family_of(parts: Parts) -> Family | None:
    """What neurons these tensors can belong to; None if there is no such neuron."""
    keys = frozenset(parts) - {"act_fun.alpha"}
    found = next((family for family in FAMILIES if family.keys == keys), None)
    if found is not None and found.kinds == ("psn", "sliding_psn"):
        return Family(found.keys, ("psn" if parts["weight"].ndim == 2 else "sliding_psn",), found.fire_on)
    return found


def steps_of(parts: Parts) -> int | None:
    """T, if the tensors have a T x T matrix."""
    for key in ("m1", "fc.weight", "weight"):
        if key in parts and parts[key].ndim == 2:
            return len(parts[key])
    return None


def last_bias_is_untrained(parts: Parts) -> bool | None:
    """Whether the last bias is exactly zero while others are not. None if no bias was trained, or there is none."""
    bias = parts.get("fc.bias")
    if bias is None or len(bias) < 2 or not bool(bias.any()):
        return None
    return not bool(bias[-1])


def _psu(parts: Parts, settings: Settings) -> nn.Module:
    decay, reset_gain = _leaks(parts)
    threshold = _threshold(parts)
    gain = threshold if reset_gain is None else reset_gain
    return PSU(
        1 / decay,
        threshold,
        decay=decay,
        gain=decay,
        reset_gain=gain,
        fire_on=settings.fire_on,
        surrogate=settings.surrogate(parts),
    )


def _spsn(parts: Parts, settings: Settings) -> nn.Module:
    decay, _ = _leaks(parts)
    return SPSN(1 / decay, decay=decay, gain=decay)


def _learned(make: Callable[..., nn.Module], role: str) -> Callable[[Parts, Settings], nn.Module]:
    def read(parts: Parts, settings: Settings) -> nn.Module:
        decay, reset_gain = _leaks(parts)
        if reset_gain is not None and abs(reset_gain - 1.0) > _ROUNDING:
            raise InputError(f"m2 is scaled by {reset_gain:g}, but only PSU scales its reset; is this another neuron?")
        neuron = make(
            len(parts["m1"]),
            1 / decay,
            _threshold(parts),
            decay=decay,
            gain=decay,
            bias=True,
            init="kaiming",
            reset_gain=1.0,
            fire_on=settings.fire_on,
            surrogate=settings.surrogate(parts),
        )
        getattr(neuron, role).set_matrix(*_masked(parts))
        return neuron

    return read


def _ipsu(*arguments: object, **options: object) -> nn.Module:
    return IPSU(*arguments, reset_input="current", **options)  # type: ignore[arg-type]


def _masked(parts: Parts) -> tuple[Tensor, Tensor]:
    """W without the entries above the diagonal, which are saved but never used, and the bias."""
    steps = len(parts["fc.bias"])
    _check_shapes(parts, steps, "fc.weight", "mask0")
    if "mask0" in parts and not torch.equal(parts["mask0"], torch.ones(steps, steps).tril()):
        raise InputError("mask0 is not the lower triangle, so its rows look at other steps than the neuron's equation")
    return parts["fc.weight"].tril(), parts["fc.bias"]


def _leaks(parts: Parts) -> tuple[float, float | None]:
    """a, and c (None where there is no second step to tell), both checked against the closed form."""
    m1 = parts["m1"].double()
    steps = len(m1)
    _check_shapes(parts, steps, "m1", "m2")
    decay = float(m1[0, 0])
    if not 0.0 < decay <= 1.0:
        raise InputError(f"m1[0, 0] = {decay:g} is not 1/tau of a time constant of one step or more")
    lag = torch.arange(steps)[:, None] - torch.arange(steps)[None, :]
    powers = torch.where(lag >= 0, decay ** lag.clamp(min=0).double(), 0.0)
    _check_form("m1", m1, decay * powers, "a**(i - j + 1)")
    if "m2" not in parts or steps == 1:
        return decay, None
    m2 = parts["m2"].double()
    scale = -float(m2[1, 0]) / decay
    _check_form("m2", m2, -scale * powers.tril(-1), "-c * a**(i - j)")
    return decay, scale


def _check_form(name: str, found: Tensor, expected: Tensor, form: str) -> None:
    tolerance = _ROUNDING * expected.abs() + torch.finfo(torch.float32).tiny
    if bool(((found - expected).abs() > tolerance).any()):
        raise InputError(f"{name} is not {form} with a = m1[0, 0]: the neuron was changed, or saved in half precision")


def _check_shapes(parts: Parts, steps: int, *names: str) -> None:
    for name in names:
        if name in parts and tuple(parts[name].shape) != (steps, steps):
            raise InputError(f"{name} has shape {tuple(parts[name].shape)}, expected {(steps, steps)}")


def _threshold(parts: Parts) -> float:
    if parts["threshold"].numel() != 1:
        raise InputError(f"threshold has shape {tuple(parts['threshold'].shape)}, expected one number")
    return float(parts["threshold"])


def _psn(parts: Parts, settings: Settings) -> nn.Module:
    weight, bias = _matrix(parts)
    neuron = PSN(len(weight), fire_on=settings.fire_on, surrogate=settings.surrogate(parts))
    with torch.no_grad():
        neuron.weight.copy_(weight)
        neuron.step_bias.copy_(bias)
    return neuron


def _masked_psn(parts: Parts, settings: Settings) -> nn.Module:
    weight, bias = _matrix(parts)
    mask = next((parts[key] for key in ("mask0", "fc.mask0") if key in parts), None)
    order = len(weight) if mask is None else int(mask[:, 0].sum())
    if mask is not None and not torch.equal(mask, torch.ones_like(weight).tril().triu(1 - order)):
        raise InputError("mask0 is not a band below the diagonal, so it is no masked PSN of some order k")
    if "_lambda_" in parts:
        lambda_ = min(float(parts["_lambda_"]), 1.0)
    else:
        lambda_ = settings.masking() if "fc.mask1" in parts else 1.0
    neuron = MaskedPSN(len(weight), order, lambda_, fire_on=settings.fire_on, surrogate=settings.surrogate(parts))
    neuron.integrate.set_matrix(weight, bias)
    return neuron


def _sliding_psn(parts: Parts, settings: Settings) -> nn.Module:
    # The matrix form adds its "threshold", which is a bias; the convolution form, known by its shape, subtracts it.
    convolved = parts["weight"].ndim == 3
    bias = parts["bias"] if "bias" in parts else parts["threshold"] * (-1 if convolved else 1)
    newest_first = parts["weight"].flatten().flip(0)
    neuron = SlidingPSN(len(newest_first), fire_on=settings.fire_on, surrogate=settings.surrogate(parts))
    window = neuron.integrate
    assert window.step_bias is not None
    with torch.no_grad():
        window.weight.copy_(newest_first)
        window.step_bias.copy_(bias)
    return neuron


def _matrix(parts: Parts) -> tuple[Tensor, Tensor]:
    weight = parts["fc.weight"] if "fc.weight" in parts else parts["weight"]
    bias = (parts["fc.bias"] if "fc.bias" in parts else parts["bias"]).flatten()
    if tuple(weight.shape) != (len(bias), len(bias)):
        raise InputError(f"the matrix has shape {tuple(weight.shape)}, expected {(len(bias), len(bias))}")
    return weight, bias


def _lif(kind: str, reset: str) -> Callable[[Parts, Settings], nn.Module]:
    def read(parts: Parts, settings: Settings) -> nn.Module:
        threshold = _threshold(parts) if "threshold" in parts else settings.number("threshold")
        options = {"reset": reset, "detach_reset": True, "fire_on": settings.fire_on}
        if kind == "lif":
            return LIF(settings.number("tau"), threshold, surrogate=settings.surrogate(parts), **options)  # type: ignore[arg-type]
        neuron = PLIF(2.0, threshold, surrogate=settings.surrogate(parts), **options)  # type: ignore[arg-type]
        with torch.no_grad():
            neuron.w.copy_(parts["w"].reshape(()))
        return neuron

    return read


_READERS: dict[str, Callable[[Parts, Settings], nn.Module]] = {
    "psu": _psu,
    "ipsu": _learned(_ipsu, "integrate"),
    "ppsu": _learned(PPSU, "integrate"),
    "rpsu": _learned(RPSU, "estimate"),
    "spsn": _spsn,
    "psn": _psn,
    "masked_psn": _masked_psn,
    "sliding_psn": _sliding_psn,
    "lif_soft": _lif("lif", "soft"),
    "lif_hard": _lif("lif", "hard"),
    "plif_soft": _lif("plif", "soft"),
    "plif_hard": _lif("plif", "hard"),
}
"""Kind -> what makes our neuron."""

KINDS = tuple(_READERS)
"""Every neuron that can be imported, as the caller may name it."""
