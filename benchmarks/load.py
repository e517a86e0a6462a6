"""A shop's day on the embedded platform with a null model: `python -m benchmarks.load --minutes 30`.

First a short ramp finds the rate that the machine carries; then a day of so many minutes is played, whose mean rate is
`--share` of that. Writes load.json and load.png: the rate that comes in, the lag of every topic, the memory of every
process. Memory is the resident set; of PostgreSQL, what its processes have for themselves: the buffers that they share
have a fixed size, and are filled as pages are first read.

The day holds when lag was zero again after every burst (not more than ten seconds of the usual rate: reports are some
seconds old) and after the day, no model call met its deadline, there were no dead letters, no
process ended, and no process grew after its warm-up. Two grow by design, which is told and not counted as a leak: the
co-buy service's tables are in memory, with every pair and every customer that was ever seen, and who publishes releases
holds a relation's texts at a time (docs/datasets.md) of a KB that grows by hundreds of thousands of intentions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load_shop import Shop
from benchmarks.rows import machine
from deploy.local.platform import STATE_FILE, Platform, PlatformOptions
from deploy.local.services import MODEL, Service
from services.cli.planning.day import MEAN, shape
from services.common import topics
from services.common.lag import lags
from services.common.settings import Settings

_SAMPLE_SECONDS = 5.0
#: A step of the ramp: its length, and the longest drain after it. Faust commits every three seconds and gauges of lag
#: are five seconds old at the most, so even an idle pipeline takes some seconds to show that it is empty.
_RAMP_SECONDS, _RAMP_DRAIN = 60.0, 12.0
_RAMP_FROM, _RAMP_BY = 50.0, 1.5
#: The day's mean rate against what a ramp carries: what is left works off bursts, and customers' later orders complete
#: more pairs than the first ones, of which a ramp is made.
_SHARE = 0.5
#: Calm is when no more waits than comes in so many seconds of the usual rate, for the same reasons.
_CALM_SECONDS = 10.0
#: Growth after the warm-up that is not a leak: the larger of the two.
_GROWTH_SHARE, _GROWTH_MIB = 0.1, 16.0
_GROWING = ("cobuy", "releases")


class NullPlatform(Platform):
    """The embedded platform with the null model in the model server's place."""

    def _start_services(self, services: list[Service]) -> None:
        super()._start_services([replace(s, module="benchmarks.null_model") if s is MODEL else s for s in services])


@dataclass
class Sample:
    """What was seen at one time; lag in records by topic, memory in MiB by process."""

    seconds: float
    sent: int
    lag: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


class Watch:
    """Looks at every process of a platform."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self._platform, self._folder = platform, folder
        self.began = time.monotonic()
        self.samples: list[Sample] = []
        self.counters = Counter[str]()

    def sample(self, sent: int) -> Sample:
        """Look once; ended processes are started again, and counted."""
        self._platform.tick()
        processes = json.loads((self._folder / STATE_FILE).read_text())["processes"]
        made = Sample(time.monotonic() - self.began, sent)
        counters = Counter[str]()
        for name, facts in processes.items():
            made.memory[name] = _mib(name, facts["pid"])
            counters[f"pid {name} {facts['pid']}"] = 1
            if facts["http_port"]:
                for metric, labels, value in _scraped(facts["http_port"]):
                    if metric == "mindstream_consumer_lag_records":
                        made.lag[labels["topic"]] = made.lag.get(labels["topic"], 0.0) + value
                    elif metric in _COUNTED and value:
                        counters[" ".join([metric, *(labels[label] for label in _COUNTED[metric])])] += int(value)
        self.counters |= counters
        self.samples.append(made)
        return made


#: Counters that are told, with the labels that tell them apart.
_COUNTED = {
    "mindstream_model_call_errors_total": ("stage", "code"),
    "mindstream_dead_letters_total": ("stage", "reason"),
    "mindstream_world_faults_total": ("stage", "kind"),
    "mindstream_records_done_total": ("stage", "topic", "outcome"),
    "mindstream_cobuy_crossings_total": (),
    "mindstream_transaction_aborts_total": ("stage",),
}


def _scraped(port: int) -> Iterator[tuple[str, dict[str, str], float]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return  # It has just ended, or is not up again.
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _mib(name: str, pid: int) -> float:
    try:
        process = psutil.Process(pid)
        if name != "postgres":
            return float(process.memory_info().rss) / 2**20
        parts = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for part in parts:
        with suppress(psutil.NoSuchProcess):  # A connection that has just ended.
            total += float(part.memory_full_info().uss)
    return total / 2**20


@contextmanager
def started() -> Iterator[tuple[Watch, Settings]]:
    """The platform in a new folder, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="mindstream-load-") as tmp:
        Path(tmp).chmod(0o755)
        folder = Path(tmp) / "data"
        # Java's heap grows bit by bit to the size that it may have: here it has that from the start, so that what grows
        # is a leak. (Java prefers this variable to its command line.)
        os.environ["_JAVA_OPTIONS"] = "-Xms512m -XX:+AlwaysPreTouch"
        platform = NullPlatform(PlatformOptions(folder), lambda line: print(line, flush=True))
        try:
            platform.start()
            env = platform.env
            settings = Settings(
                kafka_bootstrap_servers=env["MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS"],
                postgres_dsn=env["MINDSTREAM_POSTGRES_DSN"],
            )
            yield Watch(platform, folder), settings
        finally:
            platform.stop()


def _played(watch: Watch, shop: Shop, seconds: float) -> Sequence[Sample]:
    """Samples of the next `seconds`."""
    first, until = len(watch.samples), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_SAMPLE_SECONDS, left))
        watch.sample(shop.sent)
    return watch.samples[first:]


def _drained(watch: Watch, shop: Shop, settings: Settings, seconds: float) -> float:
    """Seconds until nothing waits anywhere; the limit where something still does.

    Gauges are looked at first, as they cost nothing; what the group coordinator says decides.
    """
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(2)
        if not any(watch.sample(shop.sent).lag.values()) and not any(lag.records for lag in lags(settings)):
            break
    return passed


def capacity(watch: Watch, shop: Shop, settings: Settings) -> float:
    """Purchases a second that can last: the most over a ramp's steps, each by the time until none of it waited."""
    rate, carried = _RAMP_FROM, 0.0
    while True:
        sent = shop.sent
        shop.start(lambda rate=rate: rate)  # type: ignore[misc]
        last = _played(watch, shop, _RAMP_SECONDS)[-1]
        shop.stop()
        drained = _drained(watch, shop, settings, 300)
        waiting = max(last.lag, key=last.lag.__getitem__, default="")
        print(f"ramp: {rate:.0f} purchases/s, drained {drained:.0f} s later; most waited in {waiting}", flush=True)
        carried = max(carried, (shop.sent - sent) / (_RAMP_SECONDS + drained))
        if drained > _RAMP_DRAIN:
            return carried
        rate *= _RAMP_BY


def day(watch: Watch, shop: Shop, usual: float, seconds: float) -> Sequence[Sample]:
    """Play a day; its samples."""
    began = time.monotonic()
    shop.start(lambda: usual * shape(min(1.0, (time.monotonic() - began) / seconds)))
    samples = _played(watch, shop, seconds)
    shop.stop()
    return samples


def memory(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """By process: MiB after the warm-up (a quarter) and at the end, each a median of a tenth, and the slope."""
    warm = samples[len(samples) // 4 :]
    part = max(1, len(warm) // 10)
    found = {}
    for name in samples[-1].memory:
        seen = [(sample.seconds, sample.memory.get(name, 0.0)) for sample in warm]
        slope = linear_regression(*zip(*seen, strict=True)).slope if len(seen) > 2 else 0.0
        start, end = median(mib for _, mib in seen[:part]), median(mib for _, mib in seen[-part:])
        grown = end - start
        found[name] = {
            "start_mib": round(start, 1),
            "end_mib": round(end, 1),
            "slope_mib_an_hour": round(slope * 3600, 1),
            "flat": grown <= max(_GROWTH_MIB, _GROWTH_SHARE * start),
        }
    return found


def recoveries(samples: Sequence[Sample], seconds: float, most: float) -> list[float | None]:
    """Seconds from each burst's beginning until at most `most` records wait in any topic; None where never."""
    began = samples[0].seconds - _SAMPLE_SECONDS
    starts = [began + seconds * (0.25 + 0.1875 * number) for number in range(4)]
    topics_ = {topic for sample in samples for topic in sample.lag}
    found: list[float | None] = []
    for start, end in zip(starts, [*starts[1:], began + 10 * seconds], strict=True):
        during = [s for s in samples if start + 0.0075 * seconds + _SAMPLE_SECONDS < s.seconds < end]
        # A process that did not answer has said nothing of its topics.
        calm = (s.seconds - start for s in during if s.lag.keys() >= topics_ and max(s.lag.values()) <= most)
        found.append(next((round(one, 1) for one in calm), None))
    return found


def main() -> int:
    """Run, write, and 1 where the day does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__.partition(":")[0])
    parser.add_argument("--minutes", type=float, default=30, help="length of the day")
    parser.add_argument("--rate", type=float, default=0.0, help="purchases/s that the machine carries; 0: ramp first")
    parser.add_argument("--share", type=float, default=_SHARE, help="mean rate of the day, as a share of that")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    with started() as (watch, settings):
        shop = Shop(settings)
        shop.stock()
        _drained(watch, shop, settings, 300)
        carried = asked.rate or capacity(watch, shop, settings)
        usual = asked.share * carried / MEAN
        print(f"carries {carried:.0f} purchases/s; the day's usual rate is {usual:.1f}", flush=True)
        begun = watch.counters.copy()
        samples = day(watch, shop, usual, seconds)
        left = _drained(watch, shop, settings, 600)
        counted = watch.counters - begun
    restarts = sum(1 for name in counted if name.startswith("pid "))
    told = {name: count for name, count in sorted(counted.items()) if not name.startswith("pid ")}
    used = memory(samples)
    recovered = recoveries(
        [*samples, *watch.samples[watch.samples.index(samples[-1]) + 1 :]], seconds, usual * _CALM_SECONDS
    )
    wrong = [name for name in told if "DEADLINE" in name or name.startswith("mindstream_dead_letters")]
    grown = [name for name, facts in used.items() if not facts["flat"] and name not in _GROWING]
    holds = not (wrong or grown or restarts) and left < 600 and None not in recovered
    found = {
        "machine": machine(),
        "minutes": asked.minutes,
        "carried_purchases_a_second": round(carried, 1),
        "usual_purchases_a_second": round(usual, 1),
        "purchases": samples[-1].sent - samples[0].sent,
        "seconds_to_calm_after_each_burst": recovered,
        "seconds_to_zero_lag_after_the_day": round(left, 1),
        "most_lag_records": max((max(s.lag.values(), default=0.0) for s in samples), default=0.0),
        "processes_that_ended": restarts,
        "memory": used,
        "counted": told,
        "holds": holds,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "load.json").write_text(json.dumps(found, indent=1) + "\n")
    _plot(watch.samples, samples, asked.out / "load.png")
    print(json.dumps(found, indent=1))
    return 0 if holds else 1


def _plot(everything: Sequence[Sample], samples: Sequence[Sample], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (rate, lag, used) = plt.subplots(3, 1, figsize=(10, 10), sharex=True)
    minutes = [sample.seconds / 60 for sample in everything]
    rate.step(
        minutes[1:],
        [(b.sent - a.sent) / (b.seconds - a.seconds) for a, b in pairwise(everything)],
    )
    rate.set(ylabel="purchases a second", title="the day, behind the ramp where there was one")
    rate.axvline(samples[0].seconds / 60, color="grey", linestyle=":")
    for topic in [t.base for t in topics.ALL if t.readers]:
        lag.plot(minutes, [sample.lag.get(topic, 0.0) for sample in everything], label=topic)
    lag.set(ylabel="records waiting", yscale="symlog")
    lag.legend(fontsize="small")
    for name in samples[-1].memory:
        used.plot(minutes, [sample.memory.get(name, 0.0) for sample in everything], label=name)
    used.set(ylabel="memory (MiB)", xlabel="minutes", ylim=(0, None))
    used.legend(fontsize="small", ncols=3)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
