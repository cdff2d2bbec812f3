"""What every layer of a state machine can be asked."""

from __future__ import annotations

from psu_deploy.machine.ops.fields import Shape


class Layer:
    """Base of all layers: one input, no state, no horizon.

    Shapes are those of one step without batch: a layer maps features to features.
    """

    arity: int | None = 1
    """Number of inputs; None = two or more."""

    @property
    def horizon(self) -> int | None:
        """Number of steps the layer is defined for; None = any number."""
        return None

    @property
    def lookahead(self) -> int:
        """Steps by which the output lags behind the input: what comes out at step t belongs to step t - lookahead."""
        return 0

    @property
    def uses_step(self) -> bool:
        """Whether the layer reads the step counter."""
        return self.horizon is not None

    def output_shape(self, *inputs: Shape) -> Shape:
        """Features out, from the features of every input. Raises `InputError` if they do not fit."""
        return inputs[0]

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Role -> shape per sample of every state tensor."""
        return {}
