"""The header: what a caller of the network must know, and the struct that is its state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from psu_deploy.exporters.c.integers.emit import Emitted
from psu_deploy.exporters.c.names import in_comment
from psu_deploy.exporters.integers.network import Relay

_COUNTER = 8
_NUMBER = 4
_ESTIMATE = 2
"""Bytes."""


def state_bytes(emitted: Emitted) -> int:
    """What must last from step to step, per sample."""
    return _NUMBER * sum(emitted.members.values()) + _COUNTER * (emitted.network.horizon is not None)


def work_bytes(emitted: Emitted) -> int:
    """What a step needs besides."""
    sums = 2 * _NUMBER if emitted.wide else _NUMBER
    spikes = emitted.place_bytes * emitted.places + _ESTIMATE * emitted.estimates
    return sums * emitted.sums + _NUMBER * emitted.values + spikes


def weight_bytes(emitted: Emitted) -> int:
    """Numbers that never change."""
    return sum(int(values.nbytes) for values in emitted.constants.values())


def header_text(emitted: Emitted, said: Mapping[str, Any], weights: str) -> str:
    """The text of `net.h`."""
    prefix = emitted.prefix
    guard = f"PSU_DEPLOY_{prefix.upper()}_H"
    lines = [
        "/*",
        *(f" * {in_comment(line)}".rstrip() for line in facts(emitted, said, weights)),
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        *_macros(emitted),
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_structs(emitted),
        "/* Start over: before the first step, and before every new sequence. */",
        f"void {prefix}_reset({prefix}_state *s);",
        "",
        "/* One time step. x, y and *s are three different places; what lies outside the code of x is cut to it. */",
        f"int {prefix}_step({prefix}_state *s, const int16_t *x, int32_t *y);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def facts(emitted: Emitted, said: Mapping[str, Any], weights: str) -> Iterator[str]:
    """What a caller should know, line by line."""
    network, prefix = emitted.network, emitted.prefix
    horizon = f"{network.horizon} steps; a call after them changes nothing and returns {prefix.upper()}_PAST_HORIZON"
    yield f"{prefix}: a spiking network in whole numbers as a serial state machine, one call for every time step."
    yield ""
    yield f"    input    x[{prod(network.input_shape)}], features {tuple(said['input_shape'])}, the last axis fastest;"
    yield f"             {_code(emitted)}"
    yield f"    output   y[{prod(network.layers[-1].shape)}], features {tuple(said['output_shape'])};"
    yield f"             {_output(emitted)}"
    yield f"    answer   {_READOUTS[said['readout']]}"
    yield f"    horizon  {'none: any number of steps' if network.horizon is None else horizon}"
    yield "    latency  none: y belongs to the x of its own step"
    memory = f"{state_bytes(emitted):,} bytes of state and {work_bytes(emitted):,} of room to work in"
    yield f"    memory   {memory}, both in {prefix}_state;"
    yield f"             {weight_bytes(emitted):,} bytes of numbers in {weights} (flash), beside the code"
    if said["static_input"]:
        yield "    static   x is the same in every step of a sequence"
    yield f"    machine  {said['machine_hash']}"
    yield ""
    yield "All memory is the caller's: nothing is allocated, nothing global is written to, no library is called but"
    yield "memset. There is no floating point. Weights have 8 bits, states 24, and saturate. Products with factors in"
    yield "1/4096 are rounded towards zero, in 32 bits; 64 are used where the argument of a sigmoid needs them, for a"
    yield f"reset by a number that is no spike{', and for the sums of products' if emitted.wide else ''}."


_READOUTS = {
    "last": "the y of the last step",
    "sum": "the sum of y over the steps, which the caller makes",
    "mean": "the mean of y over the steps, which the caller makes: the sum may need more than 32 bits",
}


def _code(emitted: Emitted) -> str:
    code, upper = emitted.network.code, emitted.prefix.upper()
    if code.binary:
        return "a spike is 1, none is 0"
    return f"x = clip(rint(real input / {upper}_INPUT_UNIT), {upper}_INPUT_LOW, {upper}_INPUT_HIGH)"


def _output(emitted: Emitted) -> str:
    upper, units = emitted.prefix.upper(), emitted.network.units
    if not isinstance(emitted.network.layers[-1].neuron, Relay):
        return "a spike is 1, none is 0"
    if (units == units[0]).all():
        return f"one is worth {upper}_OUTPUT_UNIT"
    return f"one in channel c is worth entry c of {upper}_OUTPUT_UNITS: compare channels after multiplying"


def _macros(emitted: Emitted) -> Iterator[str]:
    upper, network = emitted.prefix.upper(), emitted.network
    yield f"#define {upper}_INPUTS {prod(network.input_shape)}"
    yield f"#define {upper}_OUTPUTS {prod(network.layers[-1].shape)}"
    yield f"#define {upper}_INPUT_LOW ({network.code.low})"
    yield f"#define {upper}_INPUT_HIGH {network.code.high}"
    yield "/* For whoever has floating point: nothing here uses it. */"
    yield f"#define {upper}_INPUT_UNIT {network.code.unit!r}"
    units = network.units.tolist()
    if len(set(units)) == 1:
        yield f"#define {upper}_OUTPUT_UNIT {units[0]!r}"
    else:
        yield f"#define {upper}_OUTPUT_UNITS {{ {', '.join(map(repr, units))} }}"
    if network.horizon is not None:
        yield f"#define {upper}_HORIZON {network.horizon}"
    yield f"#define {upper}_LATENCY 0"
    yield f"#define {upper}_OK 0"
    if network.horizon is not None:
        yield f"#define {upper}_PAST_HORIZON 1"


def _structs(emitted: Emitted) -> Iterator[str]:
    prefix, upper = emitted.prefix, emitted.prefix.upper()
    yield f"typedef int{'64' if emitted.wide else '32'}_t {prefix}_sum;"
    yield f"typedef {'uint16_t' if emitted.place_bytes == 2 else 'int32_t'} {prefix}_place;"
    yield ""
    yield "/* Room to work in: sums of weights, and the places of what spiked. It need not last from step to step. */"
    yield f"typedef struct {prefix}_work {{"
    yield f"    {prefix}_sum sums[{emitted.sums}];"
    if emitted.values:
        yield f"    int32_t values[{emitted.values}];"
    yield f"    {prefix}_place places[{emitted.places}];"
    if emitted.estimates:
        yield f"    int16_t estimates[{emitted.estimates}]; /* spikes that a table estimates */"
    yield f"}} {prefix}_work;"
    yield ""
    yield f"#ifdef {upper}_TRACE"
    yield "/* What every layer sent in the last step. */"
    yield f"typedef struct {prefix}_trace {{"
    for ident, layer in zip(emitted.layers, emitted.network.layers, strict=True):
        yield f"    int32_t {ident}[{prod(layer.shape)}]; /* {in_comment(layer.name)} {layer.shape} */"
    yield f"}} {prefix}_trace;"
    yield "#endif"
    yield ""
    yield "/* Everything that lasts from step to step, and the room to work in. */"
    yield f"typedef struct {prefix}_state {{"
    if emitted.network.horizon is not None:
        yield "    int64_t step; /* done so far */"
    for name, count in emitted.members.items():
        yield f"    int32_t {name}[{count}];"
    yield f"#ifdef {upper}_TRACE"
    yield f"    {prefix}_trace trace;"
    yield "#endif"
    yield f"    {prefix}_work work;"
    yield f"}} {prefix}_state;"
    yield ""
