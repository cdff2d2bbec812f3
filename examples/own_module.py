"""Your own torch module, with a skip connection, as a verified serial ONNX model.

python examples/own_module.py
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import psu_deploy as psu

STEPS, CHANNELS, LENGTH, CLASSES = 12, 2, 16, 5


class MyNetwork(nn.Module):
    """Works on sequences, time first: (T, B, 2, 16) -> logits (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        # psu.Lift applies a stateless layer to every step at once; neurons see the whole sequence.
        self.stem = psu.Lift(nn.Sequential(nn.Conv1d(CHANNELS, 8, 3, padding=1), nn.BatchNorm1d(8)))
        self.stem_neuron = psu.RPSU(STEPS, threshold=0.5)
        self.block = psu.Lift(nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8), nn.Dropout(0.1)))
        self.block_neuron = psu.IPSU(STEPS, threshold=0.2)
        self.head = nn.Linear(8 * LENGTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: the mean over time of the head's output."""
        spikes = self.stem_neuron(self.stem(x))
        spikes = spikes + self.block_neuron(self.block(spikes))
        return self.head(spikes.flatten(2)).mean(0)


def main() -> None:
    """Capture, export, verify, step."""
    torch.manual_seed(0)
    model = MyNetwork()
    x = 4 * torch.randn(STEPS, 8, CHANNELS, LENGTH)
    model(x)  # one pass in training mode, so that BatchNorm has statistics; a real network would be trained here

    machine = psu.to_state_machine(model, input_shape=(CHANNELS, LENGTH))
    print(machine.summary(), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        artifact = psu.export(machine, Path(folder) / "net.onnx")
        report = psu.verify(model, artifact, x)
        print(report)
        assert report.ok

        runner = psu.load(artifact)
        runner.reset(batch_size=8)
        for x_t in x.numpy():
            y = runner.step(x_t)  # after the last step, y is the mean over time: the module's answer
    with torch.no_grad():
        difference = (torch.from_numpy(y) - model.eval()(x)).abs().max().item()
    print(f"\nlast step of the serial machine vs the parallel module: {difference:.1e}")


if __name__ == "__main__":
    main()
