"""Writes down the state machine that a torch network computes, and holds it against the network.

The network is run three times, on inputs of other numbers and other sizes, the last of them long. All runs must give
the same machine: what was taken from the input into a constant, or from T and B into the arithmetic, is another number
then. The machine is run on the second input, and every layer of it must give what it gave in the network.

Only the second run is computed in full. In the first and the last, layers of torch's own are computed for one sample of
one step, which stands for all: what is called, on which shapes, is the same, and that is what these runs are for. A
network that is refused so is run again in full, and that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.capture import spikingjelly
from psu_deploy.capture.alignment import aligned
from psu_deploy.capture.along_time import CONVERTERS
from psu_deploy.capture.axes import SEQUENCE, STEP, whole
from psu_deploy.capture.comparison import AnotherNetworkError, check_same, check_whole
from psu_deploy.capture.conversion import Converter
from psu_deploy.capture.examples import examples_for
from psu_deploy.capture.layers import STATELESS
from psu_deploy.capture.leaves import unwrapped
from psu_deploy.capture.modes import as_deployed, floating_like, in_float32
from psu_deploy.capture.modules import ModuleConverter
from psu_deploy.capture.outputs import check_shapes, ends_of, node_of, returned
from psu_deploy.capture.recording import ModelFailureError, Recording
from psu_deploy.capture.undoing import undoing
from psu_deploy.capture.values import ALWAYS, EVERY, UNKNOWN, Example, MoreStepsError, OtherStepsError, Value
from psu_deploy.errors import InputError, Problem, PsuDeployError, Refusal, UnsupportedModelError
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.ops.fields import Shape, feature_shape
from psu_deploy.machine.passes import RemoveDeadLayers, simplify
from psu_deploy.machine.schedule import INPUT
from psu_deploy.nn.along_time import Hold

ACTION = "turn the model into a state machine"


def to_state_machine(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    converters: Mapping[type[nn.Module], Converter] | None = None,
    simplified: bool = True,
) -> StateMachine:
    """Turn a network over sequences (T, B, ...) into the serial state machine that computes the same.

    The model is captured in its eval form, whatever mode it is in, and is left as it was: BatchNorm is folded
    into the layer before it, Dropout is dropped, a mean over time becomes the readout. `forward` is run as it is, so
    loops over layers and steps, and branches on shapes, are followed; a branch on numbers is refused.

    Args:
        model: any module whose forward takes one sequence, or one picture (B, ...) that it repeats by itself, made of
            this package's neurons and containers and of torch layers and functions. It returns one tensor, or several
            in a tuple, list, dictionary or dataclass; see `StateMachine.outputs`.
        input_shape: features of one step, such as (700,) or (3, 32, 32): no time, no batch.
        converters: module type -> function(module, features) returning a layer of `psu_deploy.machine.ops`, some to
            be put one behind the other, or None where the module does nothing. They win over the built-in ones.
        simplified: run the passes; False leaves BatchNorm a layer of its own, as the module computes it.

    Returns:
        The machine.

    Raises:
        UnsupportedModelError: listing every module and operation that has no serial form here.
        InputError: if the model itself fails on an input of this shape.

    >>> from psu_deploy.nn.containers import SpikingSequential
    >>> from psu_deploy.nn.neurons import PSU
    >>> model = SpikingSequential(nn.Linear(8, 32), PSU(), nn.Linear(32, 10))
    >>> machine = to_state_machine(model, input_shape=(8,))
    >>> machine.input_shape, machine.max_steps, machine.latency
    ((8,), None, 0)
    >>> [name for name in machine.state_spec]
    ['1.V', '1.R']
    """
    features = feature_shape(input_shape)
    model = unwrapped(model)
    converter = ModuleConverter(STATELESS | CONVERTERS | dict(converters or {}))
    with torch.inference_mode(False), as_deployed(model), spikingjelly.at_rest(model):
        machine = _capture(model, features, converter)
    return simplify(machine) if simplified else RemoveDeadLayers()(machine)


def _capture(model: nn.Module, features: Shape, converter: ModuleConverter) -> StateMachine:
    """Run on the shortest example that the model takes."""
    examples = examples_for(model)
    failures: list[tuple[Example, Exception]] = []
    undo = undoing(model)
    for example in examples:
        try:
            machine = _confirmed(model, features, converter, example, undo)
        except OtherStepsError as other:  # a picture, shown as often as the network says
            examples.append(replace(example, steps=other.steps, fixed=True, most=None))
        except MoreStepsError as more:
            if more.steps > example.steps:
                examples.append(replace(example, steps=more.steps))
            else:
                failures.append((example, UnsupportedModelError([_too_short(more)], ACTION)))
        except (ModelFailureError, UnsupportedModelError) as error:
            failures.append((example, error))
        else:
            for earlier, failure in failures:  # one network on long sequences may be another on short ones
                if isinstance(failure, AnotherNetworkError) and earlier.image == example.image:
                    raise failure
            return machine
    # A refusal says more than a failure, a longer example more than a shorter one, and most networks take sequences.
    failures.sort(key=lambda found: (isinstance(found[1], UnsupportedModelError), not found[0].image))
    example, failure = failures[-1]
    if isinstance(failure, UnsupportedModelError):
        raise failure
    raise _explained(example, failure, features) from failure.__cause__


def _too_short(more: MoreStepsError) -> Problem:
    return Problem("forward", "getitem", f"{more}, about as many as there may be", "take fewer, or allow more steps")


def _confirmed(
    model: nn.Module, features: Shape, converter: ModuleConverter, example: Example, undo: Callable[[], None]
) -> StateMachine:
    """On repeated numbers, which cost little; in full where that fails: a network may see that they share memory."""
    undo()
    with suppress(ModelFailureError, UnsupportedModelError):
        return _confirmed_on(model, features, converter, replace(example, repeated=True))
    undo()
    return _confirmed_on(model, features, converter, example)


def _confirmed_on(model: nn.Module, features: Shape, converter: ModuleConverter, example: Example) -> StateMachine:
    machine, _, _ = _record(model, features, converter, example)
    for other in example.others():
        with suppress(ModelFailureError):  # code that names T runs on no other
            given = _check_against(model, features, converter, other, machine)
            _check_longest(model, features, converter, example.longest(other), machine)
            _check_batch_of_one(model, features, given / other.batch, other)
            return machine
    raise InputError(f"the model runs on (T, B) = {example.steps, example.batch} but on no other batch size")


def _check_against(
    model: nn.Module, features: Shape, converter: ModuleConverter, example: Example, machine: StateMachine
) -> int:
    """Raise unless another run gives the same machine, and that what the run gave. Returns how many numbers it gave."""
    again, recording, x = _record(model, features, converter, example)
    check_same(machine, again, recording)
    check_whole(again, recording, x)
    return recording.given  # all else of the run, every tensor of it, goes


def _check_longest(
    model: nn.Module, features: Shape, converter: ModuleConverter, example: Example, machine: StateMachine
) -> None:
    """Raise unless many steps give the same machine; a network that runs on few only passes."""
    for run in dict.fromkeys((example, replace(example, repeated=False))):  # a repeated one may fail because it is
        with suppress(ModelFailureError):
            again, recording, _ = _record(model, features, converter, run)
            check_same(machine, again, recording)
            return


def _check_batch_of_one(model: nn.Module, features: Shape, several: float, example: Example) -> None:
    """Raise unless one sample gives as many numbers as one of several: `squeeze()` drops a batch of one too."""
    one = _numbers_of_one(model, features, replace(example, batch=1))
    if one is not None and several != one:
        reason = f"gives {one} numbers for a batch of one sample, and {several:g} per sample for a batch of more"
        problem = Problem("forward", type(model).__name__, reason, "write squeeze(dim), not squeeze()")
        raise UnsupportedModelError([problem], ACTION)


def _numbers_of_one(model: nn.Module, features: Shape, example: Example) -> int | None:
    """Of its outputs; None if the model does not run on a batch of one."""
    with suppress(Exception):
        outputs = returned(in_float32(model, _input(model, features, example).tensor))
        return sum(int(output.numel()) for output in outputs.values())
    return None


def _record(
    model: nn.Module, features: Shape, converter: ModuleConverter, example: Example
) -> tuple[StateMachine, Recording, Tensor]:
    recording = Recording(model, converter, example)
    value = _input(model, features, example)
    outputs = _failing_clearly(recording, value, model)
    if _shows_nothing(recording):
        raise ModelFailureError("it does not show its input at every step")
    ends = ends_of(recording, outputs)
    if recording.problems:
        raise UnsupportedModelError(recording.problems, ACTION)
    recording.given = sum(value.tensor.numel() for value in ends.values())
    node = node_of(recording, ends)
    machine = StateMachine(aligned(recording.nodes.nodes), features, node)
    check_shapes(machine, ends)
    return machine, recording, value.tensor


def _failing_clearly(recording: Recording, value: Value, model: nn.Module) -> dict[str, Any]:
    """What it returns, each with its name; a model that fails behind something that was refused fails because of it."""
    copy = replace(value, tensor=value.tensor.clone())
    try:
        outputs: dict[str, Any] = recording.run(copy, lambda x: returned(in_float32(model, x)))
        return outputs
    except ModelFailureError as failure:
        if isinstance(failure.__cause__, OtherStepsError | MoreStepsError):
            raise failure.__cause__ from None
        if recording.problems and not _shows_nothing(recording):
            recording.note(
                "forward", type(model).__name__, Refusal(f"stopped there: {failure}", "mend the above first")
            )
            raise UnsupportedModelError(recording.problems, ACTION) from failure
        raise


def _shows_nothing(recording: Recording) -> bool:
    """Whether a network that was given a picture has not repeated it: it takes sequences."""
    nodes = recording.nodes
    held = [value for node in nodes.nodes if isinstance(node.layer, ops.Hold) for value in nodes.seen[node.name]]
    again = any(sum(value.node != UNKNOWN for value in calls) > 1 for calls in recording.calls.values())
    return recording.example.image and not again and all(value.when == range(1) for value in held)


def _input(model: nn.Module, features: Shape, example: Example) -> Value:
    generator = torch.Generator().manual_seed(example.seed)
    lead = (example.batch,) if example.image else (example.steps, example.batch)
    like = floating_like(model)
    x = torch.randn(*lead, *features, generator=generator).to(like.device, _runs_in(like.dtype))
    if example.image:
        return Value(x, INPUT, (*STEP, *whole(features)), ALWAYS)
    if any(isinstance(module, Hold) for module in model.modules()):
        x = x[:1].expand_as(x).contiguous()  # such a network takes nothing else
    return Value(x, INPUT, (*SEQUENCE, *whole(features)), EVERY)


def _runs_in(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _explained(example: Example, failure: Exception, features: Shape) -> PsuDeployError:
    """The model itself failed, on every example."""
    if isinstance(failure.__cause__, PsuDeployError):
        return failure.__cause__
    shape = (example.steps, example.batch, *features)
    return InputError(
        f"the model fails on an example x of shape (T, B, *input_shape) = {shape}: {failure}; "
        "input_shape is the features of one step, without time and batch, and a layer without time needs "
        "psu.Lift around it or psu.SpikingSequential instead of nn.Sequential"
    )
