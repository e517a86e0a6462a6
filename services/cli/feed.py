"""`mindstream feed`: JSONL files into the topics that a shop would write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from services.cli.common import InputError, one_line_errors, settings_for
from services.common.errors import EventFault
from services.common.settings import Settings
from services.common.topics import COBUYS, PRODUCTS, PURCHASES, Topic

app = typer.Typer(no_args_is_help=True, help="Send products, purchases or co-buys from JSONL files.")

FileArgument = Annotated[Path, typer.Argument(help="JSONL: one object a line.")]
LimitOption = Annotated[int, typer.Option(help="Send the first N only; 0 sends all.", min=0)]
DataDirOption = Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")]


def lines(path: Path, limit: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSONL file, each with its place for errors.

    Raises:
        InputError: not readable, or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if limit and number > limit:
                    return
                if not line.strip():
                    continue
                place = f"{path}:{number}"
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{place}: not JSON: {error}") from None
                if not isinstance(found, dict):
                    raise InputError(f"{place}: not an object")
                yield place, found
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _text(place: str, row: dict[str, Any], name: str, *, optional: bool = False) -> str:
    value = row.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: {name} is missing or not a text")
    return _encodable(place, name, value)


def _encodable(place: str, name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can say it, UTF-8 cannot.
        raise InputError(f"{place}: {name} holds half of a surrogate pair") from None
    return value


def _count(place: str, row: dict[str, Any], name: str, default: int, bits: int) -> int:
    value = row.get(name, default)
    if type(value) is not int or not 0 <= value < 2**bits:
        raise InputError(f"{place}: {name} {str(value)[:40]!r} is not a number from 0 to 2^{bits} - 1")
    return value


def product(place: str, row: dict[str, Any]) -> tuple[str, Message]:
    """A line of products: `product_id`, `title`, `image` (a URL, or a file's path beside the JSONL)."""
    from mindstream.events.v1.product_pb2 import Product

    found = Product(product_id=_text(place, row, "product_id"), title=_text(place, row, "title"))
    image = _text(place, row, "image", optional=True)
    if image.startswith(("http://", "https://")):
        found.image.url = image
    elif image:
        path = Path(place.rsplit(":", 1)[0]).parent / image
        try:
            found.image.content = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
            raise InputError(f"{place}: image {image!r}: {getattr(error, 'strerror', None) or error}") from None
    return found.product_id, found


def purchase(place: str, row: dict[str, Any]) -> tuple[str, Message]:
    """A line of purchases: `order_id`, `customer_id`, `occurred_at` (ISO 8601), `items` (ids or objects)."""
    from mindstream.events.v1.purchase_pb2 import Purchase

    found = Purchase(
        order_id=_text(place, row, "order_id"), customer_id=_text(place, row, "customer_id", optional=True)
    )
    try:
        at = datetime.fromisoformat(_text(place, row, "occurred_at"))
        found.occurred_at.FromDatetime(at.astimezone(UTC) if at.tzinfo else at)
    except (ValueError, OverflowError):  # OverflowError: in UTC it would be in the year 0.
        raise InputError(f"{place}: occurred_at is not a time in ISO 8601") from None
    items = row.get("items")
    if not isinstance(items, list) or not items:
        raise InputError(f"{place}: items is missing or empty")
    for item in items:
        described = {"product_id": item} if isinstance(item, str) else item
        if not isinstance(described, dict) or not isinstance(described.get("product_id"), str):
            raise InputError(f"{place}: an item is neither an id nor an object with product_id")
        product_id = _encodable(place, "product_id", described["product_id"])
        found.items.add(product_id=product_id, quantity=_count(place, described, "quantity", 1, bits=32))
    return found.order_id, found


def cobuy(place: str, row: dict[str, Any]) -> tuple[str, Message]:
    """A line of co-buys: `product_a`, `product_b`, optional `support`."""
    from mindstream.events.v1.cobuy_pb2 import CoBuy

    from services.common.pairs import normalised

    support = _count(place, row, "support", 0, bits=64)
    a, b = _text(place, row, "product_a"), _text(place, row, "product_b")
    try:
        found = normalised(CoBuy(product_a=a, product_b=b, support=support))
    except EventFault as fault:
        raise InputError(f"{place}: {fault}") from None
    return found.pair_id, found


Parse = Callable[[str, dict[str, Any]], tuple[str, Message]]


def send(settings: Settings, topic: Topic, events: list[tuple[str, Message]]) -> int:
    """Send events and wait for Kafka's acknowledgement of every one; how many.

    Raises:
        InputError: an event is over the size limit.
        WorldFault: Kafka does not take them.
    """
    from services.common import kafka
    from services.common.records import output

    name = topic.name(settings)
    made = [output(topic, name, key, message, stage="feed") for key, message in events]
    for out in made:
        if len(out.value) > settings.event_max_bytes:
            key = out.key.decode()
            raise InputError(f"{key}: {len(out.value)} bytes; at most {settings.event_max_bytes} (event_max_bytes)")
    kafka.send(kafka.plain_producer(settings), made)
    return len(made)


def _feed(topic: Topic, parse: Parse, path: Path, limit: int, data_dir: Path | None) -> None:
    # All lines are read before the first is sent: a mistake in line 900 sends nothing.
    events = [parse(place, row) for place, row in lines(path, limit)]
    sent = send(settings_for(data_dir), topic, events)
    print(f"{sent} {topic.base} sent")


@app.command()
@one_line_errors
def products(file: FileArgument, limit: LimitOption = 0, data_dir: DataDirOption = None) -> None:
    """Send products: `product_id`, `title`, optional `image` (URL or file)."""
    _feed(PRODUCTS, product, file, limit, data_dir)


@app.command()
@one_line_errors
def purchases(file: FileArgument, limit: LimitOption = 0, data_dir: DataDirOption = None) -> None:
    """Send purchases: `order_id`, `customer_id`, `occurred_at`, `items`."""
    _feed(PURCHASES, purchase, file, limit, data_dir)


@app.command()
@one_line_errors
def cobuys(file: FileArgument, limit: LimitOption = 0, data_dir: DataDirOption = None) -> None:
    """Send co-buys that the shop counted itself: `product_a`, `product_b`."""
    _feed(COBUYS, cobuy, file, limit, data_dir)
