"""What flows through a network while it is captured."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import prod

from torch import Tensor

from psu_deploy.machine.ops.fields import Shape


class Layout(Enum):
    """Which leading axes a tensor has before its features."""

    SEQUENCE = "(T, B, ...)"
    FOLDED = "(T*B, ...)"
    STEP = "(B, ...)"

    @property
    def leading(self) -> int:
        """How many leading axes."""
        return 2 if self is Layout.SEQUENCE else 1


@dataclass(frozen=True)
class Value:
    """A tensor of the traced network: its value on the example input, and the node that computes it.

    Args:
        tensor: the concrete value.
        node: name of the machine's node (or `"x"`).
        layout: what its leading axes are.
    """

    tensor: Tensor
    node: str
    layout: Layout
    _version: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_version", self.tensor._version)

    @property
    def overwritten(self) -> bool:
        """Whether something has changed the tensor in place since it was computed."""
        return self.tensor._version != self._version

    @property
    def features(self) -> Shape:
        """Shape of one sample of one step."""
        return tuple(self.tensor.shape[self.layout.leading :])


@dataclass(frozen=True)
class Example:
    """The sizes of the example input.

    Args:
        steps: T.
        batch: B; differs from T, so that the two axes cannot be confused.
    """

    steps: int
    batch: int

    def layout_of(self, tensor: Tensor, like: Layout) -> Layout | None:
        """Layout of a tensor that was reshaped from layout `like`; None if no layout fits."""
        if like is Layout.STEP:
            return Layout.STEP if tensor.shape[:1] == (self.batch,) else None
        if tuple(tensor.shape[:2]) == (self.steps, self.batch):
            return Layout.SEQUENCE
        folded = tensor.shape[:1] == (prod((self.steps, self.batch)),)
        return Layout.FOLDED if folded else None
