"""Ready-made networks: plain torch modules over sequences (T, B, features)."""

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
