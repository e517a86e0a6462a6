"""The REST API on a real KB: what it answers, what it refuses, its cursors, ETags and feed, and its document fuzzed."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from psycopg.rows import dict_row
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from deploy.local.postgres import Postgres
from services.common import kb
from services.common.postgres import migrate
from services.common.relations import RELATIONS
from services.explorer.guard import MAX_BODY_BYTES
from services.explorer.limits import MOST_ITEMS
from services.kb_sink.committer import MIGRATIONS
from tests.explorer.conftest import HOSTILE, SHOP, Explorer, Filled, explorer, insert_pair, insert_product, wait_for

pytestmark = pytest.mark.integration
slow = hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def api(site: Explorer, name: str, **values: Any) -> Any:
    answer = site.ask(f"/api/v1/{name}", **values)
    assert answer.status == 200, answer.text
    return answer.json


def test_a_product(site: Explorer, filled: Filled) -> None:
    found = api(site, "product", id="tripod")
    assert (found["title"], found["image_digest"]) == (SHOP["tripod"], filled.picture)
    assert found["model_version"] == "seer@1"
    assert api(site, "product", id="odd/id?&|%")["title"] == SHOP["odd/id?&|%"]


def test_titles_that_mean_ill_come_back_as_they_are(site: Explorer) -> None:
    for product, text in HOSTILE.items():
        found = api(site, "product", id=product)
        assert (found["title"], found["features"]) == (text, [text])


def test_why_gives_the_best_accepted_reason_of_each_relation_in_either_order(site: Explorer) -> None:
    why = api(site, "why", a="tripod", b="scope")
    assert why == api(site, "why", a="scope", b="tripod")
    assert why["support"] == 12
    scores = [one["score"] for one in why["intentions"]]
    assert scores == sorted(scores, reverse=True)
    assert all(one["accepted"] for one in why["intentions"])
    assert "MadeOf" not in {one["relation"] for one in why["intentions"]}
    assert {one["relation"] for one in api(site, "pair", a="tripod", b="scope")["intentions"]} == {
        one.name for one in RELATIONS
    }


def test_a_basket(site: Explorer) -> None:
    body = json.dumps({"items": ["scope", "feeder", "nobody"]}).encode()
    found = site.ask("/api/v1/basket", body=body, headers={"Content-Type": "application/json"}).json
    assert found["unknown"] == ["nobody"]
    best = found["items"][0]
    assert (best["product_id"], best["items"], best["support"]) == ("tripod", ["scope", "feeder"], 19)
    assert [one["item"] for one in best["because"]] == ["scope", "feeder"]
    assert all(one["sentence"] for one in best["because"])
    assert "scope" not in {one["product_id"] for one in found["items"]}


def test_words_are_found_in_products_and_reasons(site: Explorer) -> None:
    found = api(site, "search", q="photograph birds")
    assert not found["products"]
    assert [one["relation"] for one in found["intentions"]] == []  # UsedFor is rejected there, so not searched for.
    assert [one["product_id"] for one in api(site, "search", q="cameras")["products"]] == ["tripod"]
    assert api(site, "search", q="odd/id?&|%")["products"][0]["product_id"] == "odd/id?&|%"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("tripdo", "tripod"), ("Feedr", "feeder"), ("spoting scpe", "spotting scope"), ("tripdo?", "tripod?")],
)
def test_near_words_are_found(site: Explorer, typed: str, meant: str) -> None:
    found = api(site, "search", q=typed)
    assert found["corrected"] == meant
    assert found["products"]


@pytest.mark.parametrize("q", ["the", "of and the", "!!!", "...", "-", "'"])
def test_a_search_of_stop_words_says_so(site: Explorer, q: str) -> None:
    found = api(site, "search", q=q)
    assert (found["empty"], found["products"], found["intentions"]) == (True, [], [])
    assert "nothing to search for" in site.ask("/search", q=q).text


@pytest.mark.parametrize(
    ("name", "values", "status"),
    [
        ("product", {"id": "nobody"}, 404), ("product", {}, 422), ("product", {"id": ""}, 422),
        ("product", {"id": "a\0b"}, 422), ("product", {"id": "x" * 513}, 422),
        ("pair", {"a": "tripod", "b": "tripod"}, 404),
        ("why", {"a": "tripod"}, 422), ("intentions", {"relation": "Nothing"}, 422),
        ("intentions", {"min_score": "nan"}, 422),
        ("intentions", {"cursor": "rubbish"}, 400), ("intentions", {"limit": 0}, 422),
        ("intentions", {"limit": 10**30}, 422),
        ("cobought", {"product": "tripod", "cursor": "W10"}, 400), ("changes", {"after": "%%%"}, 400),
        ("search", {"q": "x" * 201}, 422), ("nothing", {}, 404),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(site: Explorer, name: str, values: dict[str, Any], status: int) -> None:
    answer = site.ask(f"/api/v1/{name}", **values)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.json["status"] == status
    assert "\n" not in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json.dumps({"items": [f"product-{n}" for n in range(10_000)]}), 413),
        (json.dumps({"items": ["x"] * (MOST_ITEMS + 1)}), 422),
        ('{"items": []}', 422), ('{"items": ["\\ud800"]}', 422), ('{"items": ["\\u0000"]}', 422), ("{", 422), ("", 422),
    ],
)  # fmt: skip
def test_a_basket_that_is_none(site: Explorer, body: str, status: int) -> None:
    answer = site.ask("/api/v1/basket", body=body.encode(), headers={"Content-Type": "application/json"})
    assert (answer.status, answer.json["status"]) == (status, status)


def test_a_body_without_a_length_is_bounded_too(site: Explorer) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    connection.request(
        "POST", "/api/v1/basket", iter([b'{"items": ["'] + [b"x" * 8192] * 20), {"Content-Type": "application/json"},
        encode_chunked=True,
    )  # fmt: skip
    assert connection.getresponse().status == 413
    assert MAX_BODY_BYTES < 20 * 8192


@slow
@given(
    st.sampled_from(["", "tripod", "scope"]), st.sampled_from(["", "UsedFor", "IsA"]), st.booleans(), st.integers(1, 70)
)
def test_pages_put_together_are_the_list(
    site: Explorer, product: str, relation: str, accepted: bool, limit: int
) -> None:
    asked: dict[str, Any] = {"product": product, "accepted": accepted, **({"relation": relation} if relation else {})}
    everything = api(site, "intentions", **asked, limit=200)["items"]
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < len(everything):
        page = api(site, "intentions", **asked, limit=limit, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            break
    if len(everything) < 200:
        assert not cursor
    assert [one["intention_id"] for one in found[: len(everything)]] == [one["intention_id"] for one in everything]


@pytest.mark.parametrize("limit", [1, 3, 200])
def test_cobought_pages_put_together_are_all_once(site: Explorer, limit: int) -> None:
    found: list[Any] = []
    cursor = ""
    while True:
        page = api(site, "cobought", product="tripod", limit=limit, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            break
    assert {one["product_id"] for one in found} == {"scope", "feeder", "odd/id?&|%", *HOSTILE}
    assert len(found) == 3 + len(HOSTILE)
    assert [one["support"] for one in found] == sorted((one["support"] for one in found), reverse=True)


@slow
@given(st.sampled_from(["product?id=tripod", "product?id=scope", "stats", "changes?limit=3", "relations"]))
def test_an_etag_spares_the_body_while_nothing_changes(site: Explorer, path: str) -> None:
    path = path.replace("relations", "intentions?limit=5")
    first = site.ask(f"/api/v1/{path}")
    again = site.ask(f"/api/v1/{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    other = site.ask(f"/api/v1/{path}", headers={"If-None-Match": '"other"'})
    assert (other.status, other.body) == (200, first.body)


def test_different_answers_have_different_etags(site: Explorer) -> None:
    tags = {site.ask("/api/v1/product", id=product).headers["ETag"] for product in SHOP}
    assert len(tags) == len(SHOP)


def follow(site: Explorer, position: str, limit: int) -> tuple[list[str], str]:
    """All that can be read behind a position now."""
    ids: list[str] = []
    while True:
        page = api(site, "changes", limit=limit, **({"after": position} if position else {}))
        position = page["position"]
        if not page["items"]:
            return ids, position
        ids += [one["intention_id"] for one in page["items"]]


@pytest.mark.parametrize("limit", [1, 7, 200])
def test_the_feed_has_everything_once(site: Explorer, limit: int) -> None:
    ids, position = follow(site, "", limit)
    assert len(ids) == len(set(ids)) == (4 + len(HOSTILE)) * len(RELATIONS)
    assert follow(site, position, limit) == ([], position)


@pytest.fixture
def feed(postgres_server: Postgres, request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    name = f"feed_{abs(hash(request.node.name)):x}"
    postgres_server.create_database(name)
    dsn = postgres_server.dsn(name)
    migrate(dsn, kb.SCHEMA, MIGRATIONS)
    with explorer(dsn, tmp_path) as running:
        yield dsn, running


def test_whoever_follows_misses_nothing_that_a_slower_transaction_commits_later(feed: Any) -> None:
    dsn, site = feed
    with psycopg.connect(dsn) as slow_one, psycopg.connect(dsn) as quick_one:
        for product in "abcd":
            insert_product(quick_one, product, product)
        quick_one.commit()
        insert_pair(slow_one, "a", "b", 1, {})
        insert_pair(quick_one, "c", "d", 1, {})
        quick_one.commit()
        early, position = follow(site, "", 50)
        assert early == []  # Committed, but behind one that is still under way.
        slow_one.commit()
        late, position = follow(site, position, 50)
        assert len(late) == len(set(late)) == 2 * len(RELATIONS)
        assert {one.rpartition("-")[0] for one in late} == {"a|b", "c|d"}
        slow_one.execute("DELETE FROM kb.pairs WHERE false")
        insert_pair(slow_one, "a", "c", 1, {})
        slow_one.rollback()
        insert_pair(slow_one, "b", "d", 1, {})
        slow_one.commit()
        more, position = follow(site, position, 3)
        assert {one.rpartition("-")[0] for one in more} == {"b|d"}


def test_the_feed_under_writers_that_overlap(feed: Any) -> None:
    dsn, site = feed
    writers, pairs, found = 4, 12, list[str]()
    with psycopg.connect(dsn) as connection:
        for product in range(writers * (pairs + 1)):
            insert_product(connection, f"p{product}", "x")
    barrier = threading.Barrier(writers)

    def write(number: int) -> None:
        with psycopg.connect(dsn) as connection:
            for pair in range(pairs):
                first = number * (pairs + 1) + pair
                barrier.wait()
                insert_pair(connection, f"p{first}", f"p{first + 1}", 1, {})
                connection.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    position = ""
    while any(thread.is_alive() for thread in threads):
        ids, position = follow(site, position, 13)
        found += ids
    ids, position = follow(site, position, 13)
    found += ids
    assert len(found) == len(set(found)) == writers * pairs * len(RELATIONS)


def test_a_database_from_before_has_its_rows_in_the_feed(postgres_server: Postgres, tmp_path: Any) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    from services.common import postgres as common

    postgres_server.create_database("older")
    dsn = postgres_server.dsn("older")
    config = Config()
    config.set_main_option("script_location", f"{common.__file__.rpartition('/')[0]}/migrations")
    config.set_main_option("version_locations", str(MIGRATIONS))
    config.set_main_option("path_separator", "newline")
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA kb")
        connection.commit()
        config.attributes.update(connection=connection, schema=kb.SCHEMA)
        command.upgrade(config, "0002")
        connection.commit()
    engine.dispose()
    with psycopg.connect(dsn) as old:
        for product in "ab":
            insert_product(old, product, "Oldest Lantern")
        insert_pair(old, "a", "b", 1, {})
    with explorer(dsn, tmp_path, wait=False) as site:
        wait_for(lambda: site.answers("/api/v1/newest") == 503, "it says that there is no KB that it knows")
        assert "holds no KB that this explorer knows" in site.ask("/").text
        migrate(dsn, kb.SCHEMA, MIGRATIONS)
        wait_for(site.ready, "the migrated KB is served")
        assert len(follow(site, "", 50)[0]) == len(RELATIONS)
        assert api(site, "search", q="lantren")["corrected"] == "lantern"


def test_the_document_is_kept(site: Explorer) -> None:
    """Schemathesis over every operation, with what fits its parameters and what does not."""
    schema = schemathesis.openapi.from_url(f"{site.url}/openapi.json")
    tested = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:

            @hypothesis_settings(max_examples=30, suppress_health_check=list(HealthCheck), derandomize=True)
            @given(case=operation.as_strategy(mode))
            def holds(case: Any) -> None:
                # A request's line of 64 KiB and more is refused by the HTTP server, before us and in its own words.
                assume(len(case.as_curl_command()) < 60_000)
                # Any text fits a cursor's schema, and is none.
                case.call_and_validate(excluded_checks=[positive_data_acceptance])

            try:
                holds()
            except Unsatisfiable:  # What has no parameters cannot be asked wrongly.
                assert mode is GenerationMode.NEGATIVE
                assert not any(operation.iter_parameters())
        tested += 1
    assert tested >= 10


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("by_score", [False, True])
def test_a_products_rows_are_the_same_by_its_pairs(
    filled: Filled, narrow: bool, accepted: bool, by_score: bool
) -> None:
    with psycopg.connect(filled.reader, row_factory=dict_row) as connection:

        def found(query: kb.Query, by_pairs: bool) -> list[dict[str, Any]]:
            made, values = kb.statement(query, by_score=by_score, by_pairs=by_pairs)
            return connection.execute(made.encode(), values).fetchall()

        asked = kb.Query("tripod", min_score=0.1, accepted_only=accepted)
        rows = found(asked, by_pairs=False)
        if narrow:
            asked = replace(asked, relation=rows[0]["relation"])
            rows = found(asked, by_pairs=False)
        else:
            assert len({row["pair_id"] for row in rows}) > 1
        assert found(asked, by_pairs=True) == rows != []
        some = replace(asked, limit=2, after=(rows[0]["score"], rows[0]["intention_id"]))
        assert found(some, by_pairs=True) == found(some, by_pairs=False)
