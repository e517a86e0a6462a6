"""A release's rows as examples to learn from, once the release is known to be whole."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.common import datasets
from services.common.media import MediaStore
from services.common.storage import world_faults
from training.errors import TrainingError

#: Configurations that have one right answer a row; `preference` has two, for other ways of training.
KINDS = ("features", "generation", "judgement", "intent-understand", "intent-utilize")
#: Pictures that a row of a kind shows: none where it has fewer, as in the pipeline, which shows a pair's two or none.
_PICTURES = {"features": 1, "generation": 2, "judgement": 2}
#: What an example is. `pictures` are digests of the media store; those of a pair are stacked.
SCHEMA = pa.schema(
    [("id", pa.string()), ("kind", pa.string()), ("prompt", pa.string()), ("answer", pa.string()),
     ("pictures", pa.list_(pa.string()))]
)  # fmt: skip
_LOOKS = 16


def verified(url: str) -> dict[str, Any]:
    """The manifest of a release, with its `url` and the `sha256` of the manifest itself.

    Raises:
        TrainingError: there is none, it is unfinished, or anything in it is not as its manifest says.
        WorldFault: the storage is away.
    """
    try:
        files, root = datasets.open_store(url)
    except (ValueError, ImportError) as error:  # No such kind of storage, or its driver is not installed.
        raise TrainingError(f"{url}: {error}") from None
    if wrong := datasets.verify(url):
        more = f" (and {len(wrong) - 1} more: mindstream datasets verify {url})" if len(wrong) > 1 else ""
        raise TrainingError(f"{url} is not a whole release: {wrong[0]}{more}")
    with world_faults("datasets", url):
        raw = files.cat_file(f"{root}/{datasets.MANIFEST}")
    return {**json.loads(raw), "url": url, "sha256": hashlib.sha256(raw).hexdigest()}


def table(manifest: dict[str, Any], config: str, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of one configuration and split, in the order of their shards.

    Raises:
        WorldFault: the storage is away.
    """
    url = manifest["url"]
    with world_faults("datasets", url):
        files, root = datasets.open_store(url)
        for name in sorted(fnmatch.filter(manifest["files"], f"{config}/{split}-*.parquet")):
            with files.open(f"{root}/{name}", "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(columns=columns):
                    yield from batch.to_pylist()


def examples(manifest: dict[str, Any], kinds: Sequence[str], split: str = "train", pictures: bool = True) -> pa.Table:
    """Examples of these kinds, by SCHEMA.

    Raises:
        TrainingError: a kind is none of KINDS, or the release has no row of any.
        WorldFault: the storage is away.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise TrainingError(f"no kind {kind!r} to train on; there are {', '.join(KINDS)}")
    batches = []
    for kind in dict.fromkeys(kinds):
        shown = _PICTURES.get(kind, 0) if pictures else 0
        columns = ["id", "messages", *(["image_digests"] if shown else [])]
        made = [_example(row, kind, shown) for row in table(manifest, kind, split, columns)]
        batches.append(pa.Table.from_pylist(made, SCHEMA))
    found = pa.concat_tables(batches)
    if not found.num_rows:
        raise TrainingError(f"{manifest['url']} has no row of {', '.join(kinds)} in its split {split}")
    return found


def _example(row: dict[str, Any], kind: str, shown: int) -> dict[str, Any]:
    prompt, answer = (message["content"] for message in row["messages"])
    digests = row["image_digests"] if shown else []
    return {
        "id": row["id"],
        "kind": kind,
        "prompt": prompt,
        "answer": answer,
        "pictures": digests if len(digests) == shown else [],
    }


def check_pictures(found: pa.Table, media: MediaStore, media_url: str) -> int:
    """See that every picture is there; how many there are.

    Raises:
        TrainingError: naming one that is missing, and a row that shows it.
        WorldFault: the media store is away.
    """
    shown_by = {
        digest: f"{row['kind']} {row['id']}" for row in found.select(["kind", "id", "pictures"]).to_pylist()
        for digest in row["pictures"]
    }  # fmt: skip
    digests = sorted(shown_by)
    with ThreadPoolExecutor(_LOOKS) as threads:
        missing = [digest for digest, there in zip(digests, threads.map(media.has, digests), strict=True) if not there]
    if missing:
        raise TrainingError(
            f"{len(missing)} of {len(digests)} pictures are not in MINDSTREAM_MEDIA_URL ({media_url}), such as "
            f"{missing[0]} of {shown_by[missing[0]]}; --no-pictures trains on words alone"
        )
    return len(digests)
