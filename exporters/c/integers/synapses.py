"""Weights: the rows of the inputs that are not zero are added up, in whole numbers."""

from __future__ import annotations

from math import prod

from psu_deploy.exporters.c.integers.layer import Layer
from psu_deploy.exporters.integers.network import Conv, Dense


def write_synapse(scope: Layer, *, spikes: bool) -> None:
    """Lines that leave `W x` in `room`: of a dense layer by neuron, of a convolution by place, then by channel.

    Args:
        scope: of the layer.
        spikes: whether what it reads is 0 or 1.
    """
    scope.before.append(f"{scope.prefix}_sum *restrict const room = w->sums;")
    scope.before.append(f"memset(room, 0, {scope.size} * sizeof *room);")
    synapse = scope.layer.synapse
    if isinstance(synapse, Dense):
        _dense(scope, synapse, spikes)
    else:
        _conv(scope, synapse, spikes)


def _dense(scope: Layer, dense: Dense, spikes: bool) -> None:
    scope.equations.append("a = saturate(W x) + bias")
    rows = scope.constant(dense.weight.T, "weight")
    given = f"room, {scope.size}, {rows}, w->places"
    if spikes:
        scope.before.append(f"{scope.use('add_rows')}({given}, count);")
    else:
        scope.before.append(f"{scope.use('add_products')}({given}, w->values, count);")


def _conv(scope: Layer, conv: Conv, spikes: bool) -> None:
    scope.equations.append("a = saturate(W * x) + bias, a cross-correlation")
    outputs, inputs, *kernel = conv.weight.shape
    each, (height, width) = outputs // conv.groups, scope.layer.shape[1:]
    by_input = conv.weight.reshape(conv.groups, each, inputs, *kernel).transpose(0, 2, 3, 4, 1)
    weight = scope.constant(by_input, "weight")
    place, row = prod(scope.features_in[1:]), scope.features_in[2]
    first = f"from / {inputs} * {each}" if conv.groups > 1 else "0"
    (down, right), (up, left) = conv.stride, conv.padding
    scope.before += [
        "for (int32_t k = 0; k < count; k++) {",
        f"    const int32_t from = w->places[k] / {place}, group = {first};",
        f"    const int32_t y_in = w->places[k] % {place} / {row}, x_in = w->places[k] % {row};",
        f"    for (int32_t ky = 0; ky < {kernel[0]}; ky++) {{",
        f"        const int32_t down = y_in + {up} - ky * {conv.dilation[0]};",
        f"        if (down < 0 || down % {down} != 0 || down / {down} >= {height}) {{",
        "            continue;",
        "        }",
        f"        for (int32_t kx = 0; kx < {kernel[1]}; kx++) {{",
        f"            const int32_t right = x_in + {left} - kx * {conv.dilation[1]};",
        f"            if (right < 0 || right % {right} != 0 || right / {right} >= {width}) {{",
        "                continue;",
        "            }",
        f"            const int32_t to = down / {down} * {width} + right / {right};",
        f"            {scope.prefix}_sum *const sums = room + to * {outputs} + group;",
        f"            const int8_t *const row = {weight} + ((from * {kernel[0]} + ky) * {kernel[1]} + kx) * {each};",
        f"            for (int32_t o = 0; o < {each}; o++) {{",
        f"                sums[o] += {'row[o]' if spikes else 'w->values[k] * row[o]'};",
        "            }",
        "        }",
        "    }",
        "}",
    ]
