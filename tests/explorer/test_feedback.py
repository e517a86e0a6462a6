"""People's verdicts: from a page or the API through the real Kafka and sink into the KB, and back to the page."""

from __future__ import annotations

import asyncio
import hmac
import json
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1.feedback_pb2 import THUMB_DOWN, IntentionFeedback
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from deploy.local.postgres import Postgres
from services.common import kafka, kb, topics
from services.common.postgres import migrate
from services.common.settings import Settings, SettingsError
from services.explorer.feedback import Feedback
from services.explorer.gate import Gate
from services.explorer.guard import foreign
from services.kb_sink.committer import MIGRATIONS
from tests.explorer.conftest import (
    FEEDBACK_KEY,
    Answer,
    Explorer,
    explorer,
    form,
    insert_pair,
    insert_product,
    wait_for,
)
from tests.kb_sink.test_sink import sink

TOKEN = "a-token-that-nobody-guesses-0123456789"
PAIR, INTENTION = "scope|tripod", "scope|tripod-RelatedTo"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def hashed(name: str) -> str:
    return hmac.digest(FEEDBACK_KEY.encode(), name.encode(), "sha256").hex()


def tell(site: Explorer, headers: dict[str, str] | None = None, **said: Any) -> Answer:
    """A verdict by the API."""
    body = {"pair_id": PAIR, "intention_id": INTENTION, "verdict": "up", **said}
    given_headers = {"Content-Type": "application/json", **(headers or {})}
    return site.ask("/api/v1/feedback", body=json.dumps(body).encode(), headers=given_headers)


def press(site: Explorer, headers: dict[str, str] | None = None, **said: str) -> Answer:
    """A verdict from a page."""
    return site.ask(
        "/feedback", body=form(**{"pair": PAIR, "intention": INTENTION, "verdict": "up", **said}), headers=headers
    )


def people(site: Explorer, headers: dict[str, str] | None = None) -> Any:
    return site.ask("/api/v1/feedback", pair=PAIR, headers=headers).json["items"]


@pytest.fixture
def shop(postgres_server: Postgres, postgres: str) -> tuple[str, str]:
    """A KB of one pair, by those who may write to it and by those who may not."""
    database = postgres.rpartition("/")[2]
    reader = postgres_server.create_reader(kb.SCHEMA, database, f"reads_{database}")
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    with psycopg.connect(postgres) as connection:
        for product in ("scope", "tripod"):
            insert_product(connection, product, product.title())
        insert_pair(connection, "tripod", "scope", 3, {})
    return postgres, reader


@pytest.mark.integration
def test_a_verdict_goes_through_kafka_into_the_kb_and_a_persons_last_one_counts(
    settings: Callable[..., Settings], shop: tuple[str, str], tmp_path: Path
) -> None:
    owner, reader = shop
    made = settings(postgres_dsn=owner)
    given_settings: dict[str, Any] = {
        "EXPLORER_FEEDBACK_KEY": FEEDBACK_KEY,
        "KAFKA_BOOTSTRAP_SERVERS": made.kafka_bootstrap_servers,
        "TOPIC_PREFIX": made.topic_prefix,
    }
    process = sink(made)
    try:
        with (
            explorer(reader, tmp_path, EXPLORER_AUTH="proxy", EXPLORER_USER_HEADER="X-User", **given_settings) as site,
            explorer(reader, tmp_path, EXPLORER_AUTH="token", EXPLORER_TOKEN=TOKEN, **given_settings) as other,
        ):
            anna, ben = {"X-User": "anna@shop.example"}, {"X-User": "ben@shop.example"}
            first = tell(site, anna)
            assert first.status == 202, first.text
            back = press(site, ben, reason="  a tripod\nholds it ")
            assert (back.status, back.headers["Location"]) == (
                303,
                "/pair?a=scope&b=tripod&told=scope%7Ctripod-RelatedTo#told",
            )
            assert tell(site).status == tell(site, anna, who="ben").status == press(site).status == 403
            page = site.ask("/pair", a="scope", b="tripod", told=INTENTION, headers=ben).text
            assert "Your verdict is taken" in page

            # The same person, by another way in.
            entered = other.ask("/login", body=form(token=TOKEN, name="anna@shop.example"))
            session = {"Cookie": entered.headers["Set-Cookie"].partition(";")[0]}
            assert "anna" not in session["Cookie"]
            assert press(other, session, verdict="down", reason="<b>no</b>").status == 303
            assert tell(other, BEARER).status == 403
            assert tell(other, BEARER, who="a program's customer").status == 202

            wait_for(lambda: [(one["up"], one["down"]) for one in people(site)] == [(2, 1)], "all are counted")
            assert people(site) == people(other, BEARER)
            assert people(site)[0]["reasons"] == ["<b>no</b>", "a tripod holds it"]
            page = site.ask("/pair", a="scope", b="tripod", headers=anna).text
            assert 'value="down" aria-pressed="true">No reason <b>1</b>' in page
            assert 'value="up" aria-pressed="false">A reason <b>2</b>' in page
            assert "&lt;b&gt;no&lt;/b&gt;" in page
            nameless = other.ask("/login", body=form(token=TOKEN)).headers["Set-Cookie"].partition(";")[0]
            page = other.ask("/pair", a="scope", b="tripod", headers={"Cookie": nameless}).text
            assert "log in with your name" in page
            assert "2 say that it is a reason, 1 that it is none" in page
            assert press(other, {"Cookie": nameless}).status == 403
            with urllib.request.urlopen(f"http://127.0.0.1:{site.health}/metrics", timeout=10) as answer:
                assert 'mindstream_explorer_feedback_total{verdict="up"} 2.0' in answer.read().decode()
            logs = site.log.read_text() + other.log.read_text()
    finally:
        process.terminate()
        assert process.wait(30) == 0

    records = list(kafka.read_all(made, topics.FEEDBACK.name(made)))
    events = [IntentionFeedback.FromString(record.value) for record in records]
    assert len(events) == 4
    for record, event in zip(records, events, strict=True):
        assert record.key == INTENTION.encode()
        assert record.text_header("ce_type") == "mindstream.events.v1.IntentionFeedback"
        assert record.text_header("ce_id") == event.feedback_id
        assert record.text_header("ce_source") == "mindstream/explorer"
    assert {event.who for event in events} == set(
        map(hashed, ("anna@shop.example", "ben@shop.example", "a program's customer"))
    )
    assert events[0].feedback_id == first.json["feedback_id"]
    assert [event.verdict for event in events if event.reason == "<b>no</b>"] == [THUMB_DOWN]
    with psycopg.connect(owner) as connection:
        rows = connection.execute("SELECT f::text FROM kb.feedback f").fetchall()
    assert len(rows) == 3
    assert "shop.example" not in logs + str(rows) + str(records)


@pytest.mark.integration
def test_without_kafka_nobody_is_told_that_it_was_taken(site: Explorer) -> None:
    with ThreadPoolExecutor() as both:
        told, pressed = both.submit(tell, site).result, both.submit(press, site).result
        answer, page = told(), pressed()
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert "Kafka has not taken" in answer.json["detail"]
    assert page.status == 503
    assert "Kafka" in page.text
    assert "http-equiv" not in page.text  # Asking again by itself, it would lose the verdict.
    assert people(site) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"intention_id": "nothing"}, 404), ({"pair_id": "a|b"}, 404), ({"verdict": "sideways"}, 422),
        ({"reason": "x" * 501}, 422), ({"reason": "a\0b"}, 422), ({"pair_id": ""}, 422), ({"who": "x" * 513}, 422),
    ],
)  # fmt: skip
def test_a_verdict_that_is_none_by_the_api(site: Explorer, said: dict[str, Any], status: int) -> None:
    answer = tell(site, **said)
    assert (answer.status, answer.json["status"]) == (status, status)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"intention": "nothing"}, 404), ({"pair": ""}, 422), ({"pair": "a\0b"}, 422), ({"verdict": ""}, 422),
        ({"reason": "x" * 501}, 422), ({"reason": "x" * 70_000}, 413),
    ],
)  # fmt: skip
def test_a_verdict_that_is_none_from_a_page(site: Explorer, said: dict[str, Any], status: int) -> None:
    answer = press(site, **said)
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.integration
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"},
        {"Origin": "https://evil.example"}, {"Origin": "null"},
    ],
)  # fmt: skip
def test_another_sites_page_judges_for_nobody(site: Explorer, headers: dict[str, str]) -> None:
    assert press(site, headers).status == tell(site, headers).status == 403
    assert site.ask("/login", body=b"token=x", headers=headers).status == 403
    assert site.ask("/", headers=headers).status == 200  # A link is nothing.


def test_our_own_pages_and_programs_are_not_foreign() -> None:
    for ours in (
        {},
        {"sec-fetch-site": "same-origin", "origin": "null"},
        {"sec-fetch-site": "none"},
        {"origin": "http://shop:8080", "host": "shop:8080"},
        {"origin": "https://shop.example", "host": "shop.example"},
    ):
        assert not foreign(Headers(ours))
    assert foreign(Headers({"origin": "http://shop:8081", "host": "shop:8080"}))
    assert foreign(Headers({"origin": "http://shop"}))


def feedback(**given_settings: Any) -> Feedback:
    made = Settings(**{f"explorer_{name}": value for name, value in given_settings.items()})
    return Feedback(made, Gate(made))


def test_behind_a_proxy_it_must_be_known_who_comes() -> None:
    with pytest.raises(SettingsError, match="EXPLORER_USER_HEADER is empty"):
        feedback(auth="proxy", feedback_key=FEEDBACK_KEY)
    assert feedback(auth="proxy", feedback_key=FEEDBACK_KEY, user_header="X-User").wanted
    assert not feedback(auth="proxy").wanted


def test_without_a_key_none_is_taken() -> None:
    anything: Any = None
    with pytest.raises(HTTPException, match="takes no verdicts") as refused:
        asyncio.run(feedback(auth="off").take(anything, anything, PAIR, INTENTION, "up", ""))
    assert refused.value.status_code == 403
    assert feedback(auth="off").hashed("anna") == ""


@given(st.text(min_size=1).filter(str.strip))
def test_a_session_knows_its_person_by_a_hash_alone(name: str) -> None:
    made = Settings.model_validate({"explorer_token": TOKEN, "explorer_feedback_key": FEEDBACK_KEY})
    gate = Gate(made)
    who = Feedback(made, gate).hashed(name)
    session = gate.session(who)
    assert gate.admits("", session)
    assert gate.person(session) == who
    assert len(who) == 64
    another = "0" * 64 if who != "0" * 64 else "1" * 64
    assert gate.person(session.replace(who, another)) == ""
    assert gate.person(gate.session()) == ""
