"""The pictures of the concepts: one network two ways, the mask, latency and horizon, the house."""

from __future__ import annotations

from drawing import Drawing

STEPS = 6
_CELL = 26.0


def two_ways() -> str:
    """All steps at once on the left, one at a time on the right, the same spikes between them."""
    d = Drawing(720, 250, "A network in parallel and as a serial machine gives the same spikes")
    d.text(130, 22, "training: all steps at once", kind="big", anchor="middle")
    d.text(590, 22, "deployed: one step at a time", kind="big", anchor="middle")
    _triangle(d, 40, 50, None)
    d.text(40 + 3 * _CELL, 232, "V = A I, one product", anchor="middle", colour="mute")
    _column(d, 212, 50, "I", lit=range(STEPS))
    d.box(520, 96, 140, 64, "one step", "V, R in and out")
    d.arrow((660, 112), (700, 112), (700, 74), (590, 74), (590, 96), colour="v")
    d.text(645, 66, "state", kind="small", colour="v", anchor="middle")
    d.arrow((464, 128), (520, 128))
    d.text(468, 118, "I[t]", kind="code")
    d.arrow((590, 160), (590, 196))
    d.text(590, 213, "S[t]", kind="code", anchor="middle")
    d.text(590, 232, "two numbers per neuron", anchor="middle", colour="mute")
    d.text(350, 76, "the same spikes", anchor="middle", colour="s")
    for row, spikes in enumerate(([1, 0, 0, 1, 1, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1])):
        y = 108 + row * 28
        d.line([(280, y + 9), (420, y + 9)], colour="faint", width=1)
        for t, spike in enumerate(spikes):
            if spike:
                d.line([(290 + t * 24, y + 9), (290 + t * 24, y - 8)], colour="s", width=3)
    d.text(350, 212, "time", kind="small", colour="mute", anchor="middle")
    return d.svg()


def mask() -> str:
    """Row t of a lower triangular matrix sees nothing that comes later."""
    d = Drawing(720, 268, "Row t of a lower triangular matrix needs the inputs up to t only")
    row = 3
    d.text(40, 22, "A, lower triangular", kind="big")
    _triangle(d, 40, 40, row)
    d.text(32, 40 + (row + 0.65) * _CELL, "t", kind="code", anchor="end")
    _column(d, 220, 40, "I", lit=range(row + 1))
    d.text(268, 40 + 3.2 * _CELL, "=", kind="big")
    _column(d, 296, 40, "V", lit=[row])
    d.text(40, 224, "Above the diagonal stand zeros: the mask. So row t", colour="mute")
    d.text(40, 242, "is known when step t comes, and needs no later one.", colour="mute")
    d.text(410, 22, "the same row, one step at a time", kind="big")
    d.text(410, 60, "V[t] = sum of a (1-a)^(t-j) I[j],  j <= t", kind="code")
    d.text(450, 84, "= (1-a) V[t-1] + a I[t]", kind="code", colour="v")
    d.text(410, 108, "A leak remembers in one number.", colour="mute")
    d.text(410, 150, "learned row: sum of A[t, j] I[j]", kind="code")
    d.text(410, 174, "each I[j] is added, when it comes, to the sums", colour="mute")
    d.text(410, 192, "of all rows that wait: T - 1 of them, T steps.", colour="mute")
    d.text(410, 224, "A window of k steps waits with k - 1 sums;", colour="mute")
    d.text(410, 242, "m exponentials are m leaks, for ever.", colour="mute")
    return d.svg()


def latency() -> str:
    """A network that looks ahead by two steps answers two steps late; one with a learned matrix ends at T."""
    d = Drawing(720, 220, "Latency and horizon on a line of time")
    _steps(d, 40, "latency 2: what looks two steps ahead answers two steps late", lit=6, silent=2)
    for t in range(3):
        x, y = 60 + t * 70, 92 - t * 7
        d.arrow((x, 70), (x, y), (x + 140, y), (x + 140, 108), colour="r")
        d.text(x + 140, 121, f"y for x[{t}]", kind="small", anchor="middle")
    d.text(60 + 6.5 * 70, 84, "two steps of silence", kind="small", colour="mute", anchor="middle")
    _steps(d, 160, "horizon 6: a learned 6 x 6 matrix has no row for a seventh step", lit=6, silent=0)
    d.line([(60 + 5.5 * 70, 150), (60 + 5.5 * 70, 200)], colour="r", width=2)
    d.text(60 + 5.5 * 70 + 10, 184, "HorizonError: reset, then step 0", kind="code", colour="r")
    return d.svg()


def house() -> str:
    """The rooms, in the order in which data passes through them."""
    d = Drawing(760, 330, "From a torch module to a verified artifact: the rooms and what passes between them")
    d.box(24, 30, 126, 56, "nn, models", "torch modules")
    d.box(24, 120, 126, 56, "importers", "others' files")
    d.box(24, 210, 126, 56, "training", "a run folder")
    d.box(200, 30, 110, 56, "capture", "module -> graph")
    d.box(350, 30, 140, 56, "machine", "StateMachine, passes")
    for row, name in enumerate(("onnx", "c", "nir", "lava")):
        d.box(560, 10 + 44 * row, 180, 36, f"exporters/{name}")
        d.arrow((530, 58), (530, 28 + 44 * row), (560, 28 + 44 * row))
    d.line([(490, 58), (530, 58)], colour="mute")
    d.text(510, 50, "lower", kind="small", colour="mute", anchor="middle")
    d.box(560, 212, 180, 54, "runtime", "a runner on the real engine")
    d.box(350, 212, 140, 54, "verify", "a report")
    d.arrow((150, 58), (200, 58))
    d.arrow((310, 58), (350, 58))
    d.arrow((150, 148), (400, 148), (400, 86))
    d.arrow((24, 238), (8, 238), (8, 58), (24, 58))
    d.arrow((650, 178), (650, 212))
    d.text(642, 200, "emit", kind="small", colour="mute", anchor="end")
    d.text(658, 200, ".onnx .c .nir .net", kind="small", colour="mute")
    d.arrow((560, 239), (490, 239))
    d.arrow((440, 86), (440, 212))
    d.arrow((175, 58), (175, 239), (350, 239), dashed=True)
    d.text(262, 231, "spikes of the module", kind="small", colour="mute", anchor="middle")
    d.rect(24, 288, 716, 30, edge="faint", radius=6)
    d.text(
        382,
        308,
        "numerics, files, errors, text: what all rooms stand on; nothing there knows a neuron",
        anchor="middle",
    )
    return d.svg()


def _triangle(d: Drawing, left: float, top: float, row: int | None) -> None:
    for i in range(STEPS):
        for j in range(STEPS):
            fill = "card" if j > i else "on" if row in (None, i) else "faint"
            d.rect(left + j * _CELL, top + i * _CELL, _CELL - 2, _CELL - 2, fill=fill, radius=3)
            if j > i:
                d.text(left + j * _CELL + 12, top + i * _CELL + 16, "0", kind="small", colour="mute", anchor="middle")


def _column(d: Drawing, left: float, top: float, name: str, lit: object) -> None:
    assert hasattr(lit, "__contains__")
    d.text(left + 12, top - 6, name, kind="code", anchor="middle")
    for i in range(STEPS):
        d.rect(left, top + i * _CELL, _CELL - 2, _CELL - 2, fill="on" if i in lit else "faint", radius=3)


def _steps(d: Drawing, top: float, title: str, lit: int, silent: int) -> None:
    d.text(40, top - 18, title, kind="big")
    for t in range(lit + silent):
        d.rect(38 + t * 70, top, 44, 30, fill="on" if t < lit else "card", edge="" if t < lit else "faint", radius=4)
        d.text(60 + t * 70, top + 20, f"x[{t}]" if t < lit else "0", kind="code", anchor="middle")


PICTURES = {"two-ways": two_ways, "mask": mask, "latency": latency, "house": house}
"""File name -> what draws it."""
