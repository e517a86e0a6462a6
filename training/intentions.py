"""Whether a model's own reasons are the true ones, where the truth is known: the held-out part of a made-up shop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ablations.intervals import Part
from models.demo import lessons
from models.demo.jobs import Model
from models.demo.shop import Pair
from services.common.media import MediaStore
from services.common.relations import BY_NAME
from services.common.settings import Settings
from services.generator.server import completed
from services.lvlm.engine import Branch, Engine, Prefix
from services.lvlm.pictures import opened, stacked
from training import rows


def fits(pair: Pair, relation: str) -> bool:
    """Whether the relation says something true of the pair."""
    return lessons.intention(pair, relation) != lessons.NOTHING


def true(pair: Pair, relation: str, text: str) -> bool:
    """Whether a text has the words of a true reason; those of the relation's own phrase are none."""
    said = text.lower().partition(BY_NAME[relation].phrase)
    return any(key in (said[2] or said[0]) for key in lessons.key(pair, relation))


def asked_as_trained(
    engine: Engine, settings: Settings, manifest: dict[str, Any], truth: Mapping[str, Pair], split: str
) -> dict[str, Part]:
    """Of each pair how many answers to the split's `generation` rows are true, of how many; rows that fit alone.

    Raises:
        WorldFault: the storage of the release or of the pictures is away.
    """
    media = MediaStore(settings.media_url)
    columns = ["pair_id", "relation", "messages", "image_digests"]
    told = sorted(rows.table(manifest, "generation", split, columns), key=lambda row: str(row["pair_id"]))
    found = {}
    for pair_id, group in groupby(told, key=lambda row: str(row["pair_id"])):
        pair = truth[pair_id]
        asked = [row for row in group if fits(pair, row["relation"])]
        if asked:
            found[pair_id] = _part(engine, settings, media, pair, asked)
    return found


def _part(
    engine: Engine, settings: Settings, media: MediaStore, pair: Pair, asked: Sequence[dict[str, Any]]
) -> Part:  # fmt: skip
    digests = asked[0]["image_digests"]
    pictures = [opened(media.get(digest), settings.image_max_pixels) for digest in digests] if len(digests) == 2 else []
    prefix = Prefix("", (stacked(pictures),) if pictures else ())
    branches = [Branch(row["messages"][0]["content"], stop="\n") for row in asked]
    answers, _ = engine.complete(prefix, branches, settings.max_new_tokens)
    right = [true(pair, row["relation"], answer.text) for row, answer in zip(asked, answers, strict=True)]
    return sum(right), len(right)


def asked_by_the_pipeline(model: Model, truth: Mapping[str, Pair]) -> dict[str, Part]:
    """The same by the pipeline's prompts, features first, under every relation that fits."""
    found: dict[str, Part] = {}
    for pair_id, pair in truth.items():
        views = model.views(pair)
        said = [one for one in model.generated(pair, views)[0] if fits(pair, one.relation)]
        if said:
            found[pair_id] = (sum(true(pair, one.relation, completed(one.text)) for one in said), len(said))
    return found
