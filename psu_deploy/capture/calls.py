"""One call between the modules of a forward, and what a rule may do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor

from psu_deploy.capture.axes import Axes
from psu_deploy.capture.trees import leaves
from psu_deploy.capture.values import Example, Value, When
from psu_deploy.machine import ops


class Record(Protocol):
    """What a rule sees of the recording."""

    example: Example

    def emit(
        self,
        name: str,
        layers: ops.Layer | Sequence[ops.Layer],
        inputs: Sequence[Value],
        result: Tensor,
        axes: Axes,
        when: When | None = None,
    ) -> Value:
        """Write down layers, one behind the other, the first of which reads the inputs."""

    def layer_of(self, value: Value) -> ops.Layer | None:
        """What computes a value; None for the network's input."""

    def source_of(self, value: Value) -> Value:
        """What the layer that computes a value reads, if it reads one thing."""


@dataclass(frozen=True)
class Call:
    """A call that has at least one tensor of the network among its arguments.

    Args:
        name: of the function or tensor method.
        args: positional arguments, tensors of the network as `Value`.
        kwargs: keyword arguments.
        result: what it returned on the example.
        record: where its layers go.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    record: Record

    @property
    def values(self) -> list[Value]:
        """The tensors of the network among the arguments, those inside lists too."""
        return find_values((self.args, dict(self.kwargs)))

    @property
    def example(self) -> Example:
        """Sizes of the example."""
        return self.record.example

    def emit(
        self,
        layers: ops.Layer | Sequence[ops.Layer],
        inputs: Sequence[Value],
        axes: Axes,
        when: When | None = None,
        result: Tensor | None = None,
    ) -> Value:
        """What the call became."""
        result = self.result if result is None else result
        return self.record.emit(f"{self.name}()", layers, inputs, result, axes, when)

    def same(self, value: Value, axes: Axes | None = None) -> Value:
        """The numbers stay what they are, under other axes perhaps."""
        return Value(self.result, value.node, value.axes if axes is None else axes, value.when, value.span)


Rule = Callable[..., Any]
"""(call, *args, **kwargs of the function) -> `Value`, or as many of them as the function returns tensors."""

AnyRule = TypeVar("AnyRule", bound=Rule)

RULES: dict[str, Rule] = {}
"""Name of a function or tensor method -> rule."""


def rule(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Make a function the rule of these names."""

    def register(function: AnyRule) -> AnyRule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def find_values(arguments: Any) -> list[Value]:
    """The tensors of the network among arguments, in order."""
    return [leaf for leaf in leaves(arguments) if isinstance(leaf, Value)]
