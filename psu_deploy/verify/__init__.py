"""Proof that two runs of a network are the same, spike for spike, and an account of every difference."""

from psu_deploy.machine.ops.roundoff import Arithmetic
from psu_deploy.verify.alignment import aligned_run
from psu_deploy.verify.certificate import Certificate, Decision, Judge, certify
from psu_deploy.verify.compare import compare
from psu_deploy.verify.comparison import Answers, Comparison, LayerComparison, Rule
from psu_deploy.verify.merge import merge
from psu_deploy.verify.report import EquivalenceReport
from psu_deploy.verify.rounding import check_kinds

__all__ = [
    "Answers",
    "Arithmetic",
    "Certificate",
    "Comparison",
    "Decision",
    "EquivalenceReport",
    "Judge",
    "LayerComparison",
    "Rule",
    "aligned_run",
    "certify",
    "check_kinds",
    "compare",
    "merge",
]
