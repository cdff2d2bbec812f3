"""Neurons in one pass over their steps: fused operators for torch, and what computes them."""
