"""Whose call is next: fair between jobs, and suspects by themselves."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.lvlm.turns import Turns

_JOBS = ("extractor", "generator", "filter")


class _Floor:
    """Calls that hold their turn until they are told to go, and a record of who began."""

    def __init__(self, most: int) -> None:
        self.turns, self.running, self.begun = Turns(most), dict[int, tuple[str, bool]](), list[str]()
        self._ends: dict[int, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def call(self, job: str, alone: bool = False) -> None:
        number = len(self.tasks)
        self._ends[number] = asyncio.Event()
        self.tasks.append(asyncio.create_task(self._held(number, job, alone)))

    async def _held(self, number: int, job: str, alone: bool) -> None:
        async with self.turns.turn(job, alone):
            self.running[number] = (job, alone)
            self.begun.append(job)
            await self._ends[number].wait()
            del self.running[number]

    async def end(self, number: int) -> None:
        self._ends[number].set()
        await settled()


async def settled() -> None:
    """All that can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_flood_of_one_job_does_not_keep_the_others_out() -> None:
    floor = _Floor(4)
    for _ in range(10):
        floor.call("extractor")
    await settled()
    for job in ("filter", "generator", "filter", "generator"):
        floor.call(job)
    await settled()
    for number in range(2):
        await floor.end(number)
    assert Counter(job for job, _ in floor.running.values()) == {"extractor": 2, "filter": 1, "generator": 1}
    for number in range(len(floor.tasks)):
        await floor.end(number)
    assert len(floor.begun) == len(floor.tasks)


@settings(deadline=None)
@given(
    most=st.integers(1, 4),
    events=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(_JOBS), st.booleans()),
            st.integers(0, 11),
            st.tuples(st.just("cancel"), st.integers(0, 11)),
        ),
        max_size=24,
    ),
)
def test_every_call_has_its_turn_and_a_suspect_has_it_alone(
    most: int, events: list[tuple[str, bool] | int | tuple[str, int]]
) -> None:
    async def play() -> None:
        floor = _Floor(most)
        for event in events:
            if isinstance(event, int):
                if event < len(floor.tasks):
                    await floor.end(event)
            elif event[0] == "cancel":
                if event[1] < len(floor.tasks):
                    floor.tasks[event[1]].cancel()
                    floor.running.pop(event[1], None)
            else:
                floor.call(event[0], bool(event[1]))
            await settled()
            assert len(floor.running) <= most
            if any(alone for _, alone in floor.running.values()):
                assert len(floor.running) == 1
        for number in range(len(floor.tasks)):
            await floor.end(number)
        assert all(task.done() for task in floor.tasks)

    asyncio.run(play())
