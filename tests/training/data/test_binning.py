import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psu_deploy.errors import InputError
from psu_deploy.training.data.binning import Binning, CrowdedError, Events

SIZE = 6


def events(count: int, seed: int = 0, longest: int = 900_000) -> Events:
    draw = np.random.default_rng(seed)
    return Events(np.sort(draw.integers(0, longest, count)), draw.integers(0, SIZE, count))


@pytest.mark.nightly  # tonic takes four seconds to import
@pytest.mark.parametrize("kind", ["paper", "causal"])
@pytest.mark.parametrize(("count", "steps"), [(1, 3), (2, 1), (50, 7), (500, 15), (500, 1), (40, 63)])
def test_counts_are_those_of_tonic(kind: str, count: int, steps: int) -> None:
    from tonic.functional import to_frame_numpy

    drawn = events(count)
    structured = np.zeros(count, [("t", int), ("x", int), ("p", int)])
    structured["t"], structured["x"] = drawn.times, drawn.places
    how = (
        {"n_time_bins": steps}
        if kind == "paper"
        else {"time_window": 50_000, "start_time": 0, "end_time": 50_000 * steps}
    )
    theirs = to_frame_numpy(structured, (SIZE, 1, 1), **how)[:, 0]
    ours = Binning(kind, steps, 50.0).counts(drawn, SIZE)
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, theirs)


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, SIZE - 1)), max_size=60),
    st.integers(1, 9),
    st.sampled_from(["paper", "causal"]),
)
def test_counts_are_those_of_a_loop(pairs: list[tuple[int, int]], steps: int, kind: str) -> None:
    wanted = np.zeros((steps, SIZE), int)
    first, last = (min(t for t, _ in pairs), max(t for t, _ in pairs)) if pairs else (0, 0)
    width = (last - first) // steps if kind == "paper" else 120
    start = first if kind == "paper" else 0
    for t, place in pairs:
        for step in range(steps):
            if start + step * width <= t < start + (step + 1) * width:
                wanted[step, place] += 1
    times, places = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    assert np.array_equal(Binning(kind, steps, 0.12).counts(Events(times, places), SIZE), wanted)


def test_causal_counts_do_not_change_when_the_recording_goes_on() -> None:
    long = events(400)
    cut = long.times < 300_000
    short = Events(long.times[cut], long.places[cut])
    causal = Binning("causal", 15, 60.0)
    assert np.array_equal(causal.counts(long, SIZE)[:5], causal.counts(short, SIZE)[:5])
    paper = Binning("paper", 15, 60.0)
    assert not np.array_equal(paper.counts(long, SIZE)[:5], paper.counts(short, SIZE)[:5])


def test_only_the_binning_of_the_paper_is_not_streamable() -> None:
    assert "binning='causal'" in str(Binning("paper", 3, 1.0).not_streamable)
    assert Binning("causal", 3, 1.0).not_streamable is None


def test_more_events_than_a_byte_counts_are_refused() -> None:
    times = np.arange(257)
    assert Binning("causal", 1, 1.0).counts(Events(times[:255], 0 * times[:255]), 1)[0, 0] == 255
    with pytest.raises(CrowdedError, match="257 events in one place and one step, at most 255 are counted"):
        Binning("causal", 1, 1.0).counts(Events(times, 0 * times), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("other", 3, 1.0), "binning must be one of paper, causal, got 'other'"),
        (("paper", 0, 1.0), "steps must be at least 1"),
        (("causal", 3, 0.0), "bin_ms is a width in milliseconds and must be at least 0.001, got 0.0"),
        (("causal", 3, float("nan")), "bin_ms is a width"),
    ],
)
def test_refuses(arguments: tuple[str, int, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Binning(*arguments)
