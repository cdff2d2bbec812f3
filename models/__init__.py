"""Ready-made networks: plain torch modules over sequences (T, B, features)."""

from psu_deploy.models.digits import NEURONS, DigitsNet

__all__ = ["NEURONS", "DigitsNet"]
