"""Shapley values by their definition: every coalition, every background row. For a dozen players."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Value = Callable[[NDArray[np.float32]], NDArray[np.float64]]  # rows (n, features) -> what is explained (n,)


def shapley_values(
    value: Value, row: NDArray[np.float32], background: NDArray[np.float32], groups: Sequence[int], player_count: int
) -> NDArray[np.float64]:
    """Of one row (features,): what each player adds, on the mean over all orders in which the players may come. The worth of a
    coalition is the mean, over the background, of the value with the row's features in the places of its players."""
    coalitions = np.arange(2**player_count)
    is_in = (coalitions[:, None] >> np.arange(player_count) & 1).astype(bool)
    of_row = is_in[:, np.asarray(groups)]
    mixed = np.where(of_row[:, None, :], row, background[None, :, :])
    worth = value(mixed.reshape(-1, len(row))).reshape(len(coalitions), len(background)).mean(axis=1)
    size = is_in.sum(axis=1)
    orders = np.array(
        [math.factorial(k) * math.factorial(player_count - k - 1) / math.factorial(player_count) for k in range(player_count)]
    )
    values = np.empty(player_count)
    for player in range(player_count):
        without = coalitions[~is_in[:, player]]
        values[player] = orders[size[without]] @ (worth[without | 1 << player] - worth[without])
    return values
