"""Runs of several processes: forked by `ranks.py`, each run once for all tests; and what decides who is who."""

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from psu_deploy.errors import InputError
from psu_deploy.models import CAUSAL
from psu_deploy.training import Recipe, train
from psu_deploy.training.crew import command
from psu_deploy.training.datamodule import SequenceData
from psu_deploy.training.journal import read_table
from psu_deploy.training.machines import Machines
from psu_deploy.training.processes import Process, this_process
from psu_deploy.training.samples import Samples

RECIPE = {"neuron": "rpsu", "epochs": 3, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.05}
PREPARED = RECIPE | {"epochs": 1, "deploy_for": "lava"}
TORCHRUN = [
    {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    | {"MASTER_PORT": "PORT"}
    for rank in "01"
]
SRUN = [
    {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
    | {"SLURM_NODEID": "0", "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": "PORT"}
    for rank in "01"
]
BY_HAND = [{"NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "PORT"} for rank in "01"]
PLANS: list[dict[str, Any]] = [
    {"name": "one", "devices": 1},
    {"name": "two", "devices": 2},
    {"name": "killed", "devices": 2, "kill": [1, 1, 1]},
    {"name": "resumed", "folder": "killed", "devices": 2, "options": {"resume": True}},
    {"name": "refused", "folder": "two", "devices": 2},
    {"name": "one prepared", "devices": 1, "recipe": PREPARED},
    {"name": "torchrun", "devices": 2, "recipe": PREPARED, "environments": TORCHRUN},
    {"name": "refused torchrun", "folder": "torchrun", "devices": 2, "environments": TORCHRUN},
    {"name": "orphaned", "devices": 2, "kill": [0, 1, 1]},
    {"name": "alone", "folder": "orphaned", "devices": 1, "options": {"resume": True}},
    {"name": "short", "folder": "srun", "devices": 1, "recipe": RECIPE | {"epochs": 1}},
    {"name": "srun", "devices": 2, "options": {"overwrite": True}, "environments": SRUN},
    {"name": "by hand", "devices": 1, "options": {"num_nodes": 2}, "environments": BY_HAND},
    {"name": "lost", "devices": 2, "kill": [0, 0, 1], "environments": TORCHRUN},
    {"name": "diverged", "devices": 2, "poison": [1, 1, 0], "environments": TORCHRUN},
    {"name": "hung", "devices": 2, "kill": [1, 0, 1], "hang": [0, 0, 1]},
    {"name": "left behind", "devices": 2, "kill": [0, 0, 1], "hang": [1, 0, 1]},
    {"name": "interrupted", "devices": 2, "kill": [0, 0, 1], "signal": "SIGINT"},
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Name of a run -> exit codes, what was said, seconds, folder."""
    root = tmp_path_factory.mktemp("ranks")
    plans = [{"recipe": RECIPE, **plan, "folder": str(root / plan.get("folder", plan["name"]))} for plan in PLANS]
    (root / "plan.json").write_text(json.dumps(plans))
    script = Path(__file__).with_name("ranks.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, root / "plan.json"], env=environment, check=True, timeout=280)
    results = json.loads((root / "results.json").read_text())
    return {plan["name"]: results[plan["name"]] | {"folder": Path(plan["folder"])} for plan in plans}


def weights(run: dict[str, Any]) -> dict[str, np.ndarray]:
    return load_file(run["folder"] / "weights.safetensors")


def assert_alike(first: dict[str, Any], second: dict[str, Any], tolerance: float) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.full
class TestRuns:
    def test_two_processes_learn_what_one_does(self, runs: Any) -> None:
        """The sum of a batch is rounded in another order; nothing else differs."""
        assert runs["two"]["codes"] == [0]
        assert_alike(runs["two"], runs["one"], 1e-6)
        rows, expected = (read_table(runs[name]["folder"] / "log.csv") for name in ("two", "one"))
        assert [row.keys() for row in rows] == [row.keys() for row in expected]
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other, abs=1e-6)
            assert 0 < row["rate/layers.1"] < 1

    def test_they_say_nothing(self, runs: Any) -> None:
        assert {name: runs[name]["said"] for name in ("one", "two", "torchrun", "srun")} == dict.fromkeys(
            ("one", "two", "torchrun", "srun"), ""
        )

    def test_every_process_returns_the_result(self, runs: Any) -> None:
        for name in ("two", "torchrun", "srun"):
            folder = runs[name]["folder"]
            said = [json.loads((folder / f"result{rank}.json").read_text()) for rank in "01"]
            assert said[0] == said[1] == json.loads((folder / "metrics.json").read_text())

    def test_a_killed_process_ends_the_run_in_one_sentence(self, runs: Any) -> None:
        for name in ("killed", "hung"):  # and where process 0 waits for it, as NCCL does
            assert runs[name]["codes"] == [2]
            assert runs[name]["said"] == (
                "error: process 1 of the run was ended by SIGKILL; the run folder holds everything up to its last "
                "whole epoch; go on from there with --resume\n"
            )
            assert runs[name]["seconds"] < 60

    def test_it_goes_on_as_if_it_had_never_stopped(self, runs: Any) -> None:
        assert runs["resumed"]["codes"] == [0]
        assert_alike(runs["resumed"], runs["two"], 0)
        assert [row["epoch"] for row in read_table(runs["resumed"]["folder"] / "log.csv")] == [0, 1, 2]

    def test_without_process_0_the_others_end(self, runs: Any) -> None:
        assert runs["orphaned"]["codes"] == [-9]
        assert {name for name, run in runs.items() if not run["ended"]} == set()

    def test_a_refusal_is_one_sentence(self, runs: Any) -> None:
        assert runs["refused"]["codes"] == [2]
        assert runs["refused"]["said"].startswith(f"error: there is a run in {runs['two']['folder']} already; add")
        assert runs["refused"]["said"].count("\n") == 1

    def test_a_refusal_reaches_processes_that_are_there_already(self, runs: Any) -> None:
        assert runs["refused torchrun"]["codes"] == [2, 2]
        assert sorted(
            line.split(" of ")[0].split(" in ")[0] for line in runs["refused torchrun"]["said"].splitlines()
        ) == [
            "error: process 0",
            "error: there is a run",
        ]

    def test_a_prepared_network(self, runs: Any) -> None:
        assert runs["torchrun"]["codes"] == [0, 0]
        assert_alike(runs["torchrun"], runs["one prepared"], 1e-5)
        assert len(read_table(runs["torchrun"]["folder"] / "tuned.csv")) == 1

    def test_tasks_of_slurm_and_overwriting(self, runs: Any) -> None:
        assert runs["srun"]["codes"] == [0, 0]
        assert_alike(runs["srun"], runs["two"], 0)

    def test_two_machines_by_hand(self, runs: Any) -> None:
        assert runs["by hand"]["codes"] == [0, 0]
        assert_alike(runs["by hand"], runs["two"], 0)

    def test_one_process_goes_on_where_two_were(self, runs: Any) -> None:
        assert runs["alone"]["codes"] == [0]
        assert_alike(runs["alone"], runs["one"], 1e-6)

    def test_who_was_started_by_somebody_else_says_so_itself(self, runs: Any) -> None:
        assert runs["lost"]["codes"] == [-9, 2]
        assert runs["lost"]["said"].startswith(
            "error: another process of the run ended or cannot be reached any more ("
        )
        assert runs["lost"]["said"].count("\n") == 1

    def test_where_one_diverges_all_end(self, runs: Any) -> None:
        """And process 0 says so, though its own numbers are right."""
        assert runs["diverged"]["codes"] == [2, 2]
        other, first = sorted(runs["diverged"]["said"].splitlines())
        assert other == "error: process 0 of the run could not go on; it says why"
        assert first == (
            "error: the training diverged: layers.0.weight of the network holds NaN or infinity after epoch 2 of 3; "
            "the checkpoint of the epoch before is kept; begin anew by --overwrite, with a learning_rate below 0.05"
        )
        assert [row["epoch"] for row in read_table(runs["diverged"]["folder"] / "log.csv")] == [0]
        assert torch.load(runs["diverged"]["folder"] / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0

    def test_ctrl_c_ends_all(self, runs: Any) -> None:
        assert (runs["interrupted"]["codes"], runs["interrupted"]["said"]) == ([130], "interrupted\n")


@pytest.mark.nightly
@pytest.mark.parametrize("torchrun", [False, True])
def test_the_command_line(torchrun: bool, tmp_path: Path) -> None:
    """As a person starts it: the command runs itself again, or torchrun does."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2"] if torchrun else []
    recipe = [
        "--neuron",
        "lif",
        "--epochs",
        "1",
        "--set",
        "batch_size=8",
        "--task-file",
        Path(__file__).with_name("ranks.py"),
    ]
    options = ["--device", "cpu", "--devices", "2", "--strategy", "ddp", "--out", "run"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "psu_deploy", "train", "tiny", *recipe, *options],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert (tmp_path / "run" / "weights.safetensors").is_file()


# -- who is who --------------------------------------------------------------------------------------------------


def torchrun(rank: int, each: int = 2, nodes: int = 2) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank % each, "WORLD_SIZE": each * nodes, "LOCAL_WORLD_SIZE": each}
    return {name: str(value) for name, value in numbers.items()} | {"MASTER_ADDR": "gpu1", "MASTER_PORT": "29500"}


def srun(rank: int, each: int = 2, nodes: int = 2) -> dict[str, str]:
    step = {"SLURM_STEP_NUM_TASKS": each * nodes, "SLURM_STEP_NUM_NODES": nodes, "SLURM_JOB_ID": 123_456}
    place = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank % each, "SLURM_NODEID": rank // each, "SLURM_STEP_ID": 1}
    return {name: str(value) for name, value in (step | place).items()} | {"SLURM_STEP_NODELIST": "gpu[07-08]"}


FOUR = Machines("cpu", 2, 2)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (torchrun(3), Process(3, 1, 1, "gpu1", 29500, "torchrun")),
        (torchrun(1) | {"PSU_DEPLOY_LAUNCHER": "9"}, Process(1, 1, 0, "gpu1", 29500, "psu-deploy")),
        (srun(2), Process(2, 0, 1, "gpu07", 15_000 + 3457, "srun")),
        (srun(2) | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "7"}, Process(2, 0, 1, "10.0.0.1", 7, "srun")),
        ({"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "5"}, Process(2, 0, 1, "a", 5, "")),
    ],
)
def test_a_process_knows_which_one_it_is(environment: dict[str, str], expected: Process) -> None:
    assert this_process(FOUR, environment) == expected


def test_alone_unless_somebody_says_otherwise() -> None:
    alone = Process(0, 0, 0, "127.0.0.1", 0, "")
    batch_job_without_srun = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}
    for environment in ({}, batch_job_without_srun, {"LOCAL_RANK": "0"}):
        assert this_process(Machines("cpu"), environment) == alone
        assert this_process(Machines("cpu", 2), environment) == alone


@pytest.mark.parametrize(
    ("machines", "environment", "sentence"),
    [
        (
            Machines("cpu"),
            torchrun(0, 2, 1),
            r"torchrun started 2 .*devices=1.*: pass devices=2, num_nodes=1",
        ),
        (Machines("cpu", 4), torchrun(0), "pass devices=2, num_nodes=2"),
        (Machines("cpu"), srun(0, 4, 2), r"srun started 8 process\(es\), 4 on each.*pass devices=4, num_nodes=2"),
        (FOUR, {"MASTER_ADDR": "a"}, "there is no NODE_RANK, MASTER_PORT"),
        (
            FOUR,
            {"NODE_RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "5"},
            r"NODE_RANK is 2; with 2 machines it is 0",
        ),
        (FOUR, torchrun(0) | {"RANK": "one"}, "RANK in the environment must be a whole number, got 'one'"),
        (
            Machines("cpu", 2),
            {"OMPI_COMM_WORLD_SIZE": "2"},
            "one of 2 processes by OMPI_COMM_WORLD_SIZE; start",
        ),
    ],
)
def test_what_cannot_be(machines: Machines, environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        this_process(machines, environment)


def test_fsdp_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='strategy is "fsdp", which needs device "cuda"; on a CPU use "ddp"'):
        train(Recipe(), tmp_path, device="cpu", devices=2, strategy="fsdp")


def test_a_batch_is_divided_among_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size 7 is that of all 2 processes together; make it a multiple of 2"):
        train(Recipe(batch_size=7), tmp_path, device="cpu", devices=2)


def test_the_command_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["here/psu-deploy", "train", "--out", "a b"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert command() == [sys.executable, str(Path.cwd() / "here/psu-deploy"), "train", "--out", "a b"]
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", sys.__spec__)
    assert command() == [sys.executable, "-m", "sys", "train", "--out", "a b"]


@pytest.mark.parametrize("typed", ["-c", "-", ""])
def test_what_was_typed_into_python_cannot_be_run_again(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    with pytest.raises(InputError, match="put the code into a file and run that"):
        command()


def test_nor_can_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    with pytest.raises(InputError, match="put the code into a file and run that"):
        command()


@pytest.mark.parametrize("neuron", CAUSAL)
def test_every_parameter_takes_part(neuron: str) -> None:
    """DDP waits for the gradients of all."""
    network = Recipe(neuron=neuron, hidden=4).build_network()
    network(torch.rand(8, 2, 8)).sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


# -- who gets which samples --------------------------------------------------------------------------------------


class Rows:
    """A task whose samples are their own numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self, *_: Any) -> Samples:
        return Samples(np.arange(self.count, dtype=np.float32), np.zeros(self.count, np.int64))


def batches(count: int, batch: int, processes: int, split: str, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Process -> its batches, of the first epoch."""
    found = []
    for rank in range(processes):
        data = SequenceData(Rows(count), batch, seed=3)  # type: ignore[arg-type]
        monkeypatch.setattr(SequenceData, "_share", lambda _, rank=rank: (rank, processes))
        loader = data.train_dataloader() if split == "train" else data.val_dataloader()
        found.append([inputs.int().tolist() for inputs, _ in loader])
    return found


@pytest.mark.parametrize(("count", "batch", "processes"), [(7, 4, 2), (9, 8, 4), (5, 2, 2), (12, 4, 4), (3, 3, 3)])
def test_validation_counts_every_sample_once(count: int, batch: int, processes: int, monkeypatch: Any) -> None:
    found = batches(count, batch, processes, "validation", monkeypatch)
    assert sorted(row for own in found for rows in own for row in rows) == list(range(count))
    assert len({len(own) for own in found}) == 1
    assert all(rows for own in found for rows in own)


def test_too_few_samples_to_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="the validation split has 3 samples, too few for 4 processes"):
        batches(3, 4, 4, "validation", monkeypatch)


def test_batch_k_of_all_is_batch_k_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,) = batches(21, 8, 1, "train", monkeypatch)
    found = batches(21, 8, 4, "train", monkeypatch)
    together = [sorted(row for own in found for row in own[k]) for k in range(3)]
    assert together[:2] == [sorted(rows) for rows in alone[:2]]
    assert set(together[2]) >= set(alone[2])  # 5 samples for 4 processes: some twice
    assert len(together[2]) == 8
