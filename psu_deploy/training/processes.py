"""Which process of a run this one is: said by whoever started it, in its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from psu_deploy.errors import InputError
from psu_deploy.training.machines import Machines

LAUNCHER = "PSU_DEPLOY_LAUNCHER"
"""Process id of the process of a run that started this one."""

_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "JSM_NAMESPACE_SIZE")
_FIRST_PORT, _PORTS = 15_000, 10_000


@dataclass(frozen=True)
class Process:
    """One process of a run.

    Args:
        rank: its number among all, from 0. Process 0 checks the run folder and writes it.
        local_rank: its number on its machine; that of its GPU.
        node_rank: the number of its machine.
        address: machine of process 0.
        port: where process 0 listens there; 0 = it looks for a free one.
        launcher: who started it: "torchrun" (or anybody who sets the same variables), "srun", "psu-deploy" (the first
            process of this machine did), or "" (a person did: it starts the others of its machine).
    """

    rank: int
    local_rank: int
    node_rank: int
    address: str
    port: int
    launcher: str


def this_process(machines: Machines, environment: Mapping[str, str]) -> Process:
    """Which process of a run on these machines this one is.

    Raises:
        InputError: if it was started as one of more or fewer processes than the run has, or by somebody unknown, or
            the run has several machines and nobody said which one this is.
    """
    if all(name in environment for name in _TORCHRUN):
        return _of_torchrun(machines, environment)
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", 1)
    if tasks > 1:
        return _of_srun(machines, environment, tasks)
    for name in _MPI:
        if _number(environment, name, 1) > 1:
            raise InputError(f"this is one of {environment[name]} processes by {name}; start them by torchrun or srun")
    return _by_hand(machines, environment)


def _of_torchrun(machines: Machines, environment: Mapping[str, str]) -> Process:
    started = _number(environment, "WORLD_SIZE", 1)
    _check_count(
        machines, "torchrun", started, _number(environment, "LOCAL_WORLD_SIZE", min(started, machines.devices))
    )
    local = _number(environment, "LOCAL_RANK", 0)
    return Process(
        rank=_number(environment, "RANK", 0),
        local_rank=local,
        node_rank=(_number(environment, "RANK", 0) - local) // machines.devices,
        address=environment["MASTER_ADDR"],
        port=_number(environment, "MASTER_PORT", 0),
        launcher="psu-deploy" if LAUNCHER in environment else "torchrun",
    )


def _of_srun(machines: Machines, environment: Mapping[str, str], tasks: int) -> Process:
    _check_count(machines, "srun", tasks, tasks // _number(environment, "SLURM_STEP_NUM_NODES", 1))
    step = _number(environment, "SLURM_JOB_ID", 0) + _number(environment, "SLURM_STEP_ID", 0)
    hosts = environment.get("SLURM_STEP_NODELIST", "127.0.0.1")
    return Process(
        rank=_number(environment, "SLURM_PROCID", 0),
        local_rank=_number(environment, "SLURM_LOCALID", 0),
        node_rank=_number(environment, "SLURM_NODEID", 0),
        address=environment.get("MASTER_ADDR", first_host(hosts)),
        port=_number(environment, "MASTER_PORT", _FIRST_PORT + step % _PORTS),
        launcher="srun",
    )


def _by_hand(machines: Machines, environment: Mapping[str, str]) -> Process:
    if machines.num_nodes == 1:
        return Process(0, 0, 0, "127.0.0.1", 0, "")
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise InputError(
            f"a run on {machines.num_nodes} machines is started by torchrun or srun, or on every machine by hand with "
            f"NODE_RANK (from 0), MASTER_ADDR and MASTER_PORT (of machine 0) in the environment; there is no "
            f"{', '.join(missing)}"
        )
    node = _number(environment, "NODE_RANK", 0)
    if not 0 <= node < machines.num_nodes:
        raise InputError(f"NODE_RANK is {node}; with {machines.num_nodes} machines it is 0..{machines.num_nodes - 1}")
    port = _number(environment, "MASTER_PORT", 0)
    return Process(node * machines.devices, 0, node, environment["MASTER_ADDR"], port, "")


def first_host(hosts: str) -> str:
    """The first host of a list as SLURM writes them.

    >>> first_host("gpu[07-09,12],login1"), first_host("a1,a2")
    ('gpu07', 'a1')
    """
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", hosts).split(",")[0]


def _check_count(machines: Machines, launcher: str, started: int, on_each: int) -> None:
    if started != machines.processes or on_each != machines.devices:
        nodes = max(1, started // max(1, on_each))
        begins = f"{launcher} started {started} process(es), {on_each} on each machine; the run is for"
        raise InputError(
            f"{begins} devices={machines.devices} on num_nodes={machines.num_nodes}: pass devices={on_each}, "
            f"num_nodes={nodes}",
            shell=f"{begins} --devices {machines.devices} --num-nodes {machines.num_nodes}: pass --devices {on_each} "
            f"--num-nodes {nodes}",
        )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise InputError(f"{name} in the environment must be a whole number, got {text!r}")
    return int(text)
