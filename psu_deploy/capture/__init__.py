"""The bridge: torch modules on one side, state machines on the other."""

from psu_deploy.capture.conversion import Converter
from psu_deploy.capture.modes import floating_like
from psu_deploy.capture.module_trace import neuron_at, trace_module
from psu_deploy.capture.trace import to_state_machine
from psu_deploy.errors import Refusal

__all__ = ["Converter", "Refusal", "floating_like", "neuron_at", "to_state_machine", "trace_module"]
