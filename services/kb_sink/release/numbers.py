"""Many 64-bit keys in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class Keys:
    """A set of keys, eight bytes each: a set of Python's takes ten times as much."""

    def __init__(self, parts: Iterable[npt.NDArray[np.uint64]] = ()) -> None:
        self._keys = array("Q", np.unique(np.concatenate([np.empty(0, np.uint64), *parts])).tobytes())

    def __contains__(self, key: int) -> bool:
        return self.place(key) >= 0

    def __len__(self) -> int:
        return len(self._keys)

    def place(self, key: int) -> int:
        """Where a key stands in their order; -1 where it is none of them."""
        place = bisect_left(self._keys, key)
        return place if place < len(self._keys) and self._keys[place] == key else -1
