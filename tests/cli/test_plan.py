"""The plan: more never needs less, its GPUs are enough and half of them are not, and no event is lost in the day."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.planning import measured
from services.cli.planning.catalogue import CARDS, MODELS
from services.cli.planning.day import BURST, MEAN, NIGHT, SECONDS, shape, since_morning
from services.cli.planning.plan import JOBS, Asked, Plan, capacity, plan, pools
from services.cli.planning.roofline import Decoder, alone, generated
from services.cli.planning.simulation import Pool, simulate
from services.common import topics

SMALL, LARGE = "llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"
DOCUMENT = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()
RUNS = re.findall(r"```console\n\$ mindstream plan (.+?)\n(.*?)```", DOCUMENT, re.S)
COBUYS = st.integers(1, 10**9) | st.integers(1, 10**5)
MODEL, CARD = st.sampled_from(sorted(MODELS)), st.sampled_from(sorted(CARDS))
DAYS = settings(max_examples=25, deadline=None)


def needs(made: Plan) -> dict[str, float]:
    """All that a plan asks for, by name."""
    flat: dict[str, float] = {}
    for name, value in asdict(made).items():
        if name in ("limits", "seconds", "together", "kv_tokens"):  # Not of how many co-buys there are.
            continue
        flat.update({f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value})
    return flat


@settings(deadline=None)
@given(one=COBUYS, more=COBUYS, model=MODEL, gpu=CARD, share=st.floats(0.01, 1), products=st.none() | st.floats(0, 1e8))
def test_more_cobuys_never_need_less_of_anything(
    one: int, more: int, model: str, gpu: str, share: float, products: float | None
) -> None:
    less, most = (
        plan(Asked(cobuys, model, gpu, new_share=share, new_products=products)) for cobuys in sorted((one, more))
    )
    for name, value in needs(most).items():
        assert value >= needs(less)[name] * (1 - 1e-12), name
    for limit in less.limits:
        assert next(other for other in most.limits if other.what == limit.what).day <= limit.day
    assert most.seconds["generator"] == pytest.approx(less.seconds["generator"])


@DAYS
@given(
    cobuys=st.integers(1, 60_000),
    numbers=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 16), st.floats(0, 20)), min_size=1, max_size=3),
    seed=st.integers(0, 9),
)
def test_no_event_is_lost_or_doubled(cobuys: int, numbers: list[tuple[int, int, float]], seed: int) -> None:
    made = [Pool(f"pool {at}", *of) for at, of in enumerate(numbers)]
    day = simulate(cobuys, made, seed)
    assert day.arrived == cobuys == day.done + day.computing + day.waiting
    assert min(day.done, day.computing, day.waiting) >= 0
    assert day.most_waiting == max(day.hourly) >= day.waiting
    assert (day.longest is None) == any(pool.gpus == 0 for pool in made)
    assert day == simulate(cobuys, made, seed)


@DAYS
@given(cobuys=COBUYS, model=MODEL, gpu=CARD, shared=st.booleans(), seed=st.integers(0, 99))
@example(10**8, LARGE, "h100", True, 0)
@example(10**8, LARGE, "h100", False, 0)
@example(10**6, SMALL, "l40s", False, 1)
def test_the_plans_gpus_bring_the_backlog_back_to_zero_within_the_day(
    cobuys: int, model: str, gpu: str, shared: bool, seed: int
) -> None:
    made = plan(Asked(cobuys, model, gpu))
    day = simulate(made.judged, pools(made, shared=shared), seed)
    assert day.empty_again is not None
    assert day.longest is not None
    assert day.longest < SECONDS


@DAYS
@given(cobuys=COBUYS, model=MODEL, gpu=CARD, shared=st.booleans(), seed=st.integers(0, 99))
@example(1, LARGE, "h100", True, 0)
@example(10**6, LARGE, "h100", True, 0)
@example(10**8, LARGE, "h100", False, 0)
def test_half_of_them_do_not(cobuys: int, model: str, gpu: str, shared: bool, seed: int) -> None:
    made = plan(Asked(cobuys, model, gpu))
    given_ = {"shared": made.shared_gpus} if shared else made.gpus
    half = {name: number // 2 for name, number in given_.items()}
    load = {pool.name: made.judged * pool.seconds / SECONDS for pool in pools(made, shared=shared)}
    # Of two cards that are a little more than one's work, one would do nearly.
    assume(any(half[name] <= 0.9 * load[name] for name in half))
    day = simulate(made.judged, pools(made, shared=shared, gpus=half), seed)
    assert day.empty_again is None
    assert day.done < day.arrived


@settings(max_examples=20, deadline=None)
@given(hours=st.floats(0.1, 24), cobuys=st.sampled_from((10**6, 10**8)))
def test_a_longest_wait_is_kept(hours: float, cobuys: int) -> None:
    made = plan(Asked(cobuys, LARGE, "h100", longest_wait=hours * 3600))
    day = simulate(made.judged, pools(made, shared=True))
    in_work = made.together * made.seconds["generator"] * 4 + SECONDS / 20_000 * 4
    assert day.longest is not None
    assert day.longest <= hours * 3600 * 1.05 + in_work


def test_the_day_has_a_night_bursts_and_its_mean() -> None:
    rates = [shape((second + 0.5) / SECONDS) for second in range(SECONDS)]
    assert {NIGHT, 1.0, BURST} == set(rates)
    assert sum(rates) / SECONDS == pytest.approx(MEAN, rel=1e-3)
    assert since_morning(0.0) == BURST / MEAN
    assert since_morning(0.99) == NIGHT / MEAN
    assert 1 < capacity(SECONDS) < 1.1
    assert capacity(60) > 5


def test_a_pool_keeps_up_exactly_where_arithmetic_says() -> None:
    """One card of ten seconds a co-buy does 8,640 a day, in whatever grain it is simulated."""
    for times in (1, 100, 10_000):
        fits = simulate(8000 * times, [Pool("p", times, 4, 10.0)])
        full = simulate(9500 * times, [Pool("p", times, 4, 10.0)])
        assert fits.empty_again is not None
        assert full.empty_again is None
        assert full.done == pytest.approx(8640 * times, rel=0.01)


def test_the_first_of_several_pools_that_is_slow_is_named() -> None:
    day = simulate(10_000, [Pool("quick", 2, 8, 1.0), Pool("slow", 1, 8, 9.0), Pool("after", 1, 8, 9.0)])
    assert day.slowest == "slow"


def test_sizes_are_of_topics_that_there_are() -> None:
    # No purchase makes a record of these.
    beside = (topics.DATASETS, topics.FEEDBACK, topics.SHADOWED, topics.AGAIN, topics.REJUDGED)
    assert set(measured.RECORD_BYTES) == {topic.base for topic in topics.ALL if topic not in beside}


def test_a_tree_is_the_cheapest_and_a_smaller_model_cheaper() -> None:
    large, small = (Decoder(**MODELS[name], card=CARDS["h100"]) for name in (LARGE, SMALL))
    assert generated(large, 16) < generated(large, 16, reads=20) < generated(large, 1, prefills=20, reads=20)
    assert generated(large, 1, prefills=20, reads=20) < alone(large)
    assert generated(small, 16) < generated(large, 16)
    assert large.parameters / 1e9 == pytest.approx(12.85, abs=0.05)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["plan", *arguments])


def test_the_command_says_it_for_people_and_for_programs() -> None:
    asked = ("--cobuys-per-day", "1M", "--gpu-hour-price", "2", "--release-hours", "24")
    said, as_json = run(*asked), run(*asked, "--json")
    assert said.exit_code == as_json.exit_code == 0
    made = json.loads(as_json.output)
    assert made["asked"]["cobuys"] == made["day"]["arrived"] == 1_000_000
    number = made["plan"]["shared_gpus"]
    assert made["cost"]["gpus_all_day"] == number * 48
    assert f"{number:,} shared, or by job" in said.output
    assert f"MINDSTREAM_TOPIC_PARTITIONS={made['plan']['partitions']}" in said.output
    assert "first limit: a release reads the whole KB" in said.output
    assert "reached on day 13;" in said.output
    assert said.output.count("\n") == len(said.output.splitlines())
    assert max(map(len, said.output.splitlines())) <= 160


def test_no_price_is_invented() -> None:
    assert "cost" not in run("--cobuys-per-day", "5000").output
    assert json.loads(run("--cobuys-per-day", "5000", "--json").output)["cost"] is None


def test_pairs_that_were_judged_cost_no_gpu() -> None:
    every, some = (
        json.loads(run("--cobuys-per-day", "1M", "--new-share", share, "--json").output)["plan"]
        for share in ("1", "0.1")
    )
    for job in JOBS:
        assert some["gpu_hours"][job] == pytest.approx(every["gpu_hours"][job] / 10)
    assert some["postgres_gb_a_day"] < every["postgres_gb_a_day"]


def test_a_checkpoint_in_a_folder_is_planned_by_its_config(tmp_path: Path) -> None:
    text = {"hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "vocab_size": 32_064}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    outputs = [
        json.loads(run("--cobuys-per-day", "1M", "--model", model, "--json").output)["plan"]
        for model in (str(tmp_path), SMALL)
    ]
    assert outputs[0] == outputs[1]
    grouped = {**text, "num_attention_heads": 32, "num_key_value_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps(grouped))
    fewer = json.loads(run("--cobuys-per-day", "1M", "--model", str(tmp_path), "--json").output)["plan"]
    assert fewer["seconds"]["generator"] < outputs[0]["seconds"]["generator"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--cobuys-per-day many", "--cobuys-per-day many: a whole number from 1 to 100B, such as 5000, 20K or 1M"),
        ("--cobuys-per-day 0", "--cobuys-per-day 0: a whole number"),
        ("--cobuys-per-day -5", "--cobuys-per-day -5: a whole number"),
        ("--cobuys-per-day 1.5", "--cobuys-per-day 1.5: a whole number"),
        ("--cobuys-per-day 999B", "--cobuys-per-day 999B: a whole number"),
        ("--cobuys-per-day 1M --gpu abacus", "no GPU 'abacus': one of h100, h200, a100, l40s"),
        ("--cobuys-per-day 1M --model nobody/nothing", "no model 'nobody/nothing': one of llava-hf/llava-1.5-7b-hf, "),
        ("--cobuys-per-day 1M --pools many", "--pools many: shared or per-job"),
        ("--cobuys-per-day 1M --new-share 2", "--new-share 2: from 1e-06 to 1"),
        ("--cobuys-per-day 1M --new-share nan", "--new-share nan: from 1e-06 to 1"),
        ("--cobuys-per-day 1M --new-products-per-day few", "--new-products-per-day few: a whole number from 0"),
        ("--cobuys-per-day 1M --longest-wait-hours 25", "--longest-wait-hours 25: from 0.0166667 to 24"),
        ("--cobuys-per-day 1M --release-hours 0", "--release-hours 0: from 0.0166667"),
        ("--cobuys-per-day 1M --days 0", "--days 0: from 1"),
        ("--cobuys-per-day 1M --gpu-hour-price -1", "--gpu-hour-price -1: from 0"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: str, line: str) -> None:
    done = run(*arguments.split())
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert done.output.startswith(f"mindstream: {line}")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"text_config": {}}', "hidden_size of the text model is missing"),
        ('{"hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": "x", "vocab_size": 1}', "num_hidden_layers"),
        (
            json.dumps(
                {"hidden_size": 16_384, "intermediate_size": 53_248, "num_hidden_layers": 126, "vocab_size": 128_256}
            ),
            "does not fit on h100: weights are",
        ),
    ],
)
def test_a_config_that_says_too_little_or_too_much_is_one_line(content: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    done = run("--cobuys-per-day", "1M", "--model", str(tmp_path))
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert line in done.output


@pytest.mark.parametrize(("arguments", "output"), RUNS)
def test_the_documents_runs_are_as_written(arguments: str, output: str) -> None:
    assert run(*shlex.split(arguments)).output.strip() == output.strip(), "run it again and write it down"


def test_the_document_has_its_three_runs() -> None:
    assert len(RUNS) == 3


def test_a_day_of_nothing_is_refused() -> None:
    for cobuys, made in ((0, [Pool("p", 1, 1, 1.0)]), (1, [])):
        with pytest.raises(ValueError, match="at least one"):
            simulate(cobuys, made)
