"""Ready-made networks: plain torch modules over sequences (T, B, features).

>>> import torch
>>> from psu_deploy import models
>>> models.DigitsNet("rpsu")(torch.zeros(8, 4, 8)).shape
torch.Size([4, 10])
>>> sorted(models.NEURONS)
['ipsu', 'lif', 'masked_psn', 'plif', 'ppsu', 'psn', 'psu', 'rpsu', 'sliding_psn', 'spsn']
"""

from psu_deploy.models.cifarnet import CIFARNet, repeated
from psu_deploy.models.digits import DigitsNet
from psu_deploy.models.neurons import CAUSAL, NEURONS
from psu_deploy.models.resnet import ResNet18
from psu_deploy.models.sequential_cifar import SequentialCIFARNet, columns
from psu_deploy.models.shd import SHDNet
from psu_deploy.models.spikformer import Spikformer
from psu_deploy.models.vggsnn import VGGSNN
from psu_deploy.models.windowed import WindowedSNN, windows

__all__ = [
    "CAUSAL",
    "NEURONS",
    "VGGSNN",
    "CIFARNet",
    "DigitsNet",
    "ResNet18",
    "SHDNet",
    "SequentialCIFARNet",
    "Spikformer",
    "WindowedSNN",
    "columns",
    "repeated",
    "windows",
]
