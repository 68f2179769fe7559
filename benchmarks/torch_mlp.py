"""An MLP on the demo's 15 inputs, in PyTorch: trained and exported as the post-mortem's team does it. Runs in PyTorch's own
environment (tests/support/torch_venv.py).

    python -m benchmarks.torch_mlp TRAINING.npz WEIGHTS.npz MODEL.onnx     npz: rows (n, 15), is_fraud (n,)
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

HIDDEN = (256, 128, 64)
EPOCHS, BATCH_ROWS = 3, 512


class Mlp(nn.Module):  # type: ignore[misc]
    """Scales its inputs, so that they come as the feature set gives them; (n, 2): genuine, fraud."""

    def __init__(self, mean: Any, deviation: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.as_tensor(deviation, dtype=torch.float32))
        sizes = (len(mean), *HIDDEN)
        layers = [part for size in pairwise(sizes) for part in (nn.Linear(*size), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 2))

    def logits(self, rows: Any) -> Any:
        return self.layers((rows - self.mean) / self.deviation)

    def forward(self, rows: Any) -> Any:
        return torch.softmax(self.logits(rows), dim=-1)


def load(weights: str) -> Mlp:
    with np.load(weights, allow_pickle=False) as arrays:
        model = Mlp(arrays["mean"], arrays["deviation"])
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return model.eval()


def train(rows: Any, is_fraud: Any) -> Mlp:
    torch.manual_seed(7)
    model = Mlp(rows.mean(axis=0), rows.std(axis=0) + 1e-6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs, labels = torch.from_numpy(rows), torch.from_numpy(is_fraud.astype(np.int64))
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(inputs)).split(BATCH_ROWS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model.logits(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model.eval()


def main(training: str, weights: str, model_path: str) -> None:
    with np.load(training, allow_pickle=False) as arrays:
        rows, is_fraud = arrays["rows"], arrays["is_fraud"]
    model = train(rows, is_fraud)
    np.savez(weights, **{name: value.numpy() for name, value in model.state_dict().items()})
    axes = {"input": {0: "batch"}, "probabilities": {0: "batch"}}
    torch.onnx.export(
        model,
        (torch.from_numpy(rows[:1]),),
        model_path,
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["probabilities"],
        dynamic_axes=axes,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
