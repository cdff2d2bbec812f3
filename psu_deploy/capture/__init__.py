"""The bridge: torch modules on one side, state machines on the other."""

from psu_deploy.capture import nir
from psu_deploy.capture.layers import ConversionError, Converter
from psu_deploy.capture.modes import floating_like
from psu_deploy.capture.module_trace import trace_module
from psu_deploy.capture.trace import to_state_machine

__all__ = ["ConversionError", "Converter", "floating_like", "nir", "to_state_machine", "trace_module"]
