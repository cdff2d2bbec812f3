"""A small machine, and input for it, to be exported in whole numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from tests import zoo
from tests.exporters.integers import oracle

T = 6


def x(T=T, B=2, seed=0):
    return (np.random.default_rng(seed).random((T, B, 4)) < 0.5).astype(np.float32)


def machine(*more):
    def linear(outputs, inputs):
        return ops.Linear(np.random.default_rng(inputs).normal(0, 1, (outputs, inputs)), np.zeros(outputs))

    return oracle.machine((4,), linear(8, 4), zoo.NEURONS["rpsu"], linear(3, 8), *more)


def refused(message, kind=psu.ArtifactError):
    return pytest.raises(kind, match=re.escape(message))
