"""What a .net file is, and the limits of the hardware it imitates."""

from __future__ import annotations

TARGET = "lava"
SUFFIX = ".net"
FORMAT = "psu-deploy.lava/1"

GROUP = "psu_deploy"
"""Of the file: our own numbers and metadata; lava-dl does not look there."""

SIMULATORS = ("lava", "integer")
"""What runs a file: Lava in fixed point, or our own numpy."""

STATE_WORDS = 32
"""24-bit words of state up to which a neuron counts as made for a chip. A limit of ours: a core of Loihi 2 shares its
memory between its neurons, and a learned T x T matrix needs T words of it per neuron, and T^2 coefficients."""

WEIGHT_MAX = 127
MESSAGE_BITS = 24
"""Of a graded spike."""
