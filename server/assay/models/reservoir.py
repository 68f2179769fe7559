"""A uniform sample of a stream, whatever its length (Li's algorithm L, 1994): what is not taken costs nothing but its count."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

_BELOW_ONE = math.nextafter(1.0, 0.0)  # so that its logarithm is finite, whatever number is drawn


class Reservoir(Generic[Item]):
    """At most `size` of the items that it was shown, each with the same probability."""

    def __init__(self, size: int, rng: random.Random) -> None:
        self.items: list[Item] = []
        self.seen_count = 0
        self._size = size
        self._rng = rng
        self._weight = 1.0
        self._next = size - 1  # place in the stream of the next item to take, once the sample is full
        self._skip()

    def show(self, items: Sequence[Item]) -> None:
        first = self.seen_count
        self.items += items[: self._size - len(self.items)]
        self.seen_count += len(items)
        while self._next < self.seen_count:
            self.items[self._rng.randrange(self._size)] = items[self._next - first]
            self._skip()

    # --- implementation ---

    def _skip(self) -> None:
        self._weight = min(_BELOW_ONE, self._weight * math.exp(-self._rng.expovariate(self._size)))
        self._next += 1 + math.floor(math.log(1.0 - self._rng.random()) / math.log1p(-self._weight))
