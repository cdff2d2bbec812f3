"""Train on a GPU if there is one, all time steps at once; deploy serially on the CPU.

    python examples/train_then_export.py

The task: which of two pulse trains, hidden in noise, is faster. A plain torch training loop, no framework.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import psu_deploy as psu

STEPS, INPUTS, CLASSES = 32, 4, 2


def pulse_trains(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences (T, N, 4) with a pulse every 4 or 6 steps on every input, at a random phase, and which it was (N,)."""
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    phase = torch.randint(12, (samples, INPUTS), generator=generator)
    period = 4 + 2 * labels
    steps = torch.arange(STEPS)[:, None, None]
    pulses = ((steps + phase) % period[:, None] == 0).float()
    return pulses + 0.2 * torch.randn(pulses.shape, generator=generator), labels


class Network(nn.Module):
    """PSU and RPSU layers; logits are the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = psu.SpikingSequential(
            *(nn.Linear(INPUTS, 48), nn.BatchNorm1d(48), psu.PSU(tau=3.0, threshold=0.5)),
            *(nn.Linear(48, 48), nn.BatchNorm1d(48), psu.RPSU(STEPS, threshold=0.5)),
            nn.Linear(48, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, 4) -> (B, 2)."""
        return self.layers(x).mean(0)


def train(model: nn.Module, device: str, generator: torch.Generator) -> None:
    """Ordinary gradient descent: the neurons bring surrogate gradients."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(120):
        x, labels = (tensor.to(device) for tensor in pulse_trains(64, generator))
        loss = nn.functional.cross_entropy(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 40 == 39:
            print(f"step {step + 1:3d}: loss {loss.item():.3f}")


def main() -> None:
    """Train, export, verify, and answer serially."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Network().to(device)
    print(f"training on {device}, {STEPS} steps at once")
    train(model, device, generator)

    x, labels = pulse_trains(256, generator)
    with tempfile.TemporaryDirectory() as folder:
        artifact = psu.export(model, Path(folder) / "pulses.onnx", input_shape=(INPUTS,))
        report = psu.verify(model, artifact, x)
        print(report)
        answers = psu.load(artifact).run(x.numpy())[-1].argmax(1)
    print(f"\naccuracy of the serial model in onnxruntime: {(answers == labels.numpy()).mean():.1%}")
    assert report.ok


if __name__ == "__main__":
    main()
