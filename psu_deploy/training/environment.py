"""The processes of a run, in Lightning's words."""

from __future__ import annotations

from psu_deploy.training.processes import Process
from psu_deploy.training.quiet import quiet_import

with quiet_import():
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment


class TeamEnvironment(ClusterEnvironment):
    """Tells Lightning which process this is; all of them have joined before it is asked.

    Args:
        process: this one.
        processes: of the whole run.
    """

    def __init__(self, process: Process, processes: int) -> None:
        super().__init__()
        self._process = process
        self._processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """They are all there."""
        return True

    @property
    def main_address(self) -> str:
        """Machine of process 0."""
        return self._process.address

    @property
    def main_port(self) -> int:
        """Where process 0 listens."""
        return self._process.port

    @staticmethod
    def detect() -> bool:
        """It is never looked for, but given."""
        return False

    def world_size(self) -> int:
        """Processes of the whole run."""
        return self._processes

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        """Number of this process among all."""
        return self._process.rank

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return self._process.local_rank

    def node_rank(self) -> int:
        """Number of its machine."""
        return self._process.node_rank
