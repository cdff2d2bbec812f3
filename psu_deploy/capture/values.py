"""What flows through a network while it is captured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor

from psu_deploy.capture.axes import (
    BATCH,
    FOLDED,
    SEQUENCE,
    STEP,
    TIME,
    Axes,
    Sizes,
    features_of,
    is_feature,
    leading,
)
from psu_deploy.errors import Refusal
from psu_deploy.machine.ops.fields import Shape

EVERY, END, ALWAYS = "every step", "the end", "all steps alike"
"""Of which steps a value tells: of every one (it has a time axis), of the whole sequence, of a picture that stays."""

When = str | range
"""One of the above; or a loop's own steps: `range(t, t + 1)` is step t, a longer one the sum over these steps."""

UNKNOWN = "?"
"""Node of a value behind something that was refused."""


@dataclass(frozen=True)
class Value:
    """A tensor of the network: its value on the example, and the node that computes it.

    Args:
        tensor: the concrete value.
        node: name of the machine's node (or `"x"`).
        axes: what each of its axes is.
        when: which steps it tells of.
        span: (first, last): its time axis covers the steps first .. T + last.
    """

    tensor: Tensor
    node: str
    axes: Axes
    when: When = EVERY
    span: tuple[int, int] = (0, 0)
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
        return features_of(self.axes)

    @property
    def is_sequence(self) -> bool:
        """Whether it is (T, B, *features)."""
        return self.axes[:2] == SEQUENCE and self._features_last(2) and self.span == (0, 0)

    @property
    def is_batch(self) -> bool:
        """Whether it is (N, *features), N being samples, or steps times samples."""
        return self.axes[:1] in (STEP, FOLDED, ((BATCH, TIME),)) and self._features_last(1)

    @property
    def layout(self) -> str:
        """Its axes as a person would write them."""
        names = ["*".join("..." if isinstance(atom, int) else atom for atom in axis) for axis in self.axes]
        while names[-2:] == ["...", "..."]:
            names.pop()
        return f"({', '.join(names)})"

    def axis(self, dim: int) -> int:
        """The feature axis, from 0, that torch calls `dim`. Raises `Refusal` if it is time or batch."""
        index = self.index(dim)
        if len(self.axes[index]) != 1 or not is_feature(self.axes[index]):
            raise Refusal(f"works over axis {dim} of {self.layout}", "use an axis of the features")
        return len(features_of(self.axes[:index]))

    def index(self, dim: int) -> int:
        """An axis counted from 0."""
        return dim + len(self.axes) if dim < 0 else dim

    def _features_last(self, start: int) -> bool:
        return leading(self.axes) == self.axes[:start] and all(map(is_feature, self.axes[start:]))


@dataclass(frozen=True, kw_only=True)
class Unread(Value):
    """A tensor beside the one that most networks want: it becomes a layer once something reads it.

    Args:
        name: of the call that gave it.
        where: file and line of that call.
        write: writes the layer down. Raises `Refusal` where there is none.
    """

    name: str
    where: str
    write: Callable[[], Value]


MANY_STEPS = 37
"""Of the longest example; a number that nobody writes in a network, nor a multiple of one."""

MOST_STEPS = 1000
"""Of a network that only says how many it runs."""


class MoreStepsError(Exception):
    """A network names a number of steps which an example of fewer cannot show: x[-10:] of 4 steps is x.

    Args:
        steps: as many are enough.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(f"takes {steps - 1} steps out of a sequence")
        self.steps = steps


class OtherStepsError(Exception):
    """A network that is given a picture shows it for another number of steps.

    Args:
        steps: as many.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(f"shows its input at {steps} steps")
        self.steps = steps


@dataclass(frozen=True)
class Example(Sizes):
    """The sizes of the example input.

    Args:
        steps: T.
        batch: B; differs from T, so that the two axes cannot be confused.
        image: whether the network is given one picture (B, ...) and repeats it by itself.
        seed: of the numbers.
        fixed: whether the network runs on this number of steps only.
        most: steps that it is defined for; None = any number.
        repeated: whether layers of torch's own are computed for one sample of one step, which stands for all.
    """

    image: bool = False
    seed: int = 0
    fixed: bool = False
    most: int | None = None
    repeated: bool = False

    @property
    def first(self) -> bool:
        """Whether it is the first of several: layers are held against their modules once."""
        return self.seed == 0

    def others(self) -> list[Example]:
        """Examples of other numbers, another batch and, first, another number of steps."""
        batch = next(b for b in (2, 7, 5) if b not in (self.steps, self.batch) and self.steps * b != self.batch)
        steps = [self.steps] if self.fixed else [self.steps + 1, self.steps - 1, self.steps]
        return [replace(self, steps=n, batch=batch, seed=1, repeated=False) for n in steps if 0 < n <= (self.most or n)]

    def longest(self, other: Example) -> Example:
        """One more, long enough to tell apart what a few steps do not: T // 2 and 2, min(T, 10) and T."""
        anew = not self.fixed and other.steps != self.steps
        steps = max(self.steps, min(self.most or MANY_STEPS, MANY_STEPS)) if anew else self.steps
        batch = next(b for b in (4, 5, 6, 7) if b not in (self.batch, other.batch, steps))
        return replace(self, steps=steps, batch=batch, seed=2)


def shape_of(axes: Axes, sizes: Sizes) -> tuple[int, ...]:
    """Shape of a tensor with these axes."""
    result = []
    for axis in axes:
        size = 1
        for atom in axis:
            size *= sizes.of(atom)
        result.append(size)
    return tuple(result)


def as_batch(value: Value, sizes: Sizes, *, along_time: bool) -> Tensor:
    """(N, *features) of any value, steps slowest; one without a time axis is repeated if others have one."""
    atoms = [atom for axis in value.axes for atom in axis]
    tensor = value.tensor.reshape([sizes.of(atom) for atom in atoms])
    lead = [atoms.index(atom) for atom in (TIME, BATCH) if atom in atoms]
    rest = [i for i, atom in enumerate(atoms) if isinstance(atom, int)]
    tensor = tensor.permute(*lead, *rest)
    if along_time and TIME not in atoms:
        tensor = tensor.expand(sizes.steps, *tensor.shape)
        lead = [0, *lead]
    return tensor.flatten(0, len(lead) - 1) if len(lead) > 1 else tensor
