"""An autograd Function that `torch.func` can transform: vmap, grad, vjp, jacrev."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class TransformableFunction(torch.autograd.Function):
    """Base of our autograd Functions: `forward` without ctx, `setup_context`, and a rule for `vmap`.

    torch reads the signature of such a `forward` at every call, 40 us that a loop over the steps pays T times. Only a
    transform needs it, so where none is at work the arguments go straight through: name them all, in order.
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The result of `forward`, differentiable by `backward`."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]


class ElementwiseFunction(TransformableFunction):
    """One whose result at an element of its first argument depends on that element alone: vmap needs no more."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], x: Tensor, *others: Any) -> tuple[Tensor, int | None]:  # noqa: ARG003
        """The samples are elements like all others. What is a tensor beside x is the same for all samples."""
        shared = [o if d is None else o.select(d, 0) for o, d in zip(others, in_dims[1:], strict=True)]
        return cls.apply(x, *shared), in_dims[0]


class OneByOneFunction(TransformableFunction):
    """One that vmap calls for every sample by itself."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        """What has no axis of samples is the same for all."""

        def own(index: int) -> Tensor:
            result: Tensor = cls.apply(
                *(arg if dim is None else arg.select(dim, index) for arg, dim in zip(args, in_dims, strict=True))
            )
            return result

        return torch.stack([own(index) for index in range(info.batch_size)]), 0
