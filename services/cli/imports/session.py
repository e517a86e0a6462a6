"""What was asked for, put together and run."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from services.cli.common import InputError, settings_for
from services.cli.imports import amazon, intentions
from services.cli.imports.command import Asked, Pairs
from services.cli.imports.reading import digest, opened
from services.cli.imports.running import Import, Nowhere, Refused, Sink, ToKafka
from services.cli.imports.sources import Catalogue, Intentions, Messages, Source
from services.cli.imports.state import Position, State
from services.cli.progress import shown
from services.common import kafka
from services.common.errors import WorldFault, printable
from services.common.settings import Settings, load_settings

#: Refused rows that a dry run shows.
_SHOWN = 10
_NO_PICTURES = (
    "Products with pictures will be dead letters, unless the extractor has other settings than this command: "
    "MINDSTREAM_IMAGE_ALLOWED_HOSTS names no host (or leave pictures out: --text-only)"
)
#: What files of products call an id and a title.
_IDS, _TITLES = ("product_id", "asin", "parent_asin", "item_id", "id"), ("title", "item_name", "name")


def run(asked: Asked) -> Position:
    """Run an import and say what came of it.

    Raises:
        InputError: a file, an option or the work folder is wrong.
        WorldFault: Kafka is away, has no topics, or does not take the messages.
    """
    settings = load_settings() if asked.dry_run else settings_for(asked.data_dir)
    name = asked.collection.value
    with _place(asked) as folder, closing(State(folder / f"{name}.sqlite")) as state:
        source = _source(asked, settings, state)
        sink: Sink = Nowhere() if asked.dry_run else _kafka(settings, source)
        aside = folder / f"{name}.refused.jsonl"
        with shown() as show:
            at = _position(asked, state, show)
            if asked.collection.catalogue and not asked.text_only and not settings.image_allowed_hosts:
                print(_NO_PICTURES, file=sys.stderr)
            with closing(Refused(aside, at.refused_bytes)) as refused:
                if not at.done:
                    Import(source, asked.files, sink, state, at, refused, asked.limit, _progress(at, show)).run()
        _say(asked, settings, at, aside)
        return at


@contextmanager
def _place(asked: Asked) -> Iterator[Path]:
    """Where the position and refused rows go; a dry run leaves nothing."""
    if asked.dry_run:
        with tempfile.TemporaryDirectory(prefix="mindstream-import-") as folder:
            yield Path(folder)
    else:
        asked.work.mkdir(parents=True, exist_ok=True)
        yield asked.work


def _source(asked: Asked, settings: Settings, state: State) -> Source:
    name, messages = asked.collection.value, Messages(settings)
    if asked.collection.catalogue:
        which = (asked.pairs or Pairs.BOTH_KNOWN).value
        return Catalogue(amazon.SOURCES[name], messages, state, which, not asked.text_only)
    columns = intentions.SOURCES[name].renamed(asked.columns)
    parser = intentions.Parser(name, columns, settings.title_max_chars, state.title)
    maker = intentions.Maker(
        name,
        asked.as_is,
        settings.filter_threshold,
        settings.pipeline_version,
        asked.score,
        settings.event_max_bytes,
    )
    return Intentions(parser, maker, messages)


def _kafka(settings: Settings, source: Source) -> ToKafka:
    trouble = kafka.topics_trouble(settings, {topic.name(settings): 0 for topic in source.topics})
    if trouble:
        raise WorldFault("kafka", trouble)
    return ToKafka(settings)


def _position(asked: Asked, state: State, show: Callable[[str], None]) -> Position:
    options = [asked.judge, asked.as_is, asked.pairs, asked.text_only, asked.columns, asked.score, asked.limit]
    of = {
        "options": options,
        "files": [digest(path) for path in asked.files],
        "products": [digest(path) for path in asked.products],
    }
    found = state.position() if asked.resume else None
    if found and found.of != of:
        raise InputError("what stopped here was of other files or options; without --resume it begins anew")
    if found:
        return found
    state.clear()
    for path in asked.products:
        _keep_titles(state, path, show)
    made = Position(of)
    state.save(made)
    return made


def _keep_titles(state: State, path: Path, show: Callable[[str], None]) -> None:
    """Rows without both an id and a title are no products."""
    with opened(path) as reader:
        size = path.stat().st_size or 1
        for number, row in enumerate(reader.rows()):
            if not number % 1000:
                show(f"{reader.read / size:4.0%} of the titles in {path}")
            product, title = (next(filter(None, map(row.value.get, names)), None) for names in (_IDS, _TITLES))
            if type(product) is str and type(title) is str:
                state.add(product, title=title)


def _progress(at: Position, show: Callable[[str], None]) -> Callable[[float], None]:
    began, before = time.monotonic(), sum(at.sent.values())

    def progress(share: float) -> None:
        sent = sum(at.sent.values())
        rate = (sent - before) / (time.monotonic() - began)
        show(f"{share:4.0%} {at.rows:,} rows, {at.refused:,} refused, {sent:,} sent, {rate:,.0f} messages/s")

    return progress


def _say(asked: Asked, settings: Settings, at: Position, aside: Path) -> None:
    sent = (f"{count:,} to {name.removeprefix(settings.topic_prefix)}" for name, count in sorted(at.sent.items()))
    print(f"{at.rows:,} rows; {'would send' if asked.dry_run else 'sent'}: {', '.join(sent) or 'nothing'}")
    if at.listed:
        print(f"{at.listed:,} co-buys were listed, with products of the files or others")
    if not at.refused:
        return
    print(f"{at.refused:,} rows refused" + (", the first:" if asked.dry_run else f", each with its reason: {aside}"))
    if asked.dry_run:
        with aside.open(encoding="utf-8") as file:
            for _, line in zip(range(_SHOWN), file, strict=False):
                print(printable(line.rstrip())[:400])
