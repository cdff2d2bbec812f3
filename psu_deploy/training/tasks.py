"""What can be trained: a data set and a network that fits it, under one name.

def stripes(split, folder):  # where the samples come from
    ...
    return Samples(inputs, labels)  # (N, T, *features), (N,)

task = Task(read=stripes, steps=20, input_shape=(5,), classes=2, network=Net)
register("stripes", task)
train(Recipe(task="stripes"), "runs/stripes")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from psu_deploy.training.samples import Samples, Split


def time_first(inputs: Tensor) -> Tensor:
    """Stored sequences (B, T, *features) as a batch (T, B, *features) of float32."""
    return inputs.transpose(0, 1).float().contiguous()


@dataclass(frozen=True)
class Task:
    """A data set and a network that fits it.

    Args:
        read: (split, folder) -> `Samples`. The folder is where the user keeps this data set, None where none is named.
        steps: T, the number of time steps of a sequence.
        input_shape: features of one time step.
        classes: number of classes; labels are 0..classes-1.
        network: neuron -> network from (T, B, *input_shape) to logits (B, classes); `neuron` is a function that makes
            one neuron layer. What else it takes by name, of `hidden` and `dropout`, comes from the recipe. A network
            with neurons of its own takes nothing but by name.
        encode: a batch as it is stored (B, ...) -> sequences (T, B, *input_shape) float32; default: `time_first`.
        augment: the same batch, changed at random while training, by torch's global generator; None = as it is.
        source: of a data set that has to be fetched: where to get it, and what the folder then holds, in a sentence.
        not_streamable: why a live sensor could not make these sequences, such as bins that end with the last event;
            None where it could.
    """

    read: Callable[[Split, Path | None], Samples]
    steps: int
    input_shape: tuple[int, ...]
    classes: int
    network: Callable[..., nn.Module]
    encode: Callable[[Tensor], Tensor] = time_first
    augment: Callable[[Tensor], Tensor] | None = None
    source: str | None = None
    not_streamable: str | None = None
