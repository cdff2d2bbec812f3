"""Firing thresholds moved inside the gaps that data leave around them, so that rounding turns fewer spikes."""

from psu_deploy.centring.entry import centre_thresholds
from psu_deploy.centring.report import CentredLayer, CentringReport

__all__ = ["CentredLayer", "CentringReport", "centre_thresholds"]
