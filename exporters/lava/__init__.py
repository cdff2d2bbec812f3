"""Lava: HDF5 in lava-dl's netx dialect, Loihi-2-style fixed point, run in Lava's CPU simulator."""
