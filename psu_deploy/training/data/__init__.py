"""Readers of data sets: files, or mathematics, in; `Samples` out. `catalogue` has the tasks they belong to."""

from psu_deploy.training.data.digits import digit_indices, digits, to_sequences
from psu_deploy.training.samples import Arrays, Split

__all__ = ["Arrays", "Split", "digit_indices", "digits", "to_sequences"]
