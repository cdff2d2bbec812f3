"""Neurons in one pass over their steps: fused operators for torch, and what computes them."""

from psu_deploy.nn.kernels import cpu, cuda
from psu_deploy.nn.kernels.choice import available, step_by_step

__all__ = ["available", "cpu", "cuda", "step_by_step"]
