"""Whichever message Kafka does not take: going on from the saved position, all have arrived in the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.cli.imports import amazon
from services.cli.imports.running import Import, Refused
from services.cli.imports.sources import Catalogue, Message, Messages
from services.cli.imports.state import Position, State
from services.common.errors import WorldFault
from services.common.settings import Settings

COUNT = 12


class Failing:
    """A sink that takes so many messages; what was settled has arrived, of the rest nobody knows."""

    def __init__(self, takes: int) -> None:
        self._left = takes
        self.arrived: list[Message] = []

    def send(self, made: Sequence[Message]) -> None:
        """Take them, or not."""
        self._left -= len(made)
        if self._left < 0:
            raise WorldFault("kafka", "away")
        self.arrived += made

    def settle(self) -> None:
        """All that was taken is there."""


@given(st.lists(st.integers(0, 5 * COUNT), max_size=3), st.integers(1, COUNT))
def test_what_fails_anywhere_is_sent_when_it_goes_on(takes: list[int], saved_every: int) -> None:
    arrived: set[bytes] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meta.jsonl"
        rows = [
            {"asin": f"B{n:02d}", "title": "" if n == 5 else "t", "also_buy": ["B01", f"B{(n + 1) % COUNT:02d}", "X"]}
            for n in range(COUNT)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for most in [*takes, 1000]:
            with closing(State(Path(folder) / "s.sqlite")) as state:
                at = state.position() or Position()
                sink = Failing(most)
                source = Catalogue(amazon.of_2018, Messages(Settings()), state)
                with closing(Refused(Path(folder) / "refused", at.refused_bytes)) as refused:
                    work = Import(source, [path], sink, state, at, refused, saved_every=saved_every)
                    try:
                        work.run()
                    except WorldFault:
                        assert most < 1000
                arrived |= {message.key for message in sink.arrived}
        assert (at.done, at.rows, at.refused, at.listed) == (True, COUNT, 1, 3 * (COUNT - 1))
        assert len((Path(folder) / "refused").read_text().splitlines()) == 1
    known = [n for n in range(COUNT) if n != 5]
    pairs = {tuple(sorted((n, other))) for n in known for other in (1, (n + 1) % COUNT) if other != n and other != 5}
    assert arrived == {f"B{n:02d}".encode() for n in known} | {f"B{a:02d}|B{b:02d}".encode() for a, b in pairs}
