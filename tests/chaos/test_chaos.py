"""The short form of the chaos run, and the harness's own parts: plans, timelines and links."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import schedule
from tests.chaos.faults import here
from tests.chaos.load import Load
from tests.chaos.proxy import Link, Links
from tests.chaos.run import run
from tests.chaos.schedule import KILLS, Fault, Kind

_KINDS = {"kill": Kind(("a", "b", "c")), "terminate": Kind(("a", "b")), "freeze": Kind(("a", "b"), 12.0)}


def _shape(faults: list[Fault]) -> list[tuple[str, str, float, float]]:
    return [(fault.kind, fault.target, fault.gap, fault.seconds) for fault in faults]


@pytest.mark.integration
@pytest.mark.timeout(480)
def test_faults_under_load_lose_nothing_and_double_nothing() -> None:
    wanted = [
        Fault("kill", "generator", 1.0),
        Fault("kill", "kb_sink", 1.0),
        Fault("kill", "cobuy", 1.0),
        Fault("terminate", "extractor", 1.0),
        Fault("kill", "kafka", 1.0),
        Fault("cut", "filter>kafka", 1.0, 4.0),
        Fault("rebalance", "generator", 1.0, 4.0),
        Fault("full_disk", "postgres", 1.0, 4.0),
        Fault("clock_jump", "extractor", 1.0, 4.0),
    ]
    kinds = here(away_seconds=0)  # Full disks need root, clocks a C compiler.
    faults = [fault for fault in wanted if fault.kind in kinds]
    with tempfile.TemporaryDirectory(prefix="mindstream-chaos-") as tmp:
        Path(tmp).chmod(0o755)  # PostgreSQL's unprivileged user must be able to pass.
        outcome = run(Path(tmp), 3, faults, print)
    assert (outcome.account.lost, outcome.account.doubled, outcome.account.different) == ([], [], [])
    assert len(outcome.harmed.lost) == len(outcome.harmed.doubled) == len(outcome.harmed.different) == 1
    assert outcome.summary()["kills"] == 5
    assert outcome.account.counts["judged"] > 0
    assert all(fault.ended > 0 for fault in faults)


@pytest.mark.parametrize("kills", [1, 7, 40, 200])
def test_a_plan_has_as_many_kills_as_asked_for_and_every_target_about_as_often(kills: int) -> None:
    plan = schedule.plan(5, kills, _KINDS, 4)
    assert sum(fault.kind in KILLS for fault in plan) == kills
    assert sum(fault.kind == "freeze" for fault in plan) == 4
    struck = Counter(fault.target for fault in plan if fault.kind == "terminate")
    assert max(struck.values(), default=0) - min((struck[name] for name in "ab"), default=0) <= 1


def test_a_seed_gives_one_plan_and_one_load() -> None:
    assert _shape(schedule.plan(5, 40, _KINDS, 4)) == _shape(schedule.plan(5, 40, _KINDS, 4))
    assert _shape(schedule.plan(5, 40, _KINDS, 4)) != _shape(schedule.plan(6, 40, _KINDS, 4))
    first, again = Load(5), Load(5)
    assert first.catalogue() == again.catalogue()
    assert [event for _, event in zip(range(200), first.steps(), strict=False)] == [
        event for _, event in zip(range(200), again.steps(), strict=False)
    ]


def test_a_timeline_is_read_back_as_the_plan_that_it_came_of(tmp_path: Path) -> None:
    plan = schedule.plan(5, 40, _KINDS, 4)
    plan[0].began, plan[0].ended = 10.0, 20.0
    schedule.write(tmp_path / "timeline.json", 5, plan, {"lost": 1})
    seed, again = schedule.read(tmp_path / "timeline.json")
    assert (seed, _shape(again)) == (5, _shape(plan))
    assert not any(fault.began or fault.ended for fault in again)
    assert json.loads((tmp_path / "timeline.json").read_text())["outcome"] == {"lost": 1}


@pytest.fixture
def link() -> Iterator[Link]:
    """A link to a server that says everything back."""
    server = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    links = Links()
    yield links.add("client", "server", lambda: int(server.getsockname()[1]))
    links.close()
    server.close()


def _connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=5)


def _says_back(client: socket.socket, said: bytes) -> bool:
    client.sendall(said)
    return client.recv(len(said)) == said


def _talk_on(client: socket.socket) -> None:
    while True:
        client.sendall(b"x")


def test_a_cut_link_resets_old_and_new_connections_until_it_is_healed(link: Link) -> None:
    with _connect(link) as old:
        assert _says_back(old, b"hello")
        link.cut()
        with pytest.raises(ConnectionError):
            _talk_on(old)
    with _connect(link) as new, pytest.raises(ConnectionError):
        _talk_on(new)
    link.heal()
    with _connect(link) as healed:
        assert _says_back(healed, b"hello again")


def test_a_silent_link_brings_what_was_said_when_it_is_healed(link: Link) -> None:
    with _connect(link) as client:
        assert _says_back(client, b"hello")
        link.silence()
        client.settimeout(0.5)
        client.sendall(b"are you there?")
        with pytest.raises(TimeoutError):
            client.recv(100)
        link.heal()
        client.settimeout(5)
        assert client.recv(100) == b"are you there?"


def test_a_slow_link_takes_at_least_its_delay_both_ways(link: Link) -> None:
    with _connect(link) as client:
        assert _says_back(client, b"hello")
        link.slow(0.2, 0.0)
        began = time.monotonic()
        assert _says_back(client, b"hello")
        assert time.monotonic() - began >= 0.4
