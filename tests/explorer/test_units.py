"""Cursors, the gate and its buckets: what needs no database."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import WorldFault
from services.common.settings import Settings, SettingsError
from services.explorer.api import matches
from services.explorer.cursors import BadCursor, list_name, seal, unseal
from services.explorer.gate import Buckets, Gate, is_loopback
from services.explorer.kept import Answer, Kept

TOKEN = "t" * 32
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)


def gate(**given: Any) -> Gate:
    return Gate(Settings(**{f"explorer_{name}": value for name, value in given.items()}))


@given(st.floats(allow_nan=False, allow_infinity=False), TEXT, st.integers(0, 2**63 - 1))
def test_a_cursor_gives_back_what_it_holds(score: float, text: str, number: int) -> None:
    name = list_name("some", text)
    assert unseal(seal(name, score, text, number), name, float, str, int) == [score, text, number]


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        unseal(text, list_name("some"), float, str)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner),
    max_leaves=5,
)


@given(st.lists(_JSON, max_size=4))
def test_a_forged_cursor_holds_only_what_the_list_asks_for(values: list[Any]) -> None:
    name = list_name("some")
    try:
        score, text = unseal(seal(name, *values), name, float, str)
    except BadCursor:
        return
    assert type(score) is float
    assert abs(score) < float("inf")
    assert type(text) is str
    assert "\0" not in text


def test_a_cursor_is_of_one_list() -> None:
    mine = seal(list_name("cobought", "a"), 1, "x")
    with pytest.raises(BadCursor):
        unseal(mine, list_name("cobought", "b"), int, str)
    deep = base64.urlsafe_b64encode(b"[" * 5000).decode()
    with pytest.raises(BadCursor):
        unseal(deep, "x", int)
    assert json.loads(base64.urlsafe_b64decode(mine + "=" * (-len(mine) % 4)))[1:] == [1, "x"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "shop.example", ""])
def test_no_authentication_is_for_loopback_alone(host: str) -> None:
    with pytest.raises(SettingsError, match="EXPLORER_AUTH=off is for loopback only"):
        gate(auth="off", host=host)
    with pytest.raises(SettingsError, match="EXPLORER_AUTH=off is for loopback only"):
        gate(auth="off", grpc_bind=f"[{host}]:50052" if ":" in host else f"{host}:50052")
    gate(auth="proxy", host=host)
    gate(auth="token", token=TOKEN, host=host)


def test_a_client_is_an_address_of_ipv4_or_a_network_of_ipv6() -> None:
    made = gate(auth="off", rate=0.01)
    asked = ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3", "2001:db8::1", "2001:db8:0:1::1"]
    assert [made.wait(client) == 0 for client in asked] == [True] * 5
    again = ["::ffff:192.0.2.1", "192.0.2.3", "2001:db8::2"]
    assert [made.wait(client) == 0 for client in again] == [False] * 3


def answer(kept: Kept[int]) -> Answer[int]:
    return asyncio.run(kept.get(10))


def test_an_answer_is_asked_for_once_and_outlives_a_fault() -> None:
    told: list[int | WorldFault] = [WorldFault("kafka", "away"), 1, WorldFault("kafka", "away again")]
    now = 0.0

    async def ask() -> int:
        one = told.pop(0)
        if isinstance(one, WorldFault):
            raise one
        return one

    kept = Kept(ask, 60.0, "not yet", clock=lambda: now)
    assert [answer(kept), answer(kept)] == [Answer(None, "away")] * 2
    now += 2.1
    assert [answer(kept), answer(kept)] == [Answer(1)] * 2
    now += 59
    assert answer(kept) == Answer(1)
    now += 2
    assert answer(kept) == Answer(1, "away again")
    assert not told


def test_what_took_long_is_asked_for_seldom_and_nobody_waits_for_it() -> None:
    now = 0.0

    async def run() -> None:
        nonlocal now
        ready, asked = asyncio.Event(), 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            await ready.wait()
            return asked

        kept = Kept(ask, 1.0, "not yet", clock=lambda: now)
        assert await asyncio.gather(*(kept.get(0.01) for _ in range(20))) == [Answer(None, "not yet")] * 20
        now += 30
        ready.set()
        assert await kept.get(10) == Answer(1)
        now += 30 * 20 - 1
        assert await kept.get(10) == Answer(1)
        now += 2
        assert await kept.get(10) == Answer(2)

    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    gate(auth="off", host=host, grpc_bind="127.0.0.1:0")


def test_a_token_must_be_there() -> None:
    with pytest.raises(SettingsError, match="EXPLORER_TOKEN is empty"):
        gate(auth="token")


@given(st.text(max_size=60))
def test_only_the_token_admits(given_token: str) -> None:
    guarded = gate(auth="token", token=TOKEN)
    assert guarded.admits(f"Bearer {TOKEN}")
    assert guarded.admits(f"bearer  {TOKEN}")
    assert guarded.admits(f"Bearer {given_token}") == (given_token.strip() == TOKEN)
    assert not guarded.admits("", given_token)
    assert not guarded.admits(TOKEN)


def test_a_session_ends_with_its_token_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = gate(auth="token", token=TOKEN)
    session = guarded.session()
    assert guarded.admits("", session)
    assert not guarded.admits("", session[:-1] + ("0" if session[-1] != "0" else "1"))
    assert not guarded.admits("", "9" + session)
    assert not gate(auth="token", token="u" * 32).admits("", session)
    monkeypatch.setattr("time.time", lambda: 2**40)
    assert not guarded.admits("", session)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8080", True), ("localhost", True), ("[::1]:8080", True), ("[::1]", True), ("LOCALHOST:1", True),
        ("evil.example:8080", False), ("127.0.0.1.evil.example", False), ("", False), ("[::2]:80", False),
    ],
)  # fmt: skip
def test_names_that_others_have_pointed_here_are_not_ours(host: str, known: bool) -> None:
    assert gate(auth="off").knows_host(host) == known
    assert gate(auth="token", token=TOKEN).knows_host(host)


@given(st.floats(0.5, 100), st.lists(st.floats(0, 3), max_size=60))
def test_a_bucket_gives_no_more_than_its_rate(rate: float, pauses: list[float]) -> None:
    now = 1000.0
    buckets = Buckets(rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.explorer.gate.time.monotonic", lambda: now)
        taken = 0
        for pause in [0.0, *pauses]:
            now += pause
            wait = buckets.take("a")
            taken += not wait
            if wait:
                now += wait + 1e-6
                assert not buckets.take("a")
                taken += 1
            assert taken <= max(1.0, 2 * rate) + rate * (now - 1000) + 1e-3
        assert not buckets.take("another")


def test_a_bucket_of_zero_gives_always_and_few_clients_are_remembered() -> None:
    assert not any(Buckets(0).take("a") for _ in range(1000))
    buckets = Buckets(1)
    for number in range(20_000):
        buckets.take(str(number))
    assert len(buckets._left) == 10_000


@pytest.mark.parametrize(
    ("asked", "same"), [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ("", False), ('"b"', False)]
)
def test_if_none_match(asked: str, same: bool) -> None:
    assert matches(asked, '"a"') == same
