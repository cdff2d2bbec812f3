"""A fused operator: its place in torch's dispatcher, its gradient, and a short way there where nothing listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.nn.kernels import reference

LIBRARY = torch.library.Library("psu_deploy", "DEF")  # type: ignore[no-untyped-call]

Function = Callable[..., Any]


class Operator:
    """`psu_deploy::NAME` and `psu_deploy::NAME_backward`, called like a function of what the schema names.

    Args:
        name: in `torch.ops.psu_deploy`.
        arguments: their part of the schema. The first is the sequence (T, ...) that the result is like.
        gradients: how many of the first arguments the kernels have one for.
        forward: what is computed where no device has anything faster; differentiable.
        shapes: empty tensors like those gradients, from the gradient of the result and the arguments.
        arrange: makes of those gradients, and of who needs one, the gradients of the first arguments.
    """

    def __init__(
        self, name: str, arguments: str, gradients: int, forward: Function, shapes: Function, arrange: Function
    ) -> None:
        self.reference, self.reference_backward = forward, reference.backward_of(forward, shapes)
        self._name, self._arrange = name, arrange
        self._direct: dict[str, tuple[Function, Function]] = {}
        LIBRARY.define(f"{name}({arguments}) -> Tensor")  # type: ignore[no-untyped-call]
        LIBRARY.define(f"{name}_backward(Tensor grad, {arguments}) -> ({', '.join(['Tensor'] * gradients)})")  # type: ignore[no-untyped-call]
        self._forward = getattr(torch.ops.psu_deploy, name).default
        self._backward = getattr(torch.ops.psu_deploy, f"{name}_backward").default
        self._register("CompositeExplicitAutograd", self.reference, self.reference_backward)
        LIBRARY.impl(f"{name}_backward", torch.library.fallthrough_kernel, "Autograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"psu_deploy::{name}", lambda x, *_: contiguous_like(x), lib=LIBRARY)
        torch.library.register_fake(f"psu_deploy::{name}_backward", shapes, lib=LIBRARY)
        torch.library.register_autograd(f"psu_deploy::{name}", self._differentiate, setup_context=_keep, lib=LIBRARY)
        self._short = self._function()

    def implement(self, device: str, forward: Function, backward: Function) -> None:
        """Let a device have its own: `forward` gets the arguments, `backward` the gradient of the result before them.

        Both are called below autograd, with tensors of any strides and any dtype, and give contiguous ones.
        """
        self._direct[device] = forward, backward
        self._register(device.upper(), forward, backward)

    def __call__(self, *inputs: Any) -> Tensor:
        result: Tensor
        if torch.compiler.is_compiling() or not self._goes_direct(inputs[0]):
            result = self._forward(*inputs)
        else:
            result = self._short.apply(*inputs)
        return result

    def _goes_direct(self, x: Tensor) -> bool:
        """Whether nothing wants to see the call: the dispatcher then costs more than short sequences do."""
        plain = type(x) in (Tensor, nn.Parameter) and x.device.type in self._direct
        return plain and not torch._C._len_torch_dispatch_stack()

    def _register(self, key: str, forward: Function, backward: Function) -> None:
        LIBRARY.impl(self._name, forward, key)  # type: ignore[no-untyped-call]
        LIBRARY.impl(f"{self._name}_backward", backward, key)  # type: ignore[no-untyped-call]

    def _differentiate(self, ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        inputs = [kept if other is None else other for kept, other in zip(ctx.saved_tensors, ctx.others, strict=True)]
        if torch.is_grad_enabled():  # somebody will differentiate this once more
            twice: tuple[Any, ...] = reference.gradients(self.reference, inputs, grad, ctx.needs_input_grad)
            return twice
        direct = not torch.compiler.is_compiling() and self._goes_direct(grad)
        backward = self._direct[grad.device.type][1] if direct else self._backward
        found = self._arrange(backward(grad, *inputs), ctx.needs_input_grad)
        return *found, *[None] * (len(inputs) - len(found))

    def _function(self) -> Any:
        """The same for autograd without the dispatcher."""

        def forward(ctx: Any, *inputs: Any) -> Any:
            _keep(ctx, inputs, inputs[0])
            return self._direct[inputs[0].device.type][0](*inputs)

        methods = {"forward": staticmethod(forward), "backward": staticmethod(self._differentiate)}
        return type(f"Fused_{self._name}", (torch.autograd.Function,), methods)


def contiguous_like(x: Tensor) -> Tensor:
    """Memory for a result."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """What autograd keeps between the two passes: the tensors that came in, and nothing that was computed."""
    ctx.save_for_backward(*(i if isinstance(i, Tensor) else None for i in inputs))
    ctx.others = [None if isinstance(i, Tensor) else i for i in inputs]
