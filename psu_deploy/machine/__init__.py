"""The deployment side: a network as plain data, serial in time. Knows neither torch modules nor targets."""

from psu_deploy.machine.graph import Node, StateTensor
from psu_deploy.machine.state_machine import StateMachine
from psu_deploy.machine.trace import Trace

__all__ = ["Node", "StateMachine", "StateTensor", "Trace"]
