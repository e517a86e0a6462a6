"""gRPC `KnowledgeBase`: the REST API's questions and answers as messages, behind the same gate."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from mindstream.kb.v1 import knowledge_base_pb2 as kbpb
from mindstream.kb.v1 import knowledge_base_pb2_grpc as services
from starlette.datastructures import State

from services.common import kb, metrics
from services.common.errors import WorldFault
from services.common.relations import BY_NAME
from services.common.settings import Settings
from services.common.tls import server_credentials
from services.explorer.cursors import BadCursor
from services.explorer.gate import Gate
from services.explorer.guard import MAX_BODY_BYTES
from services.explorer.limits import ID_CHARACTERS, MOST_CHARACTERS, MOST_FOUND, MOST_ITEMS, MOST_ROWS
from services.explorer.queries import Queries

M = TypeVar("M", bound=Message)
NAME = kbpb.DESCRIPTOR.services_by_name["KnowledgeBase"].full_name
_GRACE_SECONDS = 5


class _Invalid(ValueError):
    """A field of a request is not of its form."""


class _Unknown(LookupError):
    """The KB does not know it."""


class KnowledgeBase(services.KnowledgeBaseServicer):
    """The service."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def _queries(self) -> Queries:
        queries: Queries = self._state.queries
        return queries

    async def GetProduct(self, request: kbpb.GetProductRequest, context: Any) -> kbpb.GetProductResponse:
        """See the contract, as for all others here."""
        row = await self._queries.product(_id("product_id", request.product_id))
        return kbpb.GetProductResponse(product=_filled(kbpb.KnownProduct, _known(row, "product")))

    async def ListCoBought(self, request: kbpb.ListCoBoughtRequest, context: Any) -> kbpb.ListCoBoughtResponse:
        """The page."""
        product, limit = _id("product_id", request.product_id), _limit(request.limit, 20, MOST_ROWS)
        page = await self._queries.cobought(product, limit, request.cursor)
        return kbpb.ListCoBoughtResponse(items=[_filled(kbpb.CoBought, row) for row in page.items], next=page.next)

    async def GetPair(self, request: kbpb.GetPairRequest, context: Any) -> kbpb.GetPairResponse:
        """The pair."""
        asked = _id("product_a", request.product_a), _id("product_b", request.product_b)
        return kbpb.GetPairResponse(pair=_pair(await self._queries.pair(*asked)))

    async def Why(self, request: kbpb.WhyRequest, context: Any) -> kbpb.WhyResponse:
        """The pair with its best reasons."""
        asked = _id("product_a", request.product_a), _id("product_b", request.product_b)
        return kbpb.WhyResponse(pair=_pair(await self._queries.why(*asked)))

    async def ListIntentions(self, request: kbpb.ListIntentionsRequest, context: Any) -> kbpb.ListIntentionsResponse:
        """The page."""
        if request.relation and request.relation not in BY_NAME:
            raise _Invalid(f"relation: none of {', '.join(BY_NAME)}")
        if not 0 <= request.min_score <= 1:
            raise _Invalid("min_score: from 0 to 1")
        query = kb.Query(
            _text("product_id", request.product_id, ID_CHARACTERS),
            _text("pair_id", request.pair_id, 6 * ID_CHARACTERS + 1),
            request.relation,
            request.min_score,
            request.accepted_only,
        )
        page = await self._queries.intentions(query, _limit(request.limit, 50, MOST_ROWS), request.cursor)
        return kbpb.ListIntentionsResponse(
            items=[_filled(kbpb.KnownIntention, row) for row in page.items], next=page.next
        )

    async def Search(self, request: kbpb.SearchRequest, context: Any) -> kbpb.SearchResponse:
        """What was found."""
        if not request.text:
            raise _Invalid("text: empty")
        text = _text("text", request.text, MOST_CHARACTERS)
        found = await self._queries.search(text, _limit(request.limit, 20, MOST_FOUND))
        return kbpb.SearchResponse(
            products=[_filled(kbpb.ProductFound, row) for row in found.products],
            intentions=[_filled(kbpb.KnownIntention, row) for row in found.intentions],
            corrected=found.corrected,
            empty=found.empty,
        )

    async def ListChanges(self, request: kbpb.ListChangesRequest, context: Any) -> kbpb.ListChangesResponse:
        """What comes next."""
        rows, position = await self._queries.changes(request.after, _limit(request.limit, 100, MOST_ROWS))
        return kbpb.ListChangesResponse(items=[_filled(kbpb.KnownIntention, row) for row in rows], position=position)

    async def SuggestForBasket(
        self, request: kbpb.SuggestForBasketRequest, context: Any
    ) -> kbpb.SuggestForBasketResponse:
        """What goes with it."""
        if not 0 < len(request.items) <= MOST_ITEMS:
            raise _Invalid(f"items: 1 to {MOST_ITEMS}, these are {len(request.items)}")
        items = [_id("items", item) for item in request.items]
        found = await self._queries.basket(items, _limit(request.limit, 10, MOST_FOUND))
        made = kbpb.SuggestForBasketResponse(unknown=found["unknown"])
        for row in found["items"]:
            because = [_filled(kbpb.Because, one) for one in row.pop("because")]
            suggestion = _filled(kbpb.Suggestion, row)
            suggestion.because.extend(because)
            made.items.append(suggestion)
        return made


class _Behind(grpc.aio.ServerInterceptor):
    """The gate before every call, and errors as statuses."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap our own calls; health checks pass."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or not str(details.method).startswith(f"/{NAME}/"):
            return handler
        call, route = handler.unary_unary, str(details.method)

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            code, answer = await self._answer(call, request, context)
            metrics.EXPLORER_REQUESTS.labels(route, code.name).inc()
            if code is not grpc.StatusCode.OK:
                await context.abort(code, answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(guarded, handler.request_deserializer, handler.response_serializer)

    async def _answer(self, call: Any, request: Any, context: Any) -> tuple[grpc.StatusCode, Any]:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        # "ipv4:127.0.0.1:50000", "ipv6:%5B::1%5D:50000"
        client = context.peer().partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "")
        if self._gate.wait(client):
            return grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls"
        if not self._gate.admits(metadata.get("authorization", "")):
            return grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed"
        try:
            return grpc.StatusCode.OK, await call(request, context)
        except (_Invalid, BadCursor) as error:
            return grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except _Unknown as error:
            return grpc.StatusCode.NOT_FOUND, str(error)
        except WorldFault as fault:
            return grpc.StatusCode.UNAVAILABLE, str(fault)


@contextlib.asynccontextmanager
async def serve(settings: Settings, state: State) -> AsyncIterator[int]:
    """Serve where the settings say; the port, 0 where they say nothing.

    Raises:
        SettingsError: a certificate is wrong.
        RuntimeError: the address is taken.
    """
    if not settings.explorer_grpc_bind:
        yield 0
        return
    server = grpc.aio.server(
        interceptors=[_Behind(state.gate)],
        options=[("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.so_reuseport", 0)],
    )
    services.add_KnowledgeBaseServicer_to_server(KnowledgeBase(state), server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", NAME):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    credentials = server_credentials(settings)
    if credentials is None:
        port = server.add_insecure_port(settings.explorer_grpc_bind)
    else:
        port = server.add_secure_port(settings.explorer_grpc_bind, credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(_GRACE_SECONDS)


def _id(name: str, value: str) -> str:
    if not value:
        raise _Invalid(f"{name}: empty")
    return _text(name, value, ID_CHARACTERS)


def _text(name: str, value: str, most: int) -> str:
    if len(value) > most:
        raise _Invalid(f"{name}: at most {most} characters")
    if "\0" in value:
        raise _Invalid(f"{name}: holds a NUL character")
    return value


def _limit(given: int, default: int, most: int) -> int:
    if given > most:
        raise _Invalid(f"limit: at most {most}")
    return given or default


def _known(row: Any, what: str) -> Any:
    if row is None:
        raise _Unknown(f"the KB knows no such {what}")
    return row


def _pair(row: dict[str, Any] | None) -> kbpb.KnownPair:
    row = _known(row, "pair")
    made = kbpb.KnownPair(
        pair_id=row["pair_id"],
        support=row["support"],
        first_seen=_stamp(row["first_seen"]),
        last_seen=_stamp(row["last_seen"]),
        intentions=[_filled(kbpb.KnownIntention, one) for one in row["intentions"]],
    )
    for side, product in ((made.product_a, row["a"]), (made.product_b, row["b"])):
        if product is not None:
            side.CopyFrom(_filled(kbpb.KnownProduct, product))
    return made


def _filled(message: type[M], row: dict[str, Any]) -> M:
    """A message with the fields that a row has by the same names; what is null stays unset."""
    values = {name: row[name] for name in message.DESCRIPTOR.fields_by_name if row.get(name) is not None}
    return message(**{n: _stamp(v) if isinstance(v, datetime) else v for n, v in values.items()})


def _stamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    made = Timestamp()
    made.FromDatetime(value)
    return made
