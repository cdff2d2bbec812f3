"""Causal operators: linear maps along time, shared by all neurons of a layer.

Row t of a causal operator looks at steps <= t only, so each has two equal forms:

* parallel: `forward` maps a whole sequence (T, B, ...) at once, with autograd;
* serial: `recurrence()` gives the coefficients of the step-by-step form.

`matrix(T)` and `bias(T)` give the operator as plain numbers in float64, `y = matrix @ x + bias`,
to check either form against.
"""

from psu_deploy.nn.temporal.base import CausalOperator, Recurrence
from psu_deploy.nn.temporal.exponentials import Exponentials
from psu_deploy.nn.temporal.leak import Identity, Leak, StrictLeak
from psu_deploy.nn.temporal.masked import MaskedMatrix
from psu_deploy.nn.temporal.matrix import CausalMatrix, Init
from psu_deploy.nn.temporal.window import SlidingWindow

__all__ = [
    "CausalMatrix",
    "CausalOperator",
    "Exponentials",
    "Identity",
    "Init",
    "Leak",
    "MaskedMatrix",
    "Recurrence",
    "SlidingWindow",
    "StrictLeak",
]
