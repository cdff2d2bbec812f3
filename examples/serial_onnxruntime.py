"""A deployment machine: numpy and onnxruntime, nothing else. No torch, no psu_deploy.

    python examples/serial_onnxruntime.py model.onnx [x.npy]

x.npy is a sequence (T, B, ...), float32; without it, random spikes are used. The file says itself which state it
carries from step to step and what it starts from.
"""

import json
import sys

import numpy as np
import onnxruntime as ort


class Stepper:
    """Feeds a network one time step at a time and keeps its state."""

    def __init__(self, path: str) -> None:
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.states = json.loads(metadata["psu_deploy.states"])
        self.horizon = json.loads(metadata["psu_deploy.horizon"])  # None: any number of steps
        self.latency = json.loads(metadata["psu_deploy.latency"])  # steps between an input and its output
        self.input_shape = tuple(json.loads(metadata["psu_deploy.input"])["shape"])
        self.whole = json.loads(metadata.get("psu_deploy.sequence", "false"))  # a call takes (T, B, ...), not (B, ...)
        several = json.loads(metadata.get("psu_deploy.outputs", "[]"))  # a network with one calls it y
        self.answers = [output["value"] for output in several] or ["y"]
        self.outputs = [*self.answers, *(state["output"] for state in self.states)]

    def reset(self, batch_size: int) -> None:
        """Forget everything: the next step is step 0."""
        self.state = {
            s["input"]: np.full((batch_size, *s["shape"]) if s["batched"] else (), s["initial"], s["dtype"])
            for s in self.states
        }

    def step(self, x: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """(B, ...) -> (B, ...), or a list of all outputs; what goes out as state comes in again."""
        x = x[None] if self.whole else x
        results, n = self.session.run(self.outputs, {"x": x, **self.state}), len(self.answers)
        self.state = dict(zip(self.state, results[n:], strict=True))
        answers = [y[0] if self.whole else y for y in results[:n]]
        return answers[0] if n == 1 else answers


def main() -> None:
    """Step through a stream twice, with a reset between: the answers are the same."""
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/serial_onnxruntime.py model.onnx [x.npy]")
    stepper = Stepper(sys.argv[1])
    if len(sys.argv) > 2:
        x = np.load(sys.argv[2])
    else:
        steps = 32 if stepper.horizon is None else stepper.horizon - stepper.latency
        x = (np.random.default_rng(0).random((steps, 1, *stepper.input_shape)) < 0.3).astype(np.float32)
    print(f"state per sample: {[(s['name'], s['shape']) for s in stepper.states]}")

    # A network that looks ahead answers late: silence follows the sequence until its last answer is there.
    fed = np.concatenate([x, np.zeros((stepper.latency, *x.shape[1:]), x.dtype)])
    answers = []
    for _ in range(2):
        stepper.reset(batch_size=x.shape[1])
        for x_t in fed:
            y = stepper.step(x_t)
        answers.append(y if isinstance(y, list) else [y])
    for name, first, again in zip(stepper.answers, *answers, strict=True):
        print(f"{len(x)} steps, last {name}:\n{np.round(first, 4)}")
        assert np.array_equal(first, again)


if __name__ == "__main__":
    main()
