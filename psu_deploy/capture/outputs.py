"""What a network returns: one tensor, or several with their names; each of them ends the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from psu_deploy.capture.axes import BATCH, SEQUENCE, STEP, TIME, is_feature
from psu_deploy.capture.recording import Recording
from psu_deploy.capture.rules.reducing import complete
from psu_deploy.capture.values import END, EVERY, UNKNOWN, OtherStepsError, Value
from psu_deploy.errors import InputError, InternalError, Refusal
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.ops.fields import is_text
from psu_deploy.machine.schedule import INPUT, OUTPUT

NAME = "outputs()"
"""Of the layer in which several outputs end."""


def returned(result: Any) -> dict[str, Any]:
    """Name -> what a network returns, in order, nothing that is None; what is alone is called `"y"`.

    An entry is called by its key, field or index; what lies deeper by all of them, joined by dots: `"spikes.0"`.

    Raises:
        InputError: if two have one name, or one has a name that no file could hold.
    """
    found = list(_leaves("", result))
    if len(found) == 1:
        return {OUTPUT: found[0][1]}
    outputs = dict(found)
    if len(outputs) < len(found):
        names = [name for name, _ in found]
        raise InputError(f"the model returns two outputs called {max(names, key=names.count)!r}; name them differently")
    for name in outputs:
        if not is_text(name):
            raise InputError(
                f"the model returns an output called {name!r}, which no file could hold; call it otherwise"
            )
    return outputs


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inside = list(value.items())
    elif is_dataclass(value) and not isinstance(value, type | Value):
        inside = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, tuple | list):
        inside = list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    else:
        if value is not None:
            yield name, value
        return
    for key, entry in inside:
        yield from _leaves(f"{name}.{key}" if name else str(key), entry)


def ends_of(recording: Recording, outputs: Mapping[str, Any]) -> dict[str, Value]:
    """Name -> output, as a network may give it: of all steps, or of the last. Notes what is wrong with any."""
    refused = bool(recording.problems)
    if not outputs:
        recording.note("forward", "output", Refusal("the model returns nothing", "return the logits"))
    ends = {}
    for name, output in outputs.items():
        called = "the output" if len(outputs) == 1 else f"the output {name!r}"
        try:
            if refused and isinstance(output, Value) and output.node == UNKNOWN:
                continue  # because of what was refused
            if not isinstance(output, Value):
                raise Refusal(f"{called} is no tensor that depends on the input", "return such tensors only")
            ends[name] = _end(recording, called, output)
        except Refusal as error:
            kind = "output" if isinstance(output, Value) else type(output).__name__
            recording.note("forward", kind, error)
    return ends


def node_of(recording: Recording, ends: Mapping[str, Value]) -> str:
    """The node in which the machine ends."""
    sources = tuple(value.node for value in ends.values())
    if tuple(ends) == (OUTPUT,):
        return sources[0]
    return recording.nodes.add(NAME, ops.Outputs(tuple(ends)), sources, "")


def check_shapes(machine: StateMachine, ends: Mapping[str, Value]) -> None:
    """Raise `InternalError` unless the machine gives what the network gave."""
    given = {name: value.features for name, value in ends.items()}
    if machine.outputs != given:
        raise InternalError(f"captured outputs {machine.outputs}, model gives {given}")


def _end(recording: Recording, called: str, output: Value) -> Value:
    """The output of all steps, or of the last. Raises `Refusal` if it is neither."""
    if output.overwritten:
        raise Refusal(f"{called} was changed in place", "use y = y + x for y += x")
    if output.node == UNKNOWN:
        raise Refusal(f"{called} depends on numbers that no layer gives", "leave it out")
    last = recording.example.steps - 1
    if output.when == range(last + 1) and last:
        output = complete(recording, output)
    elif output.when == range(last, last + 1):
        output = recording.emit("last()", ops.Readout("last"), (output,), output.tensor, output.axes, END)
    elif isinstance(output.when, range) and recording.example.image:
        raise OtherStepsError(output.when.stop)
    elif isinstance(output.when, range):
        raise Refusal(
            f"{called} is of one step in the middle", "return the last step, or all of them, torch.stack(list)"
        )
    if (TIME, BATCH) in output.axes or (BATCH, TIME) in output.axes:
        raise Refusal(f"{called} has T and B folded together", "unflatten it to (T, B, ...)")
    if output.span != (0, 0):
        raise Refusal(f"{called} is of some of the steps", "return all of them, or the last, x[-1]")
    if output.node == INPUT and called == "the output":
        raise Refusal("the output is the input: there is no layer", "add one")
    if not _leads(output):
        raise Refusal(f"{called} is {output.layout}", "return (T, B, ...), or (B, ...) behind a readout")
    return output


def _leads(output: Value) -> bool:
    lead = STEP if output.when != EVERY else SEQUENCE
    return output.axes[: len(lead)] == lead and all(map(is_feature, output.axes[len(lead) :]))
