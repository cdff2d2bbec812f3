"""What a NIR file means, in float64 numpy. Nothing here calls the package.

A file: forward Euler, `v += dt/tau*(v_leak - v + r*I)`, edges summed, edges that lead back one step late, spike where
`v > v_threshold`, then `v = v_reset`.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def simulate(graph, x, dt):
    """Every node's value at every step, name -> (T, B, *features)."""
    late = back_edges(graph.edges, "input")
    order = topological([edge for edge in graph.edges if edge not in late], graph.nodes)
    sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    states = {name: {} for name in graph.nodes}
    before, rows = {}, []
    for now in x.astype(np.float64):
        values = {"input": now}
        for name in order:
            if name != "input":
                terms = [before.get(a) if (a, name) in late else values[a] for a in sources[name]]
                total = sum(term for term in terms if term is not None)
                values[name] = advance(graph.nodes[name], total, states[name], dt)
        before = values
        rows.append(values)
    return {name: np.stack([values[name] for values in rows]) for name in order}


def back_edges(edges, start):
    """Edges that lead to a node on the way from the start: a walk in depth, whatever the order."""
    children, late, done = {}, set(), set()
    for a, b in edges:
        children.setdefault(a, []).append(b)

    def walk(name, way):
        for child in children.get(name, []):
            if child in way:
                late.add((name, child))
            elif child not in done:
                walk(child, {*way, child})
        done.add(name)

    walk(start, {start})
    return late


def topological(edges, names):
    """Names, every source before its sinks."""
    missing = {name: {a for a, b in edges if b == name} for name in names}
    order = []
    while missing:
        ready = [name for name, sources in missing.items() if not sources]
        assert ready, f"a cycle among {sorted(missing)}"
        order += ready
        missing = {name: sources - set(ready) for name, sources in missing.items() if name not in ready}
    return order


def depth_first(edges, name, seen=None):
    """Nodes in pre-order, as readers that walk the list of edges run them."""
    seen = [] if seen is None else seen
    seen.append(name)
    for a, b in edges:
        if a == name and b not in seen:
            depth_first(edges, b, seen)
    return seen


def p(node, name):
    return np.asarray(getattr(node, name), dtype=np.float64)


def advance(node, x, state, dt):
    """One step of one node."""
    match type(node).__name__:
        case "Output":
            return x
        case "Affine":
            return x @ p(node, "weight").T + p(node, "bias")
        case "Linear":
            return x @ p(node, "weight").T
        case "Scale":
            return x * p(node, "scale")
        case "Conv1d" | "Conv2d":
            assert int(node.groups) == 1
            numbers = (whole(getattr(node, name)) for name in ("stride", "padding", "dilation"))
            return convolve(x, p(node, "weight"), *numbers) + p(node, "bias").reshape(-1, *[1] * (x.ndim - 2))
        case "SumPool2d" | "AvgPool2d" as kind:
            size, stride, padding = (whole(getattr(node, name)) for name in ("kernel_size", "stride", "padding"))
            channels = x.shape[1]
            ones = np.eye(channels).reshape(channels, channels, 1, 1) * np.ones(size)
            return convolve(x, ones, stride, padding, (1, 1)) / (np.prod(size) if kind == "AvgPool2d" else 1)
        case "Flatten":
            return x.reshape(len(x), -1)
        case "Delay":
            steps = np.rint(p(node, "delay") / dt).astype(int)
            line = state.setdefault("line", [])
            line.append(x)
            late = [np.where(steps == n, old, 0.0) for n, old in enumerate(reversed(line))]
            return np.sum(late, axis=0)
        case "I":
            state["v"] = state.get("v", 0.0) + dt * p(node, "r") * x
            return state["v"]
        case "LI":
            return leak(state, "v", p(node, "tau"), p(node, "v_leak") + p(node, "r") * x, dt)
        case "Threshold":
            return (x > p(node, "threshold")).astype(float)
        case "IF":
            state["v"] = state.get("v", 0.0) + dt * p(node, "r") * x
            return fire(node, state)
        case "LIF":
            leak(state, "v", p(node, "tau"), p(node, "v_leak") + p(node, "r") * x, dt)
            return fire(node, state)
        case "CubaLIF":
            i = leak(state, "i", p(node, "tau_syn"), p(node, "w_in") * x, dt)
            leak(state, "v", p(node, "tau_mem"), p(node, "v_leak") + p(node, "r") * i, dt)
            return fire(node, state)
    raise AssertionError(node)


def leak(state, name, tau, target, dt):
    state[name] = state.get(name, 0.0) + dt / tau * (target - state.get(name, 0.0))
    return state[name]


def fire(node, state):
    spikes = state["v"] > p(node, "v_threshold")
    state["v"] = np.where(spikes, p(node, "v_reset"), state["v"])
    return spikes.astype(float)


def convolve(x, weight, stride, padding, dilation):
    """Cross-correlation of (B, C, ...) with (C', C, ...)."""
    axes = tuple(range(2, x.ndim))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in padding)])
    windows = sliding_window_view(padded, spans, axis=axes)
    steps = [slice(None, None, n) for n in (*stride, *dilation)]
    windows = windows[(slice(None), slice(None), *steps)]
    inside = [1, *range(x.ndim, 2 * x.ndim - 2)]
    return np.moveaxis(np.tensordot(windows, weight, axes=(inside, [1, *axes])), -1, 1)


def whole(value):
    return tuple(int(n) for n in np.atleast_1d(value))
