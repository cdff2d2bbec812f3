"""Give a trained network what a target can express, for fine-tuning."""

from psu_deploy.preparation.entry import prepare, prepare_structure
from psu_deploy.preparation.record import LEVELS, Preparation
from psu_deploy.preparation.report import PreparationReport, PreparedLayer
from psu_deploy.preparation.targets import TARGETS

__all__ = ["LEVELS", "TARGETS", "Preparation", "PreparationReport", "PreparedLayer", "prepare", "prepare_structure"]
