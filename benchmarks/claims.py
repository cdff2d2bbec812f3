"""What the papers claim, and what this code gives on data that everybody has: trains, measures, writes docs/claims.md.

python benchmarks/claims.py                              # three seeds, about an hour on two cores; goes on where it was
python benchmarks/claims.py --seeds 7,8,9 --only long    # other seeds, one claim
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from operations import count_operations
from timing import rounds_of
from training_step import NEURONS

import psu_deploy as psu
from psu_deploy.files.atomic import write_whole
from psu_deploy.training import Recipe, Samples, Task, load_run, preset, register, test_data, train
from psu_deploy.training.folders import data_folder
from psu_deploy.training.journal import RATE, read_table
from psu_deploy.training.registry import make_task

DOCS = Path(__file__).parents[1] / "docs" / "claims.md"
LONG, SHORT, SMALL = "digits-pixels", "digits", "few-digits"


@dataclass(frozen=True)
class Trained:
    """One run.

    Args:
        accuracy: on the test split, 0..1.
        rate: spikes per neuron and step on the training split, in the last epoch.
        folder: of the run.
    """

    accuracy: float
    rate: float
    folder: Path


def few_digits(share: float = 0.1) -> Task:
    """Digits by columns with a part of the training split; the other splits are whole."""
    whole = make_task("digits", {})

    def read(split: str, folder: Path | None) -> Samples:
        samples = whole.read(split, folder)  # type: ignore[arg-type]
        if split != "train":
            return samples
        rows = np.random.default_rng(0).permutation(len(samples))[: round(share * len(samples))]
        return Samples(samples.inputs[rows], samples.labels[rows])

    return Task(read, whole.steps, whole.input_shape, whole.classes, whole.network)


@dataclass(frozen=True)
class Bench:
    """Where runs are kept, and which seeds there are."""

    folder: Path
    seeds: Sequence[int]

    def runs(self, task: str, neuron: str, **fields: object) -> list[Trained]:
        """One run per seed; what is there is not trained again."""
        return [self._run(preset(task, neuron, seed=seed, **fields)) for seed in self.seeds]

    def _run(self, recipe: Recipe) -> Trained:
        folder = self.folder / f"{recipe.task}-{recipe.neuron}-{recipe.seed}"
        if not (folder / "weights.safetensors").is_file() or load_run(folder).recipe != recipe:
            print(f"training {recipe.task} with {recipe.neuron}, seed {recipe.seed} ...", flush=True)
            train(recipe, folder, device="cpu", overwrite=True, progress=False, pictures=False)
        rows = read_table(folder / "log.csv")
        rates = [value for name, value in rows[-1].items() if name.startswith(RATE)]
        x, labels = test_data(recipe, data_folder(recipe.task, None))
        with torch.no_grad():
            hits = load_run(folder).model(torch.from_numpy(x)).argmax(1).numpy() == labels
        return Trained(float(hits.mean()), statistics.mean(rates), folder)


def long_sequences(bench: Bench) -> str:
    """A learned matrix remembers what a leak forgets."""
    runs = {neuron: bench.runs(LONG, neuron) for neuron in ("ipsu", "rpsu", "ppsu", "psu", "lif")}
    gap = 100 * (_mean(runs["ipsu"]) - _mean(runs["psu"]))
    return f"""## Long sequences

Claimed: learning how inputs and resets are weighed along time helps most where sequences are long.
Handwritten digits pixel by pixel, T = 64, 1-128-128-10, 15 epochs:

{_table(runs)}

**{"Holds" if gap >= 50 else "Does not hold as clearly"}**: IPSU is {gap:.0f} points above PSU. A neuron that only leaks has forgotten the upper rows when the lower ones come.
"""


def sparsity(bench: Bench) -> str:
    """Fewer spikes at equal accuracy."""
    runs = {neuron: bench.runs(SHORT, neuron) for neuron in ("psu", "rpsu", "ipsu", "lif", "spsn")}
    rates = {neuron: statistics.mean(run.rate for run in of) for neuron, of in runs.items()}
    x = test_data(preset(SHORT))[0]
    operations = {neuron: count_operations(load_run(of[0].folder).model, x) for neuron, of in runs.items()}
    below = [name.upper() for name in ("psu", "rpsu") if rates[name] < rates["lif"]]
    head = "| neuron | test accuracy, % | spikes per neuron and step | accumulates per step | multiply-accumulates per step | nJ per step |"
    rows = [
        f"| {name.upper()} | {_percent(of)} | {rates[name]:.3f} | {operations[name].accumulates:,.0f} | "
        f"{operations[name].multiplies:,.0f} | {operations[name].nanojoules():.1f} |"
        for name, of in runs.items()
    ]
    verdict = f"{' and '.join(below)} below LIF" if below else "neither PSU nor RPSU is below LIF"
    return f"""## Sparsity, and what it would cost

Claimed: PSU and RPSU fire less than LIF at equal accuracy or better; SPSN fires densely.
Handwritten digits by columns, T = 8, 8-128-128-10, 30 epochs. The last three columns are **estimates** (`benchmarks/operations.py`; constants in
`benchmarks/energy.yaml`, yours to replace): arithmetic only, no memory.

{head}
|---|---|---|---|---|---|
{chr(10).join(rows)}

**{"Holds" if len(below) == 2 else "Does not hold here"}**: {verdict} (LIF {rates["lif"]:.3f}). SPSN fires {rates["spsn"] / rates["psu"]:.1f} times as often as PSU.
A parallel unit updates R at every step, spike or no spike: per neuron it costs more than LIF, and in a network as small as this that is not nothing.
"""


def small_data(bench: Bench) -> str:
    """Few samples."""
    register(SMALL, few_digits)
    fields = {"epochs": 60, "batch_size": 32, "hidden": 128, "dropout": 0.2}
    runs = {neuron: bench.runs(SMALL, neuron, **fields) for neuron in ("psu", "rpsu", "ipsu", "lif")}
    better = [name.upper() for name in ("psu", "rpsu", "ipsu") if _mean(runs[name]) >= _mean(runs["lif"])]
    return f"""## Small data

Claimed: the units do well where data is scarce. Handwritten digits by columns, a tenth of the training split (126 images), 60 epochs:

{_table(runs)}

**{"Holds" if len(better) == 3 else "Holds in part" if better else "Does not hold here"}**: {", ".join(better) or "none of them"} at least as good as LIF.
"""


def storage(bench: Bench) -> str:
    """State."""
    rows = []
    for neuron in ("psu", "ipsu", "rpsu", "lif", "sliding_psn"):
        cells = []
        for steps in (8, 64, 256):
            layer = psu.SpikingSequential(psu.models.neurons.neuron_maker(neuron, steps)())
            state = psu.to_state_machine(layer, (1,)).initial_state(1)
            counters = sum(value.nbytes for name, value in state.items() if value.ndim == 0)
            cells.append((sum(value.nbytes for value in state.values()) - counters) // 4)
        rows.append(f"| {neuron} | {' | '.join(map(str, cells))} |")
    return f"""## Storage

Claimed: the serial form keeps a constant number of values per neuron. Numbers of state per neuron, measured on exported machines:

| neuron | T = 8 | T = 64 | T = 256 |
|---|---|---|---|
{chr(10).join(rows)}

**Holds for PSU; fails for IPSU and RPSU**: row t of a learned T x T matrix needs every input before, as partial sums or as a history. T + 1 numbers per neuron,
where a sum of r exponentials (`temporal="exponentials"`) keeps r and is what NIR gets.
"""


def cost(bench: Bench) -> str:
    """Time against T."""
    lengths, wanted = (4, 8, 16, 32, 64), ("SpikingJelly LIF", "LIF", "T x T PSU", "PSU")
    times = {T: rounds_of({name: NEURONS[name] for name in wanted}, T, 5, 1024, "cpu")[0] for T in lengths}
    milliseconds = {T: {name: statistics.median(values) for name, values in of.items()} for T, of in times.items()}
    rows = [
        f"| {name} | {' | '.join(f'{milliseconds[T][name]:.2f}' for T in lengths if name in milliseconds[T])} |"
        for name in wanted
    ]
    gains = [milliseconds[T]["LIF"] / milliseconds[T]["PSU"] for T in lengths]
    return f"""## Cost against the number of steps

Claimed (Fig. 4): all steps at once train faster than a loop, more so with every step. Milliseconds, forward and backward of one layer, (T, 32, 512)
float32, one thread of a CPU; `python benchmarks/training_step.py --figure --device cuda` on a GPU:

| | {" | ".join(f"T = {T}" for T in lengths)} |
|---|{"---|" * len(lengths)}
{chr(10).join(rows)}

**Against a loop in Python it holds; against a loop that is one kernel it does not**: "LIF" and "PSU" are fused here, each a single pass over the input, and cost
{min(gains):.1f} to {max(gains):.1f} of each other. The T x T product of the paper falls behind with T: its work grows with T^2. What a GPU saves is launches.
"""


CLAIMS: dict[str, Callable[[Bench], str]] = {
    "long": long_sequences,
    "sparsity": sparsity,
    "small": small_data,
    "storage": storage,
    "cost": cost,
}


def _table(runs: dict[str, list[Trained]]) -> str:
    rows = [
        f"| {name.upper()} | {_percent(of)} | {', '.join(f'{100 * run.accuracy:.1f}' for run in of)} |"
        for name, of in runs.items()
    ]
    return "\n".join(["| neuron | test accuracy, % | each seed |", "|---|---|---|", *rows])


def _mean(runs: Sequence[Trained]) -> float:
    return statistics.mean(run.accuracy for run in runs)


def _percent(runs: Sequence[Trained]) -> str:
    spread = statistics.stdev(run.accuracy for run in runs) if len(runs) > 1 else 0.0
    return f"{100 * _mean(runs):.1f} ± {100 * spread:.1f}"


def _header(seeds: Sequence[int]) -> str:
    return f"""# Claims

What arXiv 2402.00449 claims, and what this code gives on data that everybody has, misses included. Written by
`python benchmarks/claims.py --seeds {",".join(map(str, seeds))}`; mean ± standard deviation over the seeds. The equations are the paper's, not those of its authors' code.

torch {torch.__version__}, {platform.machine()}, Python {platform.python_version()}.
"""


def main() -> None:
    """Train what is not there yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--only", choices=CLAIMS, help="one claim, printed and not written")
    parser.add_argument("--runs", type=Path, default=Path("runs/claims"), help="folder for the runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.runs, [int(seed) for seed in arguments.seeds.split(",")])
    if arguments.only:
        print(CLAIMS[arguments.only](bench))
        return
    sections = [claim(bench) for claim in CLAIMS.values()]
    write_whole(DOCS, "\n".join([_header(bench.seeds), *sections]).encode())
    print(f"wrote {DOCS}")


if __name__ == "__main__":
    main()
