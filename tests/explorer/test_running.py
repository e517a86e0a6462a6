"""The explorer as a process: who gets in, how often, what it does without its database, and its gRPC side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from mindstream.kb.v1 import knowledge_base_pb2 as kbpb
from mindstream.kb.v1.knowledge_base_pb2_grpc import KnowledgeBaseStub

from deploy.local.postgres import Postgres
from services.common import kb
from services.common.postgres import migrate
from services.kb_sink.committer import MIGRATIONS
from tests.conftest import await_ready, running
from tests.explorer.conftest import (
    SHOP,
    Explorer,
    Filled,
    environment,
    explorer,
    form,
    insert_pair,
    insert_product,
    wait_for,
)

pytestmark = pytest.mark.integration
TOKEN = "a-token-that-nobody-guesses-0123456789"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"EXPLORER_AUTH": "token"}, "MINDSTREAM_EXPLORER_TOKEN is empty"),
        ({"EXPLORER_AUTH": "token", "EXPLORER_TOKEN": "short"}, "shorter than 32 characters"),
        ({"EXPLORER_AUTH": "off", "EXPLORER_HOST": "0.0.0.0"}, "off is for loopback only"),
        ({"EXPLORER_AUTH": "off", "EXPLORER_GRPC_BIND": "0.0.0.0:1"}, "off is for loopback only"),
        ({"EXPLORER_DSN": "mysql://x"}, "MINDSTREAM_EXPLORER_DSN"),
        ({"EXPLORER_TRUSTED_PROXIES": "10.0.0.0/8, gateway"}, "MINDSTREAM_EXPLORER_TRUSTED_PROXIES"),
    ],
)
def test_it_does_not_start_open_to_strangers(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    env = environment("postgresql://127.0.0.1:1/x", tmp_path, HTTP_PORT=0, EXPLORER_PORT=0, **settings)
    done = subprocess.run(
        [sys.executable, "-m", "services.explorer"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert said in done.stderr


def test_a_taken_port_is_one_line(tmp_path: Path, site: Explorer) -> None:
    env = environment("postgresql://127.0.0.1:1/x", tmp_path, HTTP_PORT=0, EXPLORER_PORT=site.port)
    done = subprocess.run(
        [sys.executable, "-m", "services.explorer"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_token_opens_api_pages_and_grpc(filled: Filled) -> None:
    with explorer(filled.reader, filled.folder, EXPLORER_AUTH="token", EXPLORER_TOKEN=TOKEN) as site:
        refused = site.ask("/api/v1/product", id="tripod")
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert refused.headers["Content-Type"] == "application/problem+json"
        for path in ("/api/v1/stats", "/openapi.json", f"/media/{filled.picture}", "/events"):
            assert site.ask(path).status == 401, path
            assert site.ask(path, headers={"Authorization": f"Bearer {TOKEN}x"}).status == 401, path
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert site.ask("/api/v1/product", id="tripod", headers=bearer).json["title"] == SHOP["tripod"]
        assert site.ask("/openapi.json", headers=bearer).json["security"] == [{"token": []}]
        page = site.ask("/")
        assert (page.status, page.headers["Location"]) == (303, "/login")
        assert site.ask("/login").status == 200
        assert site.ask("/static/style.css").status == 200
        assert site.ask("/login", body=b"token=wrong").status == 401
        entered = site.ask("/login", body=f"token={TOKEN}".encode())
        cookie = entered.headers["Set-Cookie"]
        assert entered.status == 303
        assert {"HttpOnly", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
        assert site.ask("/", headers={"Cookie": cookie.partition(";")[0]}).status == 200
        assert TOKEN not in cookie
        with grpc.insecure_channel(f"127.0.0.1:{site.grpc}") as channel:
            stub = KnowledgeBaseStub(channel)
            asked = kbpb.GetProductRequest(product_id="tripod")
            for metadata in ((), (("authorization", "Bearer wrong"),)):
                with pytest.raises(grpc.RpcError) as error:
                    stub.GetProduct(asked, metadata=metadata)
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
            answer = stub.GetProduct(asked, metadata=(("authorization", f"Bearer {TOKEN}"),))
            assert answer.product.title == SHOP["tripod"]
        # Other programs of the host have cookies, too.
        session = site.ask("/login", body=form(token=TOKEN)).headers["Set-Cookie"].partition(";")[0]
        assert site.ask("/", headers={"Cookie": f'prefs={{"a":1}}; x=a b; {session}'}).status == 200
        assert site.ask("/", headers={"Cookie": 'prefs={"a":1}'}).status == 303
        assert TOKEN not in site.log.read_text()


def test_without_authentication_only_loopbacks_names_are_answered(site: Explorer) -> None:
    assert site.ask("/api/v1/stats", headers={"Host": "shop.example"}).status == 400
    assert site.ask("/", headers={"Host": "localhost:1"}).status == 200


def test_a_client_that_asks_too_much_is_told_when_to_come_back(filled: Filled) -> None:
    with explorer(filled.reader, filled.folder, EXPLORER_RATE="0.5") as site:
        answers = [site.ask("/api/v1/product", id="tripod") for _ in range(4)]
        assert answers[0].status == 200
        assert answers[-1].status == 429
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2
        assert answers[-1].headers["Content-Type"] == "application/problem+json"
        assert site.ready()  # The probes are on a port of their own.


@pytest.mark.parametrize("auth", ["off", "proxy"])
def test_behind_a_trusted_proxy_each_client_has_a_rate(filled: Filled, auth: str) -> None:
    trusted: dict[str, Any] = {
        "EXPLORER_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
        "EXPLORER_RATE": "0.01",
        "EXPLORER_AUTH": auth,
    }
    with explorer(filled.reader, filled.folder, **trusted) as site:
        # What a client sends itself stands before what the proxies add, and makes nobody of it.
        for number, status in enumerate((200, 429, 429)):
            sent = {"X-Forwarded-For": f"192.0.2.{number}, 198.51.100.7, 10.1.2.3"}
            assert site.ask("/api/v1/product", id="tripod", headers=sent).status == status
        assert site.ask("/", headers={"X-Forwarded-For": "198.51.100.8"}).status == 200
    with explorer(filled.reader, filled.folder, EXPLORER_RATE="0.01", EXPLORER_AUTH=auth) as site:
        for number, status in enumerate((200, 429)):
            sent = {"X-Forwarded-For": f"192.0.2.{number}"}
            assert site.ask("/api/v1/product", id="tripod", headers=sent).status == status


def test_counts_are_kept_while_the_database_is_away(platform_folder: Path, tmp_path: Path) -> None:
    with running(Postgres(platform_folder / "counting", platform_folder / "counting.log")) as server:
        server.create_database()
        with explorer(server.dsn(), tmp_path, wait=False) as site:
            wait_for(lambda: site.answers("/relations") == 503, "there is no KB")
            migrate(server.dsn(), kb.SCHEMA, MIGRATIONS)
            wait_for(lambda: site.answers("/relations") == 200, "there is one")
            server.child.ask_to_stop()
            server.child.wait_stopped(30)
            assert site.ask("/relations").status == site.ask("/api/v1/stats").status == 200
            assert site.ask("/").status == 503


def test_a_closed_database_is_said_and_comes_back_by_itself(platform_folder: Path, tmp_path: Path) -> None:
    with running(Postgres(platform_folder / "closing", platform_folder / "closing.log")) as server:
        server.create_database()
        migrate(server.dsn(), kb.SCHEMA, MIGRATIONS)
        with psycopg.connect(server.dsn()) as connection:
            insert_product(connection, "a", "Lantern")
            insert_product(connection, "b", "Tent")
            insert_pair(connection, "a", "b", 1, {})
        with explorer(server.dsn(), tmp_path) as site:
            assert site.ask("/product", id="a").status == 200
            server.child.ask_to_stop()
            server.child.wait_stopped(30)
            page = site.ask("/product", id="a")
            assert (page.status, page.headers["Retry-After"]) == (503, "5")
            assert 'http-equiv="refresh"' in page.text
            refused = site.ask("/api/v1/product", id="a")
            assert (refused.status, refused.json["status"]) == (503, 503)
            wait_for(lambda: not site.ready(), "readiness says so")
            server.child.start()
            await_ready(server.child, server.ready)
            wait_for(lambda: site.ask("/product", id="a").status == 200, "the page is back")
            wait_for(site.ready, "it is ready again")
            # A server that is started again behind open connections: no request sees it.
            server.child.ask_to_stop()
            server.child.wait_stopped(30)
            server.child.start()
            await_ready(server.child, server.ready)
            assert site.ask("/api/v1/product", id="a").status == 200


def test_its_role_reads_and_its_sessions_too(filled: Filled, site: Explorer) -> None:
    with psycopg.connect(filled.reader) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute("DELETE FROM kb.pairs")
    with psycopg.connect(filled.owner) as owner:
        users = owner.execute(
            "SELECT DISTINCT usename FROM pg_stat_activity "
            "WHERE application_name = 'mindstream-explorer' AND datname = 'explored'"
        ).fetchall()
    assert users == [("reads_explored",)]
    assert "could write" not in site.log.read_text()


def test_new_intentions_reach_those_who_look(filled: Filled, site: Explorer) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.readline().startswith(b"retry")
    # The first flow is told once the follower has its position.
    lines = iter(answer.readline, b"")
    assert any(line == b"event: flow\n" for line in lines)
    with psycopg.connect(filled.owner) as owner:
        insert_product(owner, "new<b>", "New & <b>bold</b>")
        insert_pair(owner, "new<b>", "tent", 1, {})
    try:
        assert any(b"New & <b>bold</b>" in line for line in lines if line.startswith(b"data"))
    finally:
        connection.close()
        with psycopg.connect(filled.owner) as owner:
            owner.execute("DELETE FROM kb.intentions WHERE pair_id LIKE 'new%%'")
            owner.execute("DELETE FROM kb.pairs WHERE pair_id LIKE 'new%%'")
            owner.execute("DELETE FROM kb.products WHERE product_id LIKE 'new%%'")


@pytest.fixture
def stub(site: Explorer) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{site.grpc}") as channel:
        yield KnowledgeBaseStub(channel)


def test_grpc_says_what_rest_says(stub: Any, site: Explorer) -> None:
    why = stub.Why(kbpb.WhyRequest(product_a="tripod", product_b="scope")).pair
    rest = site.ask("/api/v1/why", a="tripod", b="scope").json
    assert [(one.intention_id, one.sentence, one.score) for one in why.intentions] == [
        (one["intention_id"], one["sentence"], one["score"]) for one in rest["intentions"]
    ]
    assert why.product_b.title == rest["b"]["title"]
    first = stub.ListIntentions(kbpb.ListIntentionsRequest(product_id="tripod", limit=3))
    second = stub.ListIntentions(kbpb.ListIntentionsRequest(product_id="tripod", limit=3, cursor=first.next))
    rest = site.ask("/api/v1/intentions", product="tripod", limit=6).json
    assert [one.intention_id for one in [*first.items, *second.items]] == [one["intention_id"] for one in rest["items"]]
    pair = stub.GetPair(kbpb.GetPairRequest(product_a="scope", product_b="tripod")).pair
    assert (len(pair.intentions), pair.support) == (20, 12)
    assert stub.ListCoBought(kbpb.ListCoBoughtRequest(product_id="tripod", limit=1)).items[0].product_id == "scope"
    found = stub.Search(kbpb.SearchRequest(text="tripdo"))
    assert (found.corrected, found.products[0].product_id) == ("tripod", "tripod")
    basket = stub.SuggestForBasket(kbpb.SuggestForBasketRequest(items=["scope", "nobody"]))
    assert (basket.items[0].product_id, basket.unknown) == ("tripod", ["nobody"])
    assert basket.items[0].because[0].sentence
    changes = stub.ListChanges(kbpb.ListChangesRequest(limit=5))
    assert changes.position == site.ask("/api/v1/changes", limit=5).json["position"]


@pytest.mark.parametrize(
    ("call", "request_", "code"),
    [
        ("GetProduct", kbpb.GetProductRequest(product_id="nobody"), grpc.StatusCode.NOT_FOUND),
        ("GetProduct", kbpb.GetProductRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("GetProduct", kbpb.GetProductRequest(product_id="a\0"), grpc.StatusCode.INVALID_ARGUMENT),
        ("Why", kbpb.WhyRequest(product_a="tripod", product_b="nobody"), grpc.StatusCode.NOT_FOUND),
        ("ListIntentions", kbpb.ListIntentionsRequest(cursor="x"), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListIntentions", kbpb.ListIntentionsRequest(relation="x"), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListIntentions", kbpb.ListIntentionsRequest(min_score=float("nan")), grpc.StatusCode.INVALID_ARGUMENT),
        ("ListChanges", kbpb.ListChangesRequest(limit=10**6), grpc.StatusCode.INVALID_ARGUMENT),
        ("Search", kbpb.SearchRequest(text="x" * 201), grpc.StatusCode.INVALID_ARGUMENT),
        ("SuggestForBasket", kbpb.SuggestForBasketRequest(items=["x"] * 51), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_grpc_refuses_by_status(stub: Any, call: str, request_: Any, code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub, call)(request_)
    assert error.value.code() is code
    assert error.value.details()
