"""Reasons that are nearly the same: of one relation, split and verdict the best scored stays.

MinHash with banding (Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3) over groups of four bytes. Whatever is found is compared whole, so that no text
is left out which is not near another; of those that are near, 99 in 100 are found, and more the nearer they are.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.common.leaks import words

#: Bytes of a group.
_GRAM = 4
_HASHES = 48
#: Share of texts as near as asked that banding finds at least.
_FOUND = 0.99
#: Texts whose hashes are computed together.
_BATCH = 2_000
#: Texts of a bucket that one more is compared with.
_COMPARED = 64
#: An estimate from `_HASHES` hashes is hardly ever so far off: three and a half standard deviations at 0.8.
_DOUBT = 0.2
_DRAWN = np.random.Generator(np.random.PCG64(26)).integers(0, 2**64, (2, _HASHES), dtype=np.uint64)
_FACTORS, _ADDED = _DRAWN[0] | np.uint64(1), _DRAWN[1]
_MIXED = np.uint64(0x9E3779B97F4A7C15)


class Group:
    """Texts among which near ones are one. It takes less than 2 kB for each."""

    def __init__(self) -> None:
        self._keys, self._order = array("Q"), array("d")
        self._texts, self._ends = bytearray(), array("Q", [0])

    def add(self, key: int, order: float, text: str) -> None:
        """Take a text up; of near ones that with the smallest order stays, then that with the smallest key."""
        # With a space around: a word's beginning and end are groups of their own.
        self._texts += f" {' '.join(words(text))} ".encode().ljust(_GRAM)
        self._ends.append(len(self._texts))
        self._keys.append(key)
        self._order.append(order)

    def left_out(self, likeness: float) -> npt.NDArray[np.uint64]:
        """Keys of texts whose Jaccard likeness to one that stays is as large, or larger."""
        keys = np.array(self._keys, np.uint64)
        order = np.lexsort((keys, np.array(self._order)))
        once: dict[bytes, int] = {}
        again = [place for place in order.tolist() if once.setdefault(self._text(place), place) != place]
        texts = list(once)
        near = [once[texts[one]] for one in _near(texts, likeness)]
        return np.sort(keys[np.array(again + near, np.int64)])

    def _text(self, place: int) -> bytes:
        return bytes(self._texts[self._ends[place] : self._ends[place + 1]])


def _near(texts: Sequence[bytes], likeness: float) -> list[int]:
    """Places of texts that are near one before them which stays."""
    signatures = np.concatenate(
        [_signatures(texts[begin : begin + _BATCH]) for begin in range(0, len(texts), _BATCH)]
        or [np.empty((0, _HASHES), np.uint32)]
    )
    keys, shared = _buckets(signatures, _rows_a_band(likeness))
    out: list[int] = []
    buckets: dict[int, list[int]] = {}
    for one in np.flatnonzero(shared.any(axis=1)).tolist():
        mine = keys[one][shared[one]].tolist()
        others = np.array(sorted({other for key in mine for other in buckets.get(key, ())}), np.int64)
        alike = (signatures[others] == signatures[one]).mean(axis=1)
        if any(_jaccard(texts[one], texts[other]) >= likeness for other in others[alike >= likeness - _DOUBT].tolist()):
            out.append(one)
            continue
        for key in mine:
            if len(stay := buckets.setdefault(key, [])) < _COMPARED:
                stay.append(one)
    return out


def _rows_a_band(likeness: float) -> int:
    """As many as still find `_FOUND` of the texts that are just as near: the fewer, the more are compared in vain."""
    fitting = [rows for rows in range(1, 9) if 1 - (1 - likeness**rows) ** (_HASHES // rows) >= _FOUND]
    return max(fitting, default=1)


def _signatures(texts: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """MinHashes (len(texts), hashes) of texts of four bytes or more."""
    raw = np.frombuffer(b"".join(texts), np.uint8).astype(np.uint64)
    grams = sum((raw[at : len(raw) - _GRAM + 1 + at] << np.uint64(8 * at) for at in range(_GRAM)), np.uint64(0))
    lengths = np.array([len(text) for text in texts])
    # A group that begins in a text's last three bytes ends in the next text.
    ends = np.cumsum(lengths)[:-1, None] - np.arange(1, _GRAM)
    grams = np.delete(grams, ends.ravel())
    begins = np.concatenate([[0], np.cumsum(lengths - _GRAM + 1)[:-1]])
    found = np.empty((len(texts), _HASHES), np.uint32)
    for number in range(_HASHES):
        hashed = (grams * _FACTORS[number] + _ADDED[number]) >> np.uint64(32)
        found[:, number] = np.minimum.reduceat(hashed, begins)
    return found


def _buckets(signatures: npt.NDArray[np.uint32], rows: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Each text's bucket in each band, and whether another text is in it too; both (texts, bands)."""
    bands = _HASHES // rows
    keys = np.empty((len(signatures), bands), np.uint64)
    shared = np.zeros(keys.shape, np.bool_)
    for band in range(bands):
        mixed = np.full(len(signatures), band, np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            mixed = (mixed ^ signatures[:, column]) * _MIXED
            mixed ^= mixed >> np.uint64(29)
        keys[:, band] = mixed
        _, which, count = np.unique(mixed, return_inverse=True, return_counts=True)
        shared[:, band] = count[which] > 1
    return keys, shared


def _jaccard(one: bytes, other: bytes) -> float:
    first, second = ({text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)} for text in (one, other))
    return len(first & second) / len(first | second)
