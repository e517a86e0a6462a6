"""What a delta is made on: a release and those that it was made on in turn, as what their rows say already."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common import datasets, storage
from services.common.datasets import BaseError
from services.common.leaks import batches, key, text_key
from services.common.settings import Settings
from services.kb_sink.release.numbers import Keys
from services.kb_sink.release.splits import SPLITS

_Chain = Sequence[tuple[str, dict[str, Any]]]


def chosen(settings: Settings) -> dict[str, Any]:
    """The settings that a release's rows follow from; a delta has those of its base."""
    return {
        "split": settings.release_split,
        "threshold": settings.release_threshold,
        "balance": settings.release_balance,
        "near": settings.release_near,
    }


def due(settings: Settings) -> str:
    """The id of the release that the next one is a delta to; empty where a full one is due.

    Raises:
        WorldFault: the storage is away.
    """
    newest = datasets.latest(settings.datasets_url) if settings.release_deltas else None
    if newest is None or newest.get("settings") != chosen(settings):
        return ""
    try:
        deltas = len(list(datasets.bases(newest["url"], newest)))
    except BaseError:
        return ""
    return str(newest["release_id"]) if deltas < settings.release_deltas else ""


class Base:
    """A few numbers for each row of a release and of its bases.

    What is new is what their files do not have: no clock is asked, and no order in which rows came into the KB.
    """

    def __init__(self, settings: Settings, release: str) -> None:
        """Read them.

        Raises:
            BaseError: there is no such release, a base of it is missing, or it was made with other settings.
            WorldFault: the storage is away.
        """
        url = f"{settings.datasets_url.rstrip('/')}/{release}"
        manifest = datasets.manifest(url)
        if not manifest:
            raise BaseError(f"{url} is no release: no delta can be made on it")
        if manifest.get("settings") != chosen(settings):
            changed = [name for name, value in chosen(settings).items() if manifest["settings"].get(name) != value]
            raise BaseError(f"{release} was made with other settings ({', '.join(changed)}): make a full release")
        self.chain = [(url, manifest), *datasets.bases(url, manifest)]
        with storage.world_faults("datasets", url):
            store, root = datasets.open_store(url)
            self.named = {
                "release_id": release,
                "manifest": datasets.digest(store.cat_file(f"{root}/{datasets.MANIFEST}")),
            }
            self._read(settings.release_split == "product")

    def _read(self, by_product: bool) -> None:
        ids: list[npt.NDArray[np.uint64]] = []
        verdicts: list[npt.NDArray[np.float64]] = []
        said: list[npt.NDArray[np.uint64]] = []
        texts: dict[str, list[npt.NDArray[np.uint64]]] = {split: [] for split in SPLITS}
        for url, manifest in self.chain:
            for split in SPLITS:
                for batch in batches(url, manifest, "judgement", split, ("id", "pair_id", "text", "score", "accepted")):
                    rows = batch.to_pydict()
                    ids.append(_keys(key, rows["id"]))
                    verdicts.append(
                        np.array([_verdict(*one) for one in zip(rows["score"], rows["accepted"], strict=True)])
                    )
                    said.append(_keys(lambda one: _said(*one), list(zip(rows["pair_id"], rows["text"], strict=True))))
                    if by_product:
                        texts[split].append(_keys(text_key, rows["text"]))
        self.texts = {split: Keys(parts) for split, parts in texts.items()}
        self._said, self._ids = Keys(said), Keys(ids)
        # Of an id that is there twice the newest holds, which comes first.
        _, first = np.unique(np.concatenate([np.empty(0, np.uint64), *ids]), return_index=True)
        self._verdicts = array("d", np.concatenate([np.empty(0), *verdicts])[first].tobytes())
        self._products = Keys(
            _keys(key, batch.column("id").to_pylist())
            for url, manifest in self.chain
            for split in SPLITS
            for batch in batches(url, manifest, "features", split, ("id",))
        )

    def has(self, intention: str, pair: str, sentence: str, score: float, accepted: bool) -> bool:
        """Whether it has an intention with this verdict, or the same said of the pair."""
        place = self._ids.place(key(intention))
        if place >= 0:
            return self._verdicts[place] == _verdict(score, accepted)
        return _said(pair, sentence) in self._said

    def newer(self, time: datetime) -> datetime:
        """A time, or that of its own newest judgement where that is later: what is made on it is no older."""
        own = datetime.fromisoformat(self.chain[0][1]["snapshot_at"])
        return max(time, own.astimezone(time.tzinfo))

    def has_product(self, row_id: str) -> bool:
        """Whether it has this row of `features`."""
        return key(row_id) in self._products


def _verdict(score: float, accepted: bool) -> float:
    """Both in one number."""
    return score if accepted else -1.0 - score


def _said(pair: str, sentence: str) -> int:
    return key(f"{pair}\0{text_key(sentence)}")


def _keys(of: Callable[[Any], int], values: Sequence[Any]) -> npt.NDArray[np.uint64]:
    return np.fromiter(map(of, values), np.uint64, len(values))
