"""Give a trained network what a target can express, for fine-tuning."""

from psu_deploy.preparation.entry import prepare, prepare_structure
from psu_deploy.preparation.report import PreparationReport, PreparedLayer
from psu_deploy.preparation.targets import LEVELS, TARGETS, Target

__all__ = ["LEVELS", "TARGETS", "PreparationReport", "PreparedLayer", "Target", "prepare", "prepare_structure"]
