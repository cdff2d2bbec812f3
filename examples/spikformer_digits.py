"""Train a small Spikformer, a spiking transformer of PSU-family neurons, on handwritten digits; deploy it serially.

    python examples/spikformer_digits.py

Takes well under a minute. The digits are the 8 x 8 images of scikit-learn (the `train` extra), each shown four times.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import psu_deploy as psu
from psu_deploy.models import Spikformer, repeated
from psu_deploy.training.data import Split, digits

STEPS, EPOCHS, BATCH = 4, 5, 64


def images(split: Split) -> tuple[Tensor, Tensor]:
    """Digits as images (N, 1, 8, 8), and which they are (N,); the task has them column by column, (8, N, 8)."""
    columns, labels = map(torch.from_numpy, digits(split))
    return columns.permute(1, 2, 0)[:, None].contiguous(), labels


def train(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Ordinary gradient descent: attention is products of spikes, and spikes bring surrogate gradients."""
    batches = -(-len(x) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-2, total_steps=EPOCHS * batches)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(model(repeated(x[batch], STEPS)), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")


def main() -> None:
    """Train, export, verify, and answer serially."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network only waits for a second one
    model = Spikformer(
        "rpsu",
        T=STEPS,
        image_channels=1,
        size=8,
        patch=2,
        width=32,
        depth=1,
        heads=4,
        hidden=64,
        static=True,
    )
    train(model, *images("train"))

    x, labels = images("test")
    sequences = repeated(x, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        artifact = psu.export(model.eval(), Path(folder) / "spikformer.onnx", input_shape=model.input_shape)
        report = psu.verify(model, artifact, sequences[:, :24])
        print(report)
        answers = psu.load(artifact).run(sequences.numpy())[-1].argmax(1)
    print(f"\naccuracy of the serial model in onnxruntime: {(answers == labels.numpy()).mean():.1%}")
    assert report.ok


if __name__ == "__main__":
    main()
