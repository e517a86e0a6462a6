"""`mindstream plan`: what so many co-buys a day need, and how such a day goes."""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.common import InputError, one_line_errors, print_json

if TYPE_CHECKING:
    from services.cli.planning.plan import Asked, Plan
    from services.cli.planning.simulation import Day

_SCALES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_MOST = 10**11
_BAR = 40


@one_line_errors
def plan(
    cobuys_per_day: Annotated[str, typer.Option(help="Co-buys a day: 5000, 20K, 1M, 100M.")],
    model: Annotated[
        str, typer.Option(help="llava-hf/llava-1.5-7b-hf, llava-hf/llava-1.5-13b-hf, or a folder with a config.json.")
    ] = "llava-hf/llava-1.5-13b-hf",
    gpu: Annotated[str, typer.Option(help="h100, h200, a100 or l40s.")] = "h100",
    pools: Annotated[str, typer.Option(help="Model servers: shared by all jobs, or per-job.")] = "shared",
    new_share: Annotated[
        float, typer.Option(help="Share of co-buys whose pair was not judged before: only these reach the models.")
    ] = 1.0,
    new_products_per_day: Annotated[
        str, typer.Option(help="Products described for the first time, a day; as many as in the paper unless told.")
    ] = "",
    longest_wait_hours: Annotated[
        float, typer.Option(help="Longest wait for model servers; unless told, all is done by the next morning.")
    ] = 24.0,
    release_hours: Annotated[
        float | None, typer.Option(help="Time between dataset releases; the setting's default unless told.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days after which limits of growth are looked at.")] = 30,
    gpu_hour_price: Annotated[
        float | None, typer.Option(help="Price of a GPU-hour, in any currency; no costs unless told.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated day.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Partitions, replicas, GPUs, storage and a simulated day. Example: plan --cobuys-per-day 1M --gpu h100"""
    from services.cli.planning import plan as planning
    from services.cli.planning.catalogue import Unknown
    from services.cli.planning.simulation import simulate

    if pools not in ("shared", "per-job"):
        raise InputError(f"--pools {pools}: shared or per-job")
    _check("--new-share", new_share, 1e-6, 1)
    _check("--longest-wait-hours", longest_wait_hours, 1 / 60, 24)
    _check("--release-hours", 1 if release_hours is None else release_hours, 1 / 60, 24 * 366)
    _check("--days", days, 1, 36_600)
    _check("--gpu-hour-price", gpu_hour_price or 0, 0, 1e6)
    interval = planning.Asked.release_interval if release_hours is None else release_hours * 3600
    asked = planning.Asked(
        _number("--cobuys-per-day", cobuys_per_day, 1),
        model,
        gpu,
        new_share,
        _number("--new-products-per-day", new_products_per_day, 0) if new_products_per_day else None,
        longest_wait_hours * 3600,
        days,
        interval,
    )
    try:
        made = planning.plan(asked)
    except Unknown as unknown:
        raise InputError(str(unknown)) from None
    day = simulate(made.judged, planning.pools(made, shared=pools == "shared"), seed)
    gpus = made.shared_gpus if pools == "shared" else sum(made.gpus.values())
    cost = None if gpu_hour_price is None else {
        "price_a_gpu_hour": gpu_hour_price,
        "gpus_all_day": gpus * 24 * gpu_hour_price,
        "gpus_while_computing": sum(made.gpu_hours.values()) * gpu_hour_price,
    }  # fmt: skip
    if as_json:
        limits = [{**asdict(one), "day": one.day if math.isfinite(one.day) else None} for one in made.limits]
        print_json(
            {"asked": asdict(asked), "plan": {**asdict(made), "limits": limits}, "pools": pools, "cost": cost,
             "day": asdict(day)}
        )  # fmt: skip
        return
    _print(asked, made, pools, gpus, cost)
    _print_day(day)
    for number, limit in enumerate(made.limits):
        reached = f"on day {math.floor(limit.day):,}" if math.isfinite(limit.day) else "not at this rate"
        print(f"\n{'then' if number else 'first limit'}: {limit.what}")
        print(f"  reached {reached}; within {days:,} days from {limit.cobuys:,} co-buys a day; mend: {limit.mend}")


def _check(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # Nor is what is no number.
        raise InputError(f"{option} {value:g}: from {low:.6g} to {high:g}")


def _number(option: str, text: str, least: int) -> int:
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([KMB]?)", text.replace("_", "").replace(",", "").upper())
    value = float(found[1]) * _SCALES[found[2]] if found else math.nan
    if not (least <= value <= _MOST and value == int(value)):
        raise InputError(f"{option} {text}: a whole number from {least} to 100B, such as 5000, 20K or 1M")
    return int(value)


def _print(asked: Asked, made: Plan, pools: str, gpus: int, cost: dict[str, float] | None) -> None:
    def row(name: str, value: Any) -> None:
        print(f"{name:12} {value}")

    by_job = ", ".join(f"{job} {number:,}" for job, number in made.gpus.items())
    hours = ", ".join(f"{job} {of:,.1f}" for job, of in made.gpu_hours.items())
    row("co-buys", f"{asked.cobuys:,} a day, {made.judged:,} of them of new pairs")
    row("GPUs", f"{asked.gpu}, {asked.model}: {made.shared_gpus:,} shared, or by job {by_job}")
    row("", f"GPU-hours a day that are computed: {hours}")
    row("", f"seconds a co-buy {sum(made.seconds.values()):.3f} on one GPU, {made.together} calls together, "
        f"MINDSTREAM_KV_TOKENS={made.kv_tokens}")  # fmt: skip
    row("workers", ", ".join(f"{stage} {number:,}" for stage, number in made.workers.items()))
    row("partitions", f"MINDSTREAM_TOPIC_PARTITIONS={made.partitions}")
    row("Kafka", f"{made.kafka_mb_a_second:,.3f} MB/s written, {made.kafka_burst_mb_a_second:,.3f} in a burst; "
        f"{made.kafka_gb_a_day:,.2f} GB a day; {made.kafka_gb_kept:,.1f} GB kept")  # fmt: skip
    row("PostgreSQL", f"{made.postgres_gb_a_day:,.2f} GB a day, {made.postgres_gb_a_day * asked.days:,.0f} GB after "
        f"{asked.days} days")  # fmt: skip
    row("objects", f"at most {made.pictures_gb_a_day:,.2f} GB of pictures a day; a release grows by "
        f"{made.release_gb_a_day:,.2f} GB a day")  # fmt: skip
    if cost:
        row("cost", f"a day: {cost['gpus_all_day']:,.2f} for {gpus:,} GPUs ({pools}), "
            f"{cost['gpus_while_computing']:,.2f} if paid for while they compute")  # fmt: skip


def _print_day(day: Day) -> None:
    if day.most_waiting:
        print("\na day, from morning to morning: most co-buys waiting in each hour")
    else:
        print("\na day, from morning to morning: no co-buy ever waits")
    scale = _BAR / max(day.most_waiting, 1)
    for hour, waiting in enumerate(day.hourly if day.most_waiting else ()):
        print(f"{(hour + 6) % 24:02d}:00 {waiting:>15,} {'#' * math.ceil(waiting * scale)}".rstrip())
    print(f"computed {day.done:,} of {day.arrived:,} by the next morning, {day.waiting:,} wait then")
    if day.most_waiting:
        empty = "not within the day" if day.empty_again is None else f"at {_clock(day.empty_again)}"
        print(f"most waited before {day.slowest}; after the largest backlog nothing waits again {empty}")
    print(f"longest from co-buy to judgement: {'for ever' if day.longest is None else _took(day.longest)}")


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60) + 6 * 60
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _took(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
