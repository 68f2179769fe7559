"""Trains a small transformer over 128 signals and exports it to ONNX. Needs torch, onnx and numpy, nothing of assay.

    python examples/sentinel_torch/train.py --data build/sentinel/training.npz --out build/sentinel/model.onnx

Each signal is a token: its value times a learned direction, plus a learned place. Two encoder layers look at all tokens together.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

SIGNALS = 128
SEED = 7


class Sentinel(nn.Module):
    """signals (n, 128) float32 -> chance of fraud (n, 1)."""

    def __init__(self, width: int = 32, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(SIGNALS, width) * 0.5)
        self.place = nn.Parameter(torch.randn(SIGNALS, width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)

    def margin(self, signals: torch.Tensor) -> torch.Tensor:
        tokens = signals.unsqueeze(-1) * self.direction + self.place
        return self.head(self.encoder(tokens).mean(dim=1))

    def forward(self, signals: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.margin(signals))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/sentinel/training.npz"))
    parser.add_argument("--out", type=Path, default=Path("build/sentinel/model.onnx"))
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    with np.load(arguments.data) as data:
        signals, is_fraud = torch.from_numpy(data["signals"]), torch.from_numpy(data["is_fraud"].astype(np.float32))
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums of several threads differ from run to run
    model = Sentinel()
    fit(model, signals, is_fraud, arguments.epochs)
    export(model, arguments.out)
    print(f"exported {arguments.out}, {arguments.out.stat().st_size:,} bytes")


def fit(model: Sentinel, signals: torch.Tensor, is_fraud: torch.Tensor, epochs: int) -> None:
    """Adam, cross entropy, rows in another order in each epoch."""
    steps = epochs * (len(signals) // 128 + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss()
    for epoch in range(epochs):
        start, total, batches = time.monotonic(), 0.0, 0
        for places in torch.randperm(len(signals)).split(128):
            optimiser.zero_grad()
            loss = loss_of(model.margin(signals[places])[:, 0], is_fraud[places])
            loss.backward()
            optimiser.step()
            schedule.step()
            total, batches = total + loss.item(), batches + 1
        print(f"epoch {epoch + 1} of {epochs}: loss {total / batches:.4f} ({time.monotonic() - start:.0f} s)", flush=True)


def export(model: Sentinel, path: Path) -> None:
    """Opset 17, the batch axis free. The fused encoder of PyTorch's inference path has no ONNX operator, so it is turned off."""
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    torch.onnx.export(
        model,
        (torch.zeros(2, SIGNALS),),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["signals"],
        output_names=["score"],
        dynamic_axes={"signals": {0: "batch"}, "score": {0: "batch"}},
    )


if __name__ == "__main__":
    main()
