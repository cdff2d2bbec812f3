"""Train, give the network eight-bit weights, fine-tune, and run it in Lava in 24-bit fixed point.

    psu-deploy lava setup                       # once
    python examples/fixed_point_in_lava.py

Without Lava the last comparison is left out: the integer reference computes the same numbers.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import psu_deploy as psu

STEPS, INPUTS, CLASSES = 20, 12, 3


def patterns(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spikes (T, N, 12) that run up, down, or nowhere along the inputs, and which it was (N,)."""
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    phase = torch.randint(INPUTS, (samples,), generator=generator)
    place = (phase + (labels - 1) * torch.arange(STEPS)[:, None]) % INPUTS
    spikes = nn.functional.one_hot(place, INPUTS).float()
    noise = torch.rand(spikes.shape, generator=generator) < 0.05
    return torch.maximum(spikes, noise.float()), labels


class Network(nn.Module):
    """Two spiking layers; logits are the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = psu.SpikingSequential(
            *(nn.Linear(INPUTS, 64), nn.BatchNorm1d(64), psu.RPSU(STEPS, threshold=0.3)),
            *(nn.Linear(64, 64), nn.BatchNorm1d(64), psu.PSU(tau=4.0, threshold=0.3)),
            nn.Linear(64, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, 12) -> (B, 3)."""
        return self.layers(x).mean(0)


def train(model: nn.Module, steps: int, generator: torch.Generator) -> None:
    """Ordinary gradient descent."""
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=5e-3)
    for _ in range(steps):
        x, labels = patterns(64, generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()
    model.eval()


def main() -> None:
    """Train, prepare, fine-tune, export, verify."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Network()
    train(model, 100, generator)
    print(psu.prepare(model, target="lava"))
    train(model, 50, generator)

    x, labels = patterns(64, generator)
    with tempfile.TemporaryDirectory() as folder:
        artifact = psu.export(
            model, Path(folder) / "net.net", target="lava", input_shape=(INPUTS,), calibration=x.numpy()
        )
        integers = psu.load(artifact, simulator="integer")
        print(integers.report)
        try:
            runner = psu.load(artifact)
        except psu.MissingExtraError as error:
            print(f"not run in Lava: {error}")
            runner = integers
        report = psu.verify(model, runner, x)
        print(report)
    answers = torch.from_numpy(runner.run(x.numpy())[-1]).argmax(1)
    with torch.no_grad():
        before = model(x).argmax(1)
    print(f"\naccuracy in floating point {(before == labels).float().mean():.1%}, ", end="")
    print(f"{runner.name} {(answers == labels).float().mean():.1%}")
    assert report.ok


if __name__ == "__main__":
    main()
