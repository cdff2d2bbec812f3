"""Training that diverges ends: no checkpoint is written of a network whose numbers are none."""

from __future__ import annotations

import torch
from torch import Tensor

from psu_deploy.errors import EngineError, InputError
from psu_deploy.training.quiet import quiet_import
from psu_deploy.training.recipe import Recipe

with quiet_import():
    import lightning.pytorch as pl

_OURS = ("model.", "_fsdp_wrapped_module.")
"""Parts of a name that a person who reads it has not written."""


class EndsDivergence(pl.Callback):
    """Ends a run after the first epoch that leaves NaN or infinity in the network, before anything of it is written.

    Every process looks at what it has, and all hear what any of them found, so that all end alike. A gradient or a loss
    that overflows ends nothing: with 16-mixed such a step is left out. Nor does a buffer that was infinite from the
    beginning, such as a mask.

    Raises:
        InputError: in process 0: which numbers, after which epoch, and what to do.
        EngineError: in the others.
    """

    def __init__(self) -> None:
        self._meant: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._meant = set(_not_finite(dict(pl_module.named_buffers()), trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        tensors = dict(pl_module.named_parameters()) | dict(pl_module.named_buffers())
        wrong = [name for name in _not_finite(tensors, trainer) if name not in self._meant]
        if not wrong:
            return
        if not trainer.is_global_zero:
            raise EngineError("process 0 of the run could not go on; it says why")
        recipe = pl_module.recipe
        assert isinstance(recipe, Recipe)
        raise _diverged(wrong, trainer.current_epoch + 1, int(trainer.max_epochs or 0), recipe)


def _not_finite(tensors: dict[str, Tensor], trainer: pl.Trainer) -> list[str]:
    """Names of those that hold NaN or infinity in any process."""
    found = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not found:
        return []
    here = torch.stack([tensor.detach().isfinite().all().logical_not().float() for tensor in found.values()])
    anywhere: Tensor = trainer.strategy.reduce(here, reduce_op="sum")
    return [name for name, count in zip(found, anywhere.tolist(), strict=True) if count]


def _diverged(wrong: list[str], epoch: int, epochs: int, recipe: Recipe) -> InputError:
    name = wrong[0]
    for part in _OURS:
        name = name.replace(part, "", 1)
    more = f", with {len(wrong) - 1} more," if len(wrong) > 1 else ""
    kept = "the checkpoint of the epoch before is kept" if epoch > 1 else "no checkpoint was written"
    said = f"the training diverged: {name} of the network{more} holds NaN or infinity after epoch {epoch} of {epochs}"
    remedies = [f"a learning_rate below {recipe.learning_rate:g}"]
    remedies += [f"other neuron_options than {recipe.neuron_options}"] if recipe.neuron_options else []
    remedies += ["another precision than 16-mixed"] if recipe.precision == "16-mixed" else []
    remedy = f"with {' or '.join(remedies)}"
    return InputError(
        f"{said}; {kept}; begin anew by overwrite=True, {remedy}",
        shell=f"{said}; {kept}; begin anew by --overwrite, {remedy}",
    )
