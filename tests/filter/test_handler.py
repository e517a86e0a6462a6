"""From features to verdicts through the real handlers and the real model server."""

from __future__ import annotations

from pathlib import Path

import pytest
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.features_pb2 import FeaturedCoBuy
from mindstream.events.v1.intention_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    CandidateIntentions,
    Intention,
    JudgedIntentions,
)
from prometheus_client import REGISTRY

from services.common.errors import EventFault, WorldFault
from services.common.media import MediaStore
from services.common.records import Record
from services.common.relations import RELATIONS
from services.common.runtime.stage import Finished, Handler, Stage
from services.common.runtime.worker import Worker
from services.common.settings import Settings
from services.filter.handler import Filter
from services.generator.handler import Generator
from tests.lvlm.fixtures import Served, png


def settings(served: Served, tmp_path: Path, **overrides: object) -> Settings:
    fields = {
        "generator_target": served.target,
        "filter_target": served.target,
        "media_url": f"file://{tmp_path}/media",
        **overrides,
    }
    return Settings(**fields)  # type: ignore[arg-type]


async def through(stage: Stage, handler: Handler, value: bytes) -> bytes:
    """The one record that a stage makes of one."""
    assert stage.start is not None
    assert stage.stop is not None
    await stage.start()
    try:
        (made,) = (await handler(Record("t", 1, 7, b"k", value))).outputs
        return made.value
    finally:
        await stage.stop()


def featured() -> FeaturedCoBuy:
    made = FeaturedCoBuy(pipeline_version="1")
    made.cobuy.pair_id, made.cobuy.product_a, made.cobuy.product_b = "a|b", "a", "b"
    for features, name in ((made.product_a, "cup"), (made.product_b, "saucer")):
        features.product_id, features.title, features.content_digest = name, f"A {name}", f"sha256:{name}"
    return made


async def test_a_co_buy_gets_one_candidate_and_one_verdict_per_relation(served: Served, tmp_path: Path) -> None:
    generator = Generator(settings(served, tmp_path))
    value = await through(generator.stage(), generator.featured, featured().SerializeToString())
    made = CandidateIntentions.FromString(value)
    assert [one.relation for one in made.candidates] == [relation.name for relation in RELATIONS]
    assert len({one.intention_id for one in made.candidates}) == len(RELATIONS)
    assert made.featured == featured()

    judge = Filter(settings(served, tmp_path))
    judged = JudgedIntentions.FromString(await through(judge.stage(), judge.candidates, value))
    assert [one.intention for one in judged.judged] == list(made.candidates)
    assert all((one.verdict == VERDICT_ACCEPTED) == (one.score >= 0.5) for one in judged.judged if one.intention.text)
    assert (judged.generated_by, judged.featured) == (made.generated_by, made.featured)
    assert judged.judged_by.prompt_version == "filter/v1"


@pytest.mark.parametrize(("threshold", "verdict"), [(0.0, VERDICT_ACCEPTED), (1.0, VERDICT_REJECTED)])
async def test_the_threshold_decides_and_an_empty_text_is_never_kept(
    served: Served, tmp_path: Path, threshold: float, verdict: int
) -> None:
    given = CandidateIntentions(featured=featured())
    given.candidates.append(Intention(intention_id="1", relation="UsedFor", text="drinking tea"))
    given.candidates.append(Intention(intention_id="2", relation="IsA"))
    judge = Filter(settings(served, tmp_path, filter_threshold=threshold))
    judged = JudgedIntentions.FromString(await through(judge.stage(), judge.candidates, given.SerializeToString()))
    first, empty = judged.judged
    assert (first.verdict, judged.threshold) == (verdict, threshold)
    assert 0 < first.score < 1
    assert (empty.score, empty.verdict) == (0, VERDICT_REJECTED)


async def test_what_is_in_the_kb_is_judged_once_more_and_not_counted_as_new(served: Served, tmp_path: Path) -> None:
    given = CandidateIntentions(featured=featured())
    given.candidates.append(Intention(intention_id="1", relation="UsedFor", text="drinking tea"))
    judge = Filter(settings(served, tmp_path))
    value = given.SerializeToString()
    judged = JudgedIntentions.FromString(await through(judge.stage(), judge.candidates, value))
    assert judge.stage().start is not None
    await judge.stage().start()  # type: ignore[misc]
    again = await judge.again(Record("intentions.again", 1, 7, b"k", value))
    await judge.stage().stop()  # type: ignore[misc]
    assert again.count is None
    (output,) = again.outputs
    assert (output.topic, output.key) == ("intentions.rejudged", b"a|b")
    found = JudgedIntentions.FromString(output.value)
    assert found.judged == judged.judged
    assert found.judged_by.model_version == judged.judged_by.model_version


async def test_verdicts_are_counted_when_they_are_committed(tmp_path: Path) -> None:
    given = CandidateIntentions(featured=featured(), candidates=[Intention(intention_id="1", relation="IsA")])
    record = Record("t", 1, 7, b"k", given.SerializeToString())
    own = Settings(media_url=f"file://{tmp_path}/media")
    judge = Filter(own)

    def counted() -> float:
        labels = {"relation": "IsA", "verdict": "rejected"}
        return REGISTRY.get_sample_value("mindstream_intentions_judged_total", labels) or 0

    before = counted()
    await judge.candidates(record)  # Tried in vain: the partition was lost, say.
    result = await judge.candidates(record)
    assert counted() == before
    Worker(judge.stage(), own)._count([Finished(record, result)])
    assert counted() == before + 1


async def test_faults_are_sorted(served: Served, tmp_path: Path) -> None:
    generator = Generator(settings(served, tmp_path))
    with pytest.raises(EventFault, match="not a FeaturedCoBuy"):
        await through(generator.stage(), generator.featured, b"\xff")
    pictured = featured()
    pictured.product_a.image_digest = "sha256:" + "0" * 64
    with pytest.raises(EventFault, match="no picture") as nowhere:
        await through(generator.stage(), generator.featured, pictured.SerializeToString())
    assert nowhere.value.reason == reasons.DEAD_LETTER_REASON_IMAGE
    # A picture that only the server does not see: its media store is another one, or behind.
    apart = Generator(settings(served, tmp_path, media_url=f"file://{tmp_path}/apart"))
    pictured.product_a.image_digest = MediaStore(f"file://{tmp_path}/apart").put(png("red"))
    with pytest.raises(WorldFault, match="MINDSTREAM_MEDIA_URL") as missing:
        await through(apart.stage(), apart.featured, pictured.SerializeToString())
    assert missing.value.kind == "media"
    away = Generator(settings(served, tmp_path, generator_target="127.0.0.1:1"))
    with pytest.raises(WorldFault):
        await through(away.stage(), away.featured, featured().SerializeToString())
