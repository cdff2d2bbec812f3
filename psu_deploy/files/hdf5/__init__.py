"""HDF5 files of other people, read strictly and by another process first: what NIR and Lava have in common."""

from psu_deploy.files.hdf5.read import read_groups, tree_of, vouch_for

__all__ = ["read_groups", "tree_of", "vouch_for"]
