"""What so many co-buys a day need, by the roofline's formulas and measured figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from services.cli.planning import measured, roofline
from services.cli.planning.catalogue import Unknown, card, decoder
from services.cli.planning.day import BURST, MEAN, SECONDS, since_morning
from services.cli.planning.simulation import Pool
from services.common.relations import RELATIONS
from services.common.settings import Settings

_MINUTES = 24 * 60
#: Nothing waits any more an hour before the next morning.
_CLEAR_MINUTE = 23 * 60
JOBS = ("extractor", "generator", "filter")


@dataclass(frozen=True)
class Asked:
    """What is planned for. `new_share`: co-buys of a pair that was not judged before; the others end in the extractor.
    `new_products`: a day; None: as many as in the paper. `longest_wait`: seconds, before each pool.
    """

    cobuys: int
    model: str
    gpu: str
    new_share: float = 1.0
    new_products: float | None = None
    longest_wait: float = float(SECONDS)
    days: int = 30
    release_interval: float = Settings.model_fields["release_interval_seconds"].default
    replication: int = 3


@dataclass(frozen=True)
class Limit:
    """Something that starting more processes does not move."""

    what: str
    #: The day on which it is reached, from 1; infinite where it never is.
    day: float
    #: Co-buys a day with which it is reached on the last day that was asked for.
    cobuys: int
    mend: str


@dataclass(frozen=True)
class Plan:
    """What is needed. Bytes are decimal (GB: 1e9); GPU figures by model job, and for one pool that all share."""

    judged: int
    seconds: dict[str, float]
    together: int
    kv_tokens: int
    gpu_hours: dict[str, float]
    gpus: dict[str, int]
    shared_gpus: int
    workers: dict[str, int]
    partitions: int
    kafka_mb_a_second: float
    kafka_burst_mb_a_second: float
    kafka_gb_a_day: float
    kafka_gb_kept: float
    postgres_gb_a_day: float
    pictures_gb_a_day: float
    release_gb_a_day: float
    limits: list[Limit]


def plan(asked: Asked) -> Plan:
    """The plan.

    Raises:
        Unknown: the model or card is not known, or one does not fit in the other.
    """
    judged = math.ceil(asked.cobuys * asked.new_share)
    new_products = judged * measured.PRODUCTS_A_PAIR if asked.new_products is None else asked.new_products
    text, together = decoder(asked.model, card(asked.gpu)), _together(asked)
    work = {
        "extractor": new_products * roofline.features(text, together) / measured.COMPUTING_SHARE,
        "generator": judged * roofline.generated(text, together) / measured.COMPUTING_SHARE,
        "filter": judged * roofline.judged(text, together) / measured.COMPUTING_SHARE,
    }
    spare = capacity(asked.longest_wait)
    gpus = {job: _count(of / SECONDS * spare) for job, of in work.items()}
    workers = _workers(asked, judged, gpus, together, spare)
    by_day = _kafka_bytes(asked.cobuys, judged, new_products)
    kept = by_day * asked.replication * measured.RETENTION_DAYS
    return Plan(
        judged=judged,
        seconds={job: of / judged for job, of in work.items()},
        together=together,
        kv_tokens=together * roofline.GENERATED_TOKENS,
        gpu_hours={job: of / 3600 for job, of in work.items()},
        gpus=gpus,
        shared_gpus=_count(sum(work.values()) / SECONDS * spare),
        workers=workers,
        partitions=max(Settings.model_fields["topic_partitions"].default, *workers.values()),
        kafka_mb_a_second=by_day / SECONDS / 1e6,
        kafka_burst_mb_a_second=by_day / SECONDS / 1e6 * BURST / MEAN,
        kafka_gb_a_day=by_day / 1e9,
        kafka_gb_kept=kept / 1e9,
        postgres_gb_a_day=_row_bytes(judged, new_products) / 1e9,
        # A bound: a PNG of the largest side that does not compress at all.
        pictures_gb_a_day=new_products * 3 * Settings.model_fields["image_side"].default ** 2 / 1e9,
        release_gb_a_day=judged * len(RELATIONS) * measured.RELEASE_BYTES / 1e9,
        limits=_limits(asked, judged),
    )


def pools(made: Plan, *, shared: bool, gpus: dict[str, int] | None = None) -> list[Pool]:
    """The plan's model servers for a simulation; `gpus`: other numbers than the plan's."""
    if shared:
        number = made.shared_gpus if gpus is None else gpus["shared"]
        return [Pool("shared", number, made.together, sum(made.seconds.values()))]
    numbers = made.gpus if gpus is None else gpus
    return [Pool(job, numbers[job], made.together, made.seconds[job]) for job in JOBS]


@cache
def capacity(longest_wait: float) -> float:
    """Computing that a day needs against its mean, so that nothing waits an hour before its end, and nothing longer
    than so many seconds. Found by halving, of a queue that is a fluid.
    """
    low, high = 1.0, BURST / MEAN
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if _holds(middle, longest_wait) else (middle, high)
    return high


def _holds(rate: float, longest_wait: float) -> bool:
    waits = 0.0
    for minute in range(_CLEAR_MINUTE):
        waits = max(0.0, waits + (since_morning((minute + 0.5) / _MINUTES) - rate) * 60)
        if waits / rate > longest_wait:
            return False
    return waits == 0  # In the night, where no burst comes after it.


def _together(asked: Asked) -> int:
    on = card(asked.gpu)
    text = decoder(asked.model, on)
    weights = 2 * (text.parameters + text.hidden * text.vocabulary + measured.TOWER_PARAMETERS)
    room = on.memory * measured.MEMORY_SHARE - weights
    fit = int(room // (text.bytes_a_token * roofline.GENERATED_TOKENS))
    if fit < 1:
        raise Unknown(
            f"{asked.model} does not fit on {asked.gpu}: weights are {weights / 1e9:.0f} GB, and a co-buy's keys and "
            f"values {text.bytes_a_token * roofline.GENERATED_TOKENS / 1e9:.1f} GB more"
        )
    together: int = Settings.model_fields["server_together"].default
    return min(fit, together)


def _count(of: float) -> int:
    return max(1, math.ceil(of))


def _workers(asked: Asked, judged: int, gpus: dict[str, int], together: int, spare: float) -> dict[str, int]:
    """Replicas by stage: calls enough for its servers, and records enough for a burst where no model is waited for."""
    calls = Settings.model_fields["concurrency"].default
    burst = BURST / MEAN / SECONDS
    return {
        "cobuy": _count(asked.cobuys * burst / measured.WORKER_RECORDS),
        "extractor": max(
            _count(gpus["extractor"] * together / calls), _count(asked.cobuys * burst / measured.WORKER_RECORDS)
        ),
        **{job: _count(gpus[job] * together / calls) for job in ("generator", "filter")},
        # What comes to the sink is no more than the filter's servers compute.
        "kb_sink": _count(judged * spare / SECONDS * len(RELATIONS) / measured.SINK_INTENTIONS),
    }


def _kafka_bytes(cobuys: int, judged: int, new_products: float) -> float:
    """Written in a day, once; a purchase and an occurrence a co-buy."""
    size = measured.RECORD_BYTES
    every = size["purchases"] + size["purchases.by-customer"] + size["cobuys.occurrences"] + size["cobuys"]
    new = size["cobuys.featured"] + size["intentions.candidates"] + size["intentions.judged"]
    return cobuys * every + judged * new + new_products * (size["products"] + size["features"])


def _row_bytes(judged: int, new_products: float) -> float:
    size = measured.ROW_BYTES
    pair = size["kb.intentions"] * len(RELATIONS) + size["kb.pairs"] + size["extractor.admitted"]
    product = size["kb.products"] + size["extractor.products"] + size["extractor.features"]
    return judged * pair + new_products * product


def _limits(asked: Asked, judged: int) -> list[Limit]:
    """The nearest first."""
    a_cobuy = len(RELATIONS) * asked.new_share
    intentions = judged * len(RELATIONS)
    whole = asked.release_interval / measured.RELEASE_SECONDS
    a_day = measured.COPY_INTENTIONS * SECONDS
    found = [
        Limit(
            f"a release reads the whole KB in one process, and takes longer than the {asked.release_interval / 3600:g} "
            "hours between two",
            max(1.0, whole / intentions),
            int(whole / a_cobuy / asked.days),
            "a longer MINDSTREAM_RELEASE_INTERVAL_SECONDS (--release-hours)",
        ),
        Limit(
            "one PostgreSQL primary takes all intentions (a bare COPY's rate on two cores)",
            1.0 if intentions > a_day else math.inf,
            int(a_day / a_cobuy),
            "a faster primary, or an installation for each part of the catalogue",
        ),
    ]
    return sorted(found, key=lambda limit: (limit.day, limit.cobuys))
