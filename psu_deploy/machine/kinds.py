"""What a reader of machines knows: one row per kind of layer, operator and estimator; what has no row is refused.

A kind is an exact type: a subclass may compute something else, so it needs a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass

from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.machine.graph import Node
from psu_deploy.machine.ops.estimators import Estimator
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.operators import CausalOperator
from psu_deploy.machine.ops.registry import kinds_of

Part = Layer | CausalOperator | Estimator


@dataclass(frozen=True)
class Vocabulary:
    """The tables of one reader; what is behind a kind is the reader's own affair.

    Args:
        reader: who reads, as the subject of a sentence ("the ONNX exporter").
        layers: kind of layer -> rule or refusal.
        operators: kind of causal operator -> rule or refusal.
        estimators: kind of estimator -> rule or refusal.
    """

    reader: str
    layers: Mapping[type, object]
    operators: Mapping[type, object]
    estimators: Mapping[type, object]

    @classmethod
    def registered(cls, reader: str) -> Vocabulary:
        """That of a reader who takes every op there is as it says itself."""
        return cls(reader, kinds_of(Layer), kinds_of(CausalOperator), kinds_of(Estimator))

    def unknown(self, node: Node) -> list[Problem]:
        """The layer, each of its operators and its estimator, where the kind has no row."""
        found = [self._absent(node.name, node.layer, "layer", self.layers)]
        for name, part in parts_of(node.layer).items():
            role = f"{name} of {type(node.layer).__name__}"
            table = self.operators if isinstance(part, CausalOperator) else self.estimators
            found.append(self._absent(node.name, part, role, table))
        return [problem for problem in found if problem is not None]

    def check(self, nodes: Iterable[Node], action: str) -> None:
        """Let only machines pass whose every kind has a row.

        Args:
            nodes: of the machine.
            action: what is being attempted, as in `UnsupportedModelError`.

        Raises:
            UnsupportedModelError: listing all kinds that have none.
        """
        problems = [problem for node in nodes for problem in self.unknown(node)]
        if problems:
            raise UnsupportedModelError(problems, action)

    def _absent(self, path: str, part: Part, role: str, table: Mapping[type, object]) -> Problem | None:
        return None if type(part) in table else unknown_kind(self.reader, path, part, role, table)


def unknown_kind(reader: str, path: str, part: Part, role: str, table: Mapping[type, object]) -> Problem:
    """The refusal of a kind that has no row.

    Args:
        reader: who has none.
        path: of the layer.
        part: the layer, operator or estimator.
        role: what it is there ("layer", "reset of SpikingNeuron").
        table: that has no row for it.
    """
    kind = type(part)
    known = next((base for base in kind.__mro__ if base in table), None)
    but = "" if known is None else f": it knows {known.__name__}, but a subclass may compute something else"
    shown = f"{kind.__module__}.{kind.__qualname__}" if _same_name(kind, table) else kind.__name__
    return Problem(path, shown, f"{reader} has no rule for this {role}{but}", "use a kind it knows, or write the rule")


def parts_of(layer: Layer) -> dict[str, CausalOperator | Estimator]:
    """Field -> operator or estimator, of those a layer has."""
    names: list[str] = [field.name for field in fields(layer)] if is_dataclass(layer) else []
    values = {name: getattr(layer, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, CausalOperator | Estimator)}


def _same_name(kind: type, table: Mapping[type, object]) -> bool:
    return kind.__name__ in {known.__name__ for known in table}
