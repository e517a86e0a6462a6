"""A day of co-buys, event by event: where they wait, how many and how long. Seeded: the same day is the same result."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from services.cli.planning.day import SECONDS, since_morning

#: Most events of a day: beyond, one stands for several co-buys.
_EVENTS = 20_000
_MINUTES = 24 * 60


@dataclass(frozen=True)
class Pool:
    """Model servers that co-buys pass: GPUs, calls that each computes together, GPU-seconds of a co-buy."""

    name: str
    gpus: int
    together: int
    seconds: float


@dataclass(frozen=True)
class Day:
    """What came of a day of so many co-buys; times in seconds since the morning."""

    arrived: int
    #: At the day's end: all computed, still computed, waiting before any pool.
    done: int
    computing: int
    waiting: int
    #: Most that waited at once before all pools, and in each hour of the day.
    most_waiting: int
    hourly: tuple[int, ...]
    #: The pool before which most waited.
    slowest: str
    #: First time after the largest backlog at which nothing waited; None: not within the day.
    empty_again: float | None
    #: Longest from a co-buy's arrival to its judgement, also where that is after the day; None: never judged.
    longest: float | None


def simulate(cobuys: int, pools: Sequence[Pool], seed: int = 0) -> Day:
    """A shop's day, from morning to morning, through the pools one behind the other.

    A server computes as many calls together as it has places, each as long as all of them would take one behind the
    other: what it does at full work, so that a quiet day is told slower than it is. Of more than 20,000 co-buys several
    are one event, which takes as many places.

    Raises:
        ValueError: no co-buys, or no pools.
    """
    if cobuys < 1 or not pools:
        raise ValueError("a day has at least one co-buy and one pool")
    each = -(-cobuys // _EVENTS)
    weights = [each] * (cobuys // each) + ([cobuys % each] if cobuys % each else [])
    return _Run(weights, each, pools).day(_arrivals(len(weights), seed))


def _arrivals(count: int, seed: int) -> Iterator[float]:
    """Times in order, as dense as the day's shape says; one somewhere in each of `count` equal shares of it."""
    chance = random.Random(seed)
    reached = [0.0, *accumulate(since_morning((minute + 0.5) / _MINUTES) for minute in range(_MINUTES))]
    for number in range(count):
        wanted = (number + chance.random()) / count * reached[-1]
        minute = min(bisect_right(reached, wanted) - 1, _MINUTES - 1)
        within = (wanted - reached[minute]) / (reached[minute + 1] - reached[minute])
        yield min((minute + within) * SECONDS / _MINUTES, SECONDS - 1e-6)


class _Run:
    """One day under way. An event is (time, number in order, pool it has left, co-buy); pool -1 is an arrival."""

    def __init__(self, weights: Sequence[int], each: int, pools: Sequence[Pool]) -> None:
        self._weights, self._pools = weights, pools
        self._free = [_places(pool, each) for pool in pools]
        #: As many places' work in that time is what the GPUs compute.
        self._takes = [
            places * each * pool.seconds / pool.gpus if pool.gpus else 0.0
            for places, pool in zip(self._free, pools, strict=True)
        ]
        self._queues: list[deque[int]] = [deque() for _ in pools]
        self._waiting = [0] * len(pools)
        self._most = [0] * len(pools)
        self._heap: list[tuple[float, int, int, int]] = []
        self._number = 0

    def _push(self, at: float, pool: int, cobuy: int) -> None:
        heapq.heappush(self._heap, (at, self._number, pool, cobuy))
        self._number += 1

    def _start(self, pool: int, now: float) -> None:
        while self._free[pool] and self._queues[pool]:
            cobuy = self._queues[pool].popleft()
            self._waiting[pool] -= self._weights[cobuy]
            self._free[pool] -= 1
            self._push(now + self._takes[pool], pool, cobuy)

    def day(self, arrivals: Iterator[float]) -> Day:
        """Play it until all is computed, or nothing more can be."""
        came: list[float] = []
        for cobuy, at in enumerate(arrivals):
            came.append(at)
            self._push(at, -1, cobuy)
        arrived = done = within = left = 0
        most, longest, hourly = 0, 0.0, [0] * 24
        empty_again: float | None = None
        last, closed = -1, False
        while self._heap:
            now, _, pool, cobuy = heapq.heappop(self._heap)
            hour = min(int(now // 3600), 24)
            for quiet in range(last + 1, min(hour + 1, 24)):  # What waits as an hour begins waits in that hour.
                hourly[quiet] = sum(self._waiting)
            last = max(last, hour)
            if now >= SECONDS and not closed:
                closed, within, left = True, done, sum(self._waiting)
            weight = self._weights[cobuy]
            if pool < 0:
                arrived += weight
            else:
                self._free[pool] += 1
                self._start(pool, now)
            if pool + 1 < len(self._pools):
                self._queues[pool + 1].append(cobuy)
                self._waiting[pool + 1] += weight
                self._start(pool + 1, now)
                self._most[pool + 1] = max(self._most[pool + 1], self._waiting[pool + 1])
            else:
                done += weight
                longest = max(longest, now - came[cobuy])
            if not closed:
                waiting = sum(self._waiting)
                hourly[hour] = max(hourly[hour], waiting)
                if waiting > most:
                    most, empty_again = waiting, None
                elif not waiting and empty_again is None:
                    empty_again = now
        if not closed:
            within, left = done, sum(self._waiting)
            hourly[last + 1 :] = [left] * (23 - last)
        stuck = any(self._queues)
        return Day(
            arrived, within, arrived - within - left, left, most, tuple(hourly),
            self._pools[self._most.index(max(self._most))].name, empty_again, None if stuck else longest,
        )  # fmt: skip


def _places(pool: Pool, each: int) -> int:
    return max(1, round(pool.gpus * pool.together / each)) if pool.gpus else 0
