"""What came of a case: plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "unproven", "refused", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What a judge says of a case.

    Attributes:
        status: "ok": equal, or rounding explains every difference; "unproven": nothing is wrong, but bounds are too
            wide to say more; "refused": the target says why it does not take the network; "failed".
        kind: of a failure, in a word or two: a smaller case that fails alike has the same; of a refusal, its reason.
        reason: what is to be said, in sentences.
        differences: what differs: place, number of the target, exact number, bound.
        spikes: decisions compared.
        knife_edges: of them, those that rounding turned.
    """

    status: Status
    kind: str = ""
    reason: str = ""
    differences: tuple[str, ...] = ()
    spikes: int = 0
    knife_edges: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Outcome:
        """What `to_dict` gave."""
        return Outcome(**{**data, "differences": tuple(data["differences"])})
