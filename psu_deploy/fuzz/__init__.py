"""Random networks over the whole vocabulary, on every target, against float64: what fails is made small and kept.

draw.py, neurons.py, layers.py, profiles.py, grow.py and options.py make a case (case.py) of a seed and a number;
judge.py tries it (oracle.py, exact.py, resuming.py), in a process of its own (worker.py, child.py); reduce.py makes a
failure small (smaller.py, simpler.py); run.py goes on until the time is up, and journal.py remembers how far it came.
"""
