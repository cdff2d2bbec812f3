"""The published checkpoints: those of the PSU authors' code, of BrainCog, and of the PSN authors' code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.importers.checkpoint import Checkpoint, read_checkpoint
from psu_deploy.importers.networks import Network, recognise
from psu_deploy.importers.neurons import (
    KINDS,
    Family,
    check_axes,
    family_of,
    last_bias_is_untrained,
    read_neuron,
    steps_of,
)
from psu_deploy.importers.settings import Settings
from psu_deploy.models.neurons import NeuronMaker
from psu_deploy.nn.neurons import PSN, Neuron

_NODE_TYPES = {
    "PSU": "psu",
    "IPSU": "ipsu",
    "PPSU": "ppsu",
    "RPSU": "rpsu",
    "SPSN": "spsn",
    "PSN": "psn",
    "MaskedPSN": "masked_psn",
    "LIFNode": "lif",
    "PLIFNode": "plif",
}
"""`node_type` of the script -> kind; of lif and plif the reset is left open."""

_SELF_FOLDING = ("psu", "ipsu", "rpsu", "spsn", "lif", "plif")
"""Kinds for which the scripts see to it that time and batch are told apart, or that need no such thing."""


def load(
    path: str | Path,
    neuron: str | None = None,
    *,
    tau: float | None = None,
    threshold: float | None = None,
    epochs: int | None = None,
    ema: bool = False,
) -> nn.Module:
    """Load a published checkpoint into the network of ours that computes the same.

    Known networks: CIFARNet (`cifar_convnet`), VGGSNN (`VGG_SNN`, and `VGGPSN` of the PSN authors), SequentialCIFARNet
    (`SeCifarNet`, and `CIFAR10Net` of the PSN authors' sequential CIFAR) and SHDNet (`SHD_SNN`, `FC_SNN`). Which neuron
    it is follows from the arguments saved with it, from its tensors, and from `neuron`; what contradicts is an error,
    what nobody says is a question.

    Args:
        path: the checkpoint (`model_best.pth.tar`).
        neuron: "psu", "ipsu", "ppsu", "rpsu", "spsn", "psn", "masked_psn", "sliding_psn", "lif_soft", "lif_hard",
            "plif_soft" or "plif_hard"; needed where file and tensors cannot tell. IPSU, PPSU and RPSU have the same
            keys; LIF and PLIF reset softly in the PSU authors' code and hard in BrainCog.
        tau: membrane time constant in steps of an LIF network, where the file does not say it.
        threshold: of an LIF network without saved thresholds.
        epochs: of the whole training, for a masked PSN of the PSN authors, whose masking is not saved.
        ema: take the moving average of the weights, where the file has both.

    Returns:
        The network in eval mode. It takes sequences (T, B, ...): see its class for the order of the axes.

    Raises:
        ArtifactError: if the file is damaged, holds objects that are not tensors (nothing is executed), or keys that
            the network does not have.
        InputError: if what is said contradicts itself or leaves something open.
        UnsupportedModelError: if the network cannot be imported.
    """
    if neuron is not None and not isinstance(neuron, str):
        raise InputError(f"neuron must be one of {', '.join(KINDS)}, got {neuron!r}")
    checkpoint = read_checkpoint(path, ema=ema)
    network = recognise(checkpoint)
    given = {"tau": tau, "threshold": threshold, "epochs": epochs}
    settings = Settings(checkpoint.path, checkpoint.args, checkpoint.epoch, given)
    settings.check()
    layers = _layers(checkpoint, network)
    for at, parts in layers.items():
        check_axes(f"{checkpoint.path}: {at}", parts)
    _check_steps(checkpoint, layers)
    family = _family(checkpoint, layers)
    kind = _kind(checkpoint, family, layers, neuron)
    _check_folding(checkpoint, network, kind)
    settings = settings.firing(family.fire_on)
    with torch.random.fork_rng(devices=[]):  # what is drawn before it is overwritten is nobody's business
        torch.manual_seed(0)  # except the seeds of SPSN: the same file gives the same network
        neurons = iter([read_neuron(at, parts, kind, settings) for at, parts in layers.items()])
        return _fill(checkpoint, network, lambda: next(neurons)).eval()


def _layers(checkpoint: Checkpoint, network: Network) -> dict[str, dict[str, Tensor]]:
    """Path of every neuron layer -> its tensors."""
    layers: dict[str, dict[str, Tensor]] = {path: {} for path in network.neurons}
    for key, value in checkpoint.tensors.items():
        for path in network.neurons:
            if key.startswith(f"{path}."):
                layers[path][key.removeprefix(f"{path}.")] = value
    return layers


def _family(checkpoint: Checkpoint, layers: Mapping[str, Mapping[str, Tensor]]) -> Family:
    families = {path: family_of(parts) for path, parts in layers.items()}
    unknown = {path: sorted(layers[path]) for path, family in families.items() if family is None}
    if unknown:
        path, keys = next(iter(unknown.items()))
        raise ArtifactError(
            f"{checkpoint.path}: no known neuron has the keys {', '.join(keys)} (layer {path}"
            f"{' and others' if len(unknown) > 1 else ''}); neurons that can be imported: {', '.join(KINDS)}"
        )
    found = [family for family in families.values() if family is not None]
    if any(family != found[0] for family in found):
        kinds = {path: "/".join(family.kinds) for path, family in families.items() if family is not None}
        raise InputError(f"{checkpoint.path}: its layers hold different neurons: {kinds}")
    return found[0]


def _kind(
    checkpoint: Checkpoint, family: Family, layers: Mapping[str, Mapping[str, Tensor]], neuron: str | None
) -> str:
    """The one kind of neuron that the keys, the biases, the script and the caller agree on."""
    node_type = checkpoint.args.get("node_type")
    confirmed = str(node_type) == "RPSU" and neuron is not None and _asked_for(neuron) == ("rpsu",)
    by_last_bias = family.kinds if confirmed else _by_last_bias(family, layers)
    possible = {"its keys": family.kinds, _LAST_BIASES: by_last_bias}
    if node_type is not None:
        possible[f"node_type={node_type}"] = _matching(_NODE_TYPES.get(str(node_type), ""))
    if neuron is not None:
        possible[f"neuron={neuron!r}"] = _asked_for(neuron)
    kinds = [kind for kind in family.kinds if all(kind in choice for choice in possible.values())]
    if not kinds:
        telling = {
            source: choice for source, choice in possible.items() if choice != family.kinds or source == "its keys"
        }
        sides = "; ".join(f"{source}: {' or '.join(choice) or 'unknown'}" for source, choice in telling.items())
        hint = "; if it is RPSU with biases set by hand, say so with neuron='rpsu'" if str(node_type) == "RPSU" else ""
        raise InputError(f"{checkpoint.path} contradicts itself about its neuron. {sides}{hint}")
    if len(kinds) > 1:
        question = f"{checkpoint.path}: {_question(kinds)}"
        choices = " or ".join(f"neuron={kind!r}" for kind in kinds)
        raise InputError(f"{question} pass {choices}", shell=f"{question} add --neuron {' or '.join(kinds)}")
    return kinds[0]


_LAST_BIASES = "its last biases, which only RPSU never trains and so leaves at exactly zero"


def _by_last_bias(family: Family, layers: Mapping[str, Mapping[str, Tensor]]) -> tuple[str, ...]:
    """The kinds that the last bias of every layer leaves possible: that of RPSU reaches no spike, so it stays zero."""
    if "rpsu" not in family.kinds:
        return family.kinds
    told = [sign for parts in layers.values() if (sign := last_bias_is_untrained(parts)) is not None]
    if not told:
        return family.kinds
    return ("rpsu",) if all(told) else tuple(kind for kind in family.kinds if kind != "rpsu")


def _matching(kind: str) -> tuple[str, ...]:
    """lif is lif_soft or lif_hard; the others are themselves."""
    return tuple(known for known in KINDS if kind in (known, known.removesuffix("_soft"), known.removesuffix("_hard")))


def _asked_for(neuron: str) -> tuple[str, ...]:
    kind = neuron.lower().replace("-", "_")
    found = _matching(kind if kind not in ("lifnode", "plifnode") else kind.removesuffix("node"))
    if not found:
        raise InputError(f"neuron must be one of {', '.join(KINDS)}, got {neuron!r}")
    return found


def _question(kinds: list[str]) -> str:
    """What the file does not tell, and where to look; how to say it comes behind."""
    if set(kinds) <= {"ipsu", "ppsu", "rpsu"}:
        names = " and ".join(kind.upper() for kind in kinds)
        return (
            f"{names} save the same tensors, and the file does not say which it is; look at node_type in "
            "the args.yaml beside it, and"
        )
    return (
        "the file does not say how its neurons reset: softly, as in the code of the PSU authors, or hard, as in "
        "BrainCog;"
    )


def _check_steps(checkpoint: Checkpoint, layers: Mapping[str, Mapping[str, Tensor]]) -> None:
    """All layers have the T that the script was called with."""
    steps = {path: found for path, parts in layers.items() if (found := steps_of(parts)) is not None}
    said = checkpoint.args.get("step")
    said = int(said) if isinstance(said, str) and said.isdigit() else said
    for path, found in steps.items():
        expected = next(iter(steps.values())) if said is None else said
        if found != expected:
            source = "layer " + next(iter(steps)) if said is None else "the script was called with"
            raise InputError(
                f"{checkpoint.path}: layer {path} has matrices for T = {found} steps, but {source} T = {expected}"
                " (the published ResNet18 ignores -T in this way, and mixes the samples of a batch)"
            )


def _check_folding(checkpoint: Checkpoint, network: Network, kind: str) -> None:
    """Only with layer_by_layer do the T x T matrices run over time; the scripts force it, but not for every neuron."""
    if checkpoint.args.get("layer_by_layer", True) or kind.startswith(_SELF_FOLDING):
        return
    if kind == "ppsu" and network.name == "SeCifarNet":
        return
    raise InputError(
        f"{checkpoint.path}: trained with layer_by_layer=False, so the T x T matrices of {kind.upper()} ran over the "
        "samples of a batch, not over time; train again with -lbl"
    )


def _fill(checkpoint: Checkpoint, network: Network, make: NeuronMaker) -> nn.Module:
    """Build the network around the neurons and copy every other parameter, each exactly once."""
    theirs = {
        key: value
        for key, value in checkpoint.tensors.items()
        if not any(key.startswith(f"{path}.") for path in network.neurons)
    }
    try:
        model = network.build(theirs, make)
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ArtifactError(f"{checkpoint.path} is not a whole {network.name}: {error}") from error
    renamed = {network.ours(key): key for key in theirs}
    own = model.state_dict()
    neurons = tuple(f"{name}." for name, module in model.named_modules() if _is_neuron(module))
    expected = {key for key in own if not key.startswith(neurons)}
    counters = {key for key in expected - renamed.keys() if key.endswith("num_batches_tracked")}
    expected -= counters  # of no use once training is over; old files lack them
    unknown = sorted(key for ours, key in renamed.items() if ours not in expected)
    missing = sorted(expected - renamed.keys())
    if unknown or missing:
        raise ArtifactError(f"{checkpoint.path}: {_difference(network, unknown, missing)}")
    for ours, key in renamed.items():
        if own[ours].shape != theirs[key].shape:
            shapes = f"{tuple(theirs[key].shape)}, {network.name} has {tuple(own[ours].shape)}"
            raise ArtifactError(f"{checkpoint.path}: {key} has shape {shapes}")
        if key.endswith("running_var") and bool((theirs[key] < 0).any()):
            raise ArtifactError(f"{checkpoint.path}: {key} holds a negative variance")
    with torch.no_grad():
        for ours, key in renamed.items():
            own[ours].copy_(theirs[key])
    return model


def _difference(network: Network, unknown: list[str], missing: list[str]) -> str:
    said = []
    if unknown:
        said.append(f"keys that {network.name} does not have: {', '.join(unknown)}")
    if missing:
        said.append(f"{network.name} also has (by our names) {', '.join(missing)}")
    return "; ".join(said)


def _is_neuron(module: nn.Module) -> bool:
    return isinstance(module, Neuron | PSN)
