"""CIFAR-10 and CIFAR-100: the same image at every step, or one column of it per step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.models import CIFARNet, SequentialCIFARNet, columns, repeated
from psu_deploy.models.arguments import check_sizes
from psu_deploy.training.data.augment import cropped, erased, flipped
from psu_deploy.training.data.cifar import IMAGE_SHAPE, SOURCES, Classes, cifar
from psu_deploy.training.data.rand_augment import rand_augmented
from psu_deploy.training.tasks import Task

CONSTANTS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Name -> mean and deviation of the colours, of pixels from 0 to 1."""


def cifar10(steps: int = 4, normalise: str = "cifar10", rand_augment: bool = False) -> Task:
    """CIFAR-10 with direct encoding: the same image at every step."""
    return _static("cifar10", 10, steps, normalise, rand_augment)


def cifar100(steps: int = 4, normalise: str = "cifar10", rand_augment: bool = False) -> Task:
    """CIFAR-100 with direct encoding; normalised like CIFAR-10, as in arXiv 2402.00449."""
    return _static("cifar100", 100, steps, normalise, rand_augment)


def sequential_cifar10(normalise: str = "cifar10", rand_augment: bool = False) -> Task:
    """CIFAR-10, one column of pixels per step, left to right."""
    return _sequential("sequential-cifar10", 10, normalise, rand_augment)


def sequential_cifar100(normalise: str = "cifar10", rand_augment: bool = False) -> Task:
    """CIFAR-100, one column of pixels per step, left to right."""
    return _sequential("sequential-cifar100", 100, normalise, rand_augment)


def _static(name: str, classes: Classes, steps: int, normalise: str, rand_augment: bool) -> Task:
    check_sizes(steps=steps)
    network = partial(CIFARNet, T=steps, classes=classes)
    shape, sequences = IMAGE_SHAPE, partial(repeated, steps=steps)
    return cifar_task(name, classes, steps, shape, network, normalise, sequences, rand_augment)


def _sequential(name: str, classes: Classes, normalise: str, rand_augment: bool) -> Task:
    channels, height, width = IMAGE_SHAPE
    network = partial(SequentialCIFARNet, T=width, classes=classes)
    return cifar_task(name, classes, width, (channels, height), network, normalise, columns, rand_augment)


def cifar_task(
    name: str,
    classes: Classes,
    steps: int,
    input_shape: tuple[int, ...],
    network: Callable[..., nn.Module],
    normalise: str,
    sequences: Callable[[Tensor], Tensor],
    rand_augment: bool = False,
) -> Task:
    """Both the training and the test images are normalised by the same constants.

    In the authors' code they are not: its training images get those of ImageNet, its test images those of CIFAR-10.
    Crop, flip and random erasing are as there, and so is RandAugment where `rand_augment` says so.
    """
    if normalise not in CONSTANTS:
        raise InputError(f"normalise must be one of {', '.join(CONSTANTS)}, got {normalise!r}")
    mean, deviation = (255 * torch.tensor(values).reshape(3, 1, 1) for values in CONSTANTS[normalise])

    def encode(images: Tensor) -> Tensor:
        return sequences((images.float() - mean.to(images.device)) / deviation.to(images.device))

    def augment(images: Tensor) -> Tensor:
        moved = flipped(cropped(images))
        return erased(rand_augmented(moved, mean) if rand_augment else moved, mean, deviation)

    return Task(
        read=partial(cifar, classes, name),
        steps=steps,
        input_shape=input_shape,
        classes=classes,
        network=network,
        encode=encode,
        augment=augment,
        source=SOURCES[classes],
    )
