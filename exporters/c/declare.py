"""The header: what a caller of the network must know, and the struct that is its state."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from psu_deploy.exporters.c.emit import Emitted
from psu_deploy.exporters.c.names import Names, in_comment
from psu_deploy.machine import StateMachine

_COUNTER = 8  # and a pointer, where those are large
_NUMBER = 4
"""Bytes."""


def state_bytes(emitted: Emitted) -> int:
    """What must last from step to step, per sample."""
    numbers = sum(prod(member.shape) for member in emitted.members)
    return _NUMBER * numbers + _COUNTER * (emitted.counts + emitted.numbered + emitted.mapped)


def work_bytes(emitted: Emitted) -> int:
    """What a step needs besides."""
    return _NUMBER * (emitted.values + emitted.active)


def weight_bytes(emitted: Emitted) -> int:
    """Numbers that never change."""
    floats = (values for values in emitted.constants.values() if not emitted.mapped or values.dtype.kind == "f")
    return sum(int(values.nbytes) for values in floats)


def header_text(machine: StateMachine, emitted: Emitted, weights: str) -> str:
    """The text of `net.h`."""
    prefix = emitted.prefix
    guard = f"PSU_DEPLOY_{prefix.upper()}_H"
    lines = [
        "/*",
        *(f" * {in_comment(line)}".rstrip() for line in facts(machine, emitted, weights)),
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        *_macros(machine, emitted),
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_structs(emitted),
        "",
        *_reset(emitted, weights),
        "",
        "/* One time step. x, y and *s are three different places; what is in x must be finite. */",
        f"int {prefix}_step({prefix}_state *s, const float *x, float *y);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def facts(machine: StateMachine, emitted: Emitted, weights: str) -> Iterator[str]:
    """What a caller should know, line by line."""
    prefix = emitted.prefix
    yield f"{prefix}: a spiking network as a serial state machine, one call for every time step."
    yield ""
    yield f"    input    x[{prod(machine.input_shape)}], features {machine.input_shape}, the last axis fastest; float32"
    yield from _outputs(machine)
    yield f"    horizon  {_horizon(machine, prefix)}"
    yield f"    latency  {_latency(machine)}"
    if machine.static_input:
        yield "    static   the input is read in the first step alone"
    memory = f"{state_bytes(emitted):,} bytes of state and {work_bytes(emitted):,} of room to work in"
    yield f"    memory   {memory}, both in {prefix}_state;"
    yield f"             {weight_bytes(emitted):,} bytes of numbers in {weights} (flash), beside the code"
    yield f"    machine  {machine.content_hash}"
    if emitted.numbered:
        yield "    noise    a function of seed, step, sample and neuron: number the samples of a batch in s.sample"
    yield ""
    yield "All memory is the caller's: nothing is allocated, nothing global is written to. Different states may be used"
    yield "by different threads at once."
    yield "Sums: bias first, then the products in the order of the inputs, each rounded on its own. Products with an"
    yield "input that is 0 are left out, which changes nothing as long as all inputs are finite."


def _outputs(machine: StateMachine) -> Iterator[str]:
    if len(machine.outputs) == 1:
        (shape,) = machine.outputs.values()
        yield f"    output   y[{prod(shape)}], features {shape}; float32"
        return
    start = 0
    for name, shape in machine.outputs.items():
        yield f"    output   y[{start}] to y[{start + prod(shape) - 1}]: {name}, features {shape}; float32"
        start += prod(shape)


def _horizon(machine: StateMachine, prefix: str) -> str:
    if machine.horizon is None:
        return "none: any number of steps"
    return f"{machine.horizon} steps; a call after them changes nothing and returns {prefix.upper()}_PAST_HORIZON"


def _latency(machine: StateMachine) -> str:
    if not machine.latency:
        return "none: y belongs to the x of its own step"
    return f"{machine.latency} steps: y belongs to the x of as many steps ago, and is 0 before"


def _reset(emitted: Emitted, weights: str) -> Iterator[str]:
    prefix = emitted.prefix
    when = "Start over: before the first step, and before every new sequence."
    if emitted.mapped:
        yield f"/* {when} `weights` is what {weights} holds: {prefix.upper()}_WEIGHTS floats,"
        yield "   little-endian there. It must stay where it is. */"
        yield f"void {prefix}_reset({prefix}_state *s, const float *weights);"
    else:
        yield f"/* {when} */"
        yield f"void {prefix}_reset({prefix}_state *s);"


def _macros(machine: StateMachine, emitted: Emitted) -> Iterator[str]:
    upper, names, start = emitted.prefix.upper(), Names(), 0
    yield f"#define {upper}_INPUTS {prod(machine.input_shape)}"
    yield f"#define {upper}_OUTPUTS {sum(map(prod, machine.outputs.values()))}"
    if len(machine.outputs) > 1:
        for name, shape in machine.outputs.items():
            yield f"#define {upper}_OUTPUT_{names.unique(name).upper()} {start}"
            start += prod(shape)
    if emitted.mapped:
        yield f"#define {upper}_WEIGHTS {weight_bytes(emitted) // _NUMBER}"
    if machine.horizon is not None:
        yield f"#define {upper}_HORIZON {machine.horizon}"
    yield f"#define {upper}_LATENCY {machine.latency}"
    yield ""
    yield f"enum {{ {upper}_OK = 0, {upper}_PAST_HORIZON = 1 }};"


def _structs(emitted: Emitted) -> Iterator[str]:
    prefix = emitted.prefix
    yield "/* What lies between two layers while a step runs; it need not last. */"
    yield f"typedef struct {prefix}_work {{"
    yield f"    float values[{emitted.values}];"
    yield f"    int active[{emitted.active}];"
    yield f"}} {prefix}_work;"
    yield ""
    yield from _trace(emitted)
    yield "/* All that a network remembers. */"
    yield f"typedef struct {prefix}_state {{"
    if emitted.mapped:
        yield "    const float *weights;"
    if emitted.counts:
        yield "    int64_t step; /* done so far */"
    if emitted.numbered:
        yield "    int64_t sample; /* its number in a batch, for the noise; 0 after a reset */"
    for member in emitted.members:
        yield f"    float {member.ident}[{prod(member.shape)}]; /* {in_comment(member.name)} {member.shape} */"
    if emitted.neurons:
        yield f"#ifdef {prefix.upper()}_TRACE"
        yield f"    {prefix}_trace trace;"
        yield "#endif"
    yield f"    {prefix}_work work;"
    yield f"}} {prefix}_state;"


def _trace(emitted: Emitted) -> Iterator[str]:
    if not emitted.neurons:
        return
    prefix = emitted.prefix
    yield f"#ifdef {prefix.upper()}_TRACE"
    yield "/* What every neuron did in the last step: spikes, V, R, and V - R - threshold. */"
    yield f"typedef struct {prefix}_trace {{"
    for layer, ident in emitted.neurons.items():
        size = emitted.sizes[layer]
        yield f"    float {ident}_S[{size}], {ident}_V[{size}], {ident}_R[{size}], {ident}_margin[{size}];"
    yield f"}} {prefix}_trace;"
    yield "#endif"
    yield ""
