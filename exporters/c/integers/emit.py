"""Integer network -> one step of it in C: a function for every layer, and one that calls them.

What a layer sends is the list of its neurons that spiked (`places`), or of its numbers that are not zero (`values` as
well): the next layer adds up the rows of weights that belong to them. One list is enough, because a layer has read it
before it writes its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from psu_deploy.errors import Problem, Refusal, UnsupportedModelError
from psu_deploy.exporters.c.integers.layer import Layer
from psu_deploy.exporters.c.integers.neurons import write_neuron
from psu_deploy.exporters.c.integers.synapses import write_synapse
from psu_deploy.exporters.c.names import Names, in_comment
from psu_deploy.exporters.integers.bounds import largest, neuron_intervals, sent_interval, synapse_interval
from psu_deploy.exporters.integers.fixed_point import STATE_MAX
from psu_deploy.exporters.integers.network import IntegerNetwork, Integers, Relay

HELPERS = {
    "saturate": "saturate.c",
    "multiply": "multiply.c",
    "shifted": "shifted.c",
    "shifted_wide": "shifted_wide.c",
    "floor": "floor.c",
    "argument": "argument.c",
    "argument_wide": "argument_wide.c",
    "sigmoid": "sigmoid.c",
    "add_rows": "add_rows.c",
    "add_products": "add_products.c",
    "read_spikes": "read_spikes.c",
    "read_numbers": "read_numbers.c",
}
"""Function -> the text that holds it, in an order in which one may call those before it."""

_TAKEN = ("state", "work", "trace", "sum", "place", "reset", "step", "layers", "knots")
_INPUT_MAX = 2**15 - 1
_SHORT_PLACES = 2**16


@dataclass
class Emitted:
    """A network in C, before it is files.

    Attributes:
        prefix: of all names.
        network: in whole numbers.
        members: name in the struct -> how many numbers of 32 bits.
        layers: what they are called in the trace, in order.
        constants: name -> numbers, each in as few bytes as they need.
        helpers: functions of `text/` that are called.
        functions: of the layers, as text.
        calls: lines of the function that takes a step.
        sums: numbers of room for `W x`.
        wide: whether these need 64 bits; where no state can leave 24 bits, they do not.
        estimates: numbers of room for estimated spikes from a table.
        places: numbers of room for what spiked.
        values: numbers of room for what it is worth; 0 = all of it are spikes.
    """

    prefix: str
    network: IntegerNetwork
    members: dict[str, int] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    constants: dict[str, Integers] = field(default_factory=dict)
    helpers: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sums: int = 0
    wide: bool = False
    estimates: int = 0
    places: int = 0
    values: int = 0

    @property
    def place_bytes(self) -> int:
        """Of one place."""
        return 2 if self.places <= _SHORT_PLACES else 4


def emit(network: IntegerNetwork, prefix: str) -> Emitted:
    """Write one step of an integer network down.

    Args:
        network: what to emit.
        prefix: of all names.

    Raises:
        UnsupportedModelError: if a layer does not fit into the numbers of C.
    """
    _check_input(network)
    emitted, idents = Emitted(prefix, network), Names("step", "work", "trace")
    names = Names(*(f"{prefix}_{word}" for word in (*_TAKEN, *HELPERS)))
    emitted.wide = _needs_wide_sums(network)
    given, spikes = network.input_shape, network.code.binary
    _make_room(emitted, prod(given), spikes)
    reader = "read_spikes" if spikes else "read_numbers"
    emitted.helpers.append(reader)
    emitted.calls.append(f"int32_t count = {prefix}_{reader}(w, x);")
    for index, layer in enumerate(network.layers):
        scope = Layer(layer, prefix, idents.unique(layer.name), given, names)
        last = index == len(network.layers) - 1
        try:
            emitted.functions.append(_function(scope, emitted.wide, spikes=spikes, last=last))
        except Refusal as error:
            problem = Problem(layer.name, type(layer.neuron).__name__, error.reason, error.remedy)
            raise UnsupportedModelError([problem], "export the network to C") from error
        _collect(emitted, scope)
        call = f"{scope.function}(s, w, count{', y' if last else ''});"
        emitted.calls.append(call if last else f"count = {call}")
        given, spikes = layer.shape, not isinstance(layer.neuron, Relay)
        if not last:
            _make_room(emitted, prod(given), spikes)
    return emitted


def _check_input(network: IntegerNetwork) -> None:
    if max(-network.code.low, network.code.high) > _INPUT_MAX:
        problem = Problem("x", "input", f"numbers of {network.code}, more than 16 bits", "scale the input down")
        raise UnsupportedModelError([problem], "export the network to C")


def _needs_wide_sums(network: IntegerNetwork) -> bool:
    """Whether a sum of products could leave 32 bits on its way."""
    low, high = float(network.code.low), float(network.code.high)
    for layer in network.layers:
        a = synapse_interval(layer.synapse, low, high)
        if largest(a) >= 2**31:
            return True
        sent = sent_interval(layer.neuron, neuron_intervals(layer.neuron, a, network.horizon))
        low, high = max(sent[0], -STATE_MAX), min(sent[1], STATE_MAX)
    return False


def _make_room(emitted: Emitted, count: int, spikes: bool) -> None:
    emitted.places = max(emitted.places, count)
    emitted.values = emitted.values if spikes else max(emitted.values, count)


def _collect(emitted: Emitted, scope: Layer) -> None:
    emitted.layers.append(scope.seen)
    emitted.sums = max(emitted.sums, scope.size)
    emitted.estimates = max(emitted.estimates, scope.size if scope.looks_up else 0)
    emitted.members |= scope.members
    emitted.constants |= scope.constants
    emitted.helpers += scope.helpers


def _function(scope: Layer, wide: bool, *, spikes: bool, last: bool) -> str:
    """The text of a layer's function, its equations above it."""
    layer, numbers = scope.layer, isinstance(scope.layer.neuron, Relay)
    write_synapse(scope, spikes=spikes)
    bias = scope.of_channel(layer.synapse.bias, "bias")
    total = f"{scope.use('shifted_wide')}({scope.room}, 0)" if wide else scope.saturate(scope.room)
    scope.lines.append(f"const int32_t a = {total if bias == '0' else f'{total} + {bias}'};")
    sent = write_neuron(scope)
    scope.lines.append(f"const int32_t sent = {sent};")
    scope.lines.append(f"{scope.prefix.upper()}_SEE({scope.seen}, i, sent);")
    _send(scope, numbers=numbers, last=last)
    body = [f"    {line}" for line in scope.before]
    body += [line for lines in (*scope.loops, scope.lines) for line in _loop(scope, lines)]
    body += [f"    {line}" for line in scope.after]
    text = "\n".join(body)
    unused = [name for name, used in (("s", "s->"), ("count", "count")) if used not in text.replace("w->", "")]
    head = [f"    (void){name};" for name in unused]
    given = f"{scope.prefix}_state *s, {scope.prefix}_work *w, int32_t count"
    kind, tail = ("void", ", int32_t *y") if last else ("int32_t", "")
    start, end = ([], []) if last else (["    int32_t spiked = 0;"], ["    return spiked;"])
    signature = f"static {kind} {scope.function}({given}{tail}) {{"
    return "\n".join([_comment(scope), signature, *head, *start, text, *end, "}"])


def _send(scope: Layer, *, numbers: bool, last: bool) -> None:
    """What a neuron sends becomes an entry of the list; that of spikes is written by a loop of its own."""
    place = f"w->places[spiked] = ({scope.prefix}_place)i;"
    if last:
        scope.lines.append("y[i] = sent;")
    elif numbers:
        scope.lines += ["if (sent != 0) {", f"    {place}", "    w->values[spiked++] = sent;", "}"]
    else:
        scope.lines.append(f"{scope.room} = sent;")
        scope.next_loop()
        scope.lines += [place, f"spiked += (int32_t){scope.room};"]


def _loop(scope: Layer, own: list[str]) -> list[str]:
    if not scope.channel_last:
        lines = [f"        {line}" for line in own]
        return [f"    for (int32_t i = 0; i < {scope.size}; i++) {{", *lines, "    }"]
    each = scope.size // scope.channels
    return [
        f"    for (int32_t c = 0; c < {scope.channels}; c++) {{",
        f"        for (int32_t p = 0; p < {each}; p++) {{",
        f"            const int32_t i = c * {each} + p;",
        *(f"            {line}" for line in own),
        "        }",
        "    }",
    ]


def _comment(scope: Layer) -> str:
    layer = scope.layer
    kinds = f"{type(layer.synapse).__name__}, {type(layer.neuron).__name__}"
    head = f"{layer.name}: {kinds}, {scope.features_in} -> {layer.shape}"
    lines = "\n   ".join(in_comment(line) for line in (head, *scope.equations))
    return f"/* {lines} */"
