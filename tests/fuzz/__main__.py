"""Coverage-guided fuzzing: `make fuzz SECONDS=60`, or `python -m tests.fuzz events|pictures --seconds 60`.

atheris (libFuzzer for Python) makes up inputs and keeps those that reach new lines of ours, or of Pillow's. Whatever a
decoder raises that is not its own error ends the run: the input lies in the folder's `crash-…`, and is tried again with
`--again FILE`. What was found to be new is kept in the folder for the next run.

atheris is no dependency of the project: the command of the Makefile brings it in an environment of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["services", "PIL", "google.protobuf.json_format"]):
    from PIL import Image

    from services.cobuy.purchases import purchase
    from services.common import dead_letters, topics
    from services.common.dead_letter_queue import Letter, Queue
    from services.common.errors import EventFault
    from services.common.pairs import normalised as pair
    from services.common.records import Record, decode
    from services.extractor import normalise
    from services.kb_sink.feedback import feedback_rows
    from services.kb_sink.rows import rows

_PIXELS, _SIDE = 1_000_000, 64
#: libFuzzer's own limits: the largest input, bytes; the longest one may take, seconds; memory, MiB.
_LIMITS = {"max_len": 4096, "timeout": 20, "rss_limit_mb": 4096}


def events(data: bytes) -> None:
    """The first byte says which topic, the second which content type and headers; the rest is the record's value."""
    if len(data) < 2:
        return
    topic, how, value = topics.ALL[data[0] % len(topics.ALL)], data[1], data[2:]
    kind = (b"", b"application/json", b"application/protobuf", b"text/plain")[how % 4]
    headers = [("content-type", kind)]
    if how & 4:
        headers += [(dead_letters.PREFIX + name, value[:40]) for name in ("partition", "offset", "reason", "time")]
    if how & 8:
        headers += [("mindstream-origin", value[:60]), (dead_letters.VALUE_BYTES, value[:20])]
    record = Record(topic.base, 0, 1, value[:8], value, headers, int.from_bytes(value[:7], "big", signed=True))
    _ = record.source, dead_letters.original_headers(record)
    letter = Letter(Queue("dlq", topic, "g"), record, dead_letters.read(record), False)
    _ = letter.reason, letter.cut_from, letter.decoded()
    for taken in (
        lambda: decode(record, topic.message, json_allowed=topic.json_allowed),
        lambda: purchase(record),
        lambda: rows(record),
        lambda: feedback_rows(record),
        lambda: pair(decode(record, topics.COBUYS.message, json_allowed=True)),  # type: ignore[arg-type]
    ):
        with contextlib.suppress(EventFault):
            taken()


def pictures(data: bytes) -> None:
    """A picture file becomes a small PNG, or is refused."""
    with contextlib.suppress(normalise.BadPicture):
        made = Image.open(io.BytesIO(normalise.normalised(data, _PIXELS, _SIDE)))
        made.load()
        if (made.format, made.mode) != ("PNG", "RGB") or max(made.size) > _SIDE:
            raise AssertionError(f"{made.format} {made.mode} {made.size}")


def _event_seeds() -> Iterator[bytes]:
    at = b'"2026-01-02T03:04:05Z"'
    yield b'\x00\x01{"order_id":"o1","customer_id":"c","occurred_at":' + at + b',"items":[{"product_id":"p"}]}'
    yield b'\x01\x01{"productId":"p","title":"A cup","image":{"url":"http://x/"},"attributes":{"a":"b"}}'
    yield b'\x04\x01{"product_a":"a","product_b":"b","support":"3","first_seen":' + at + b"}"
    for number, topic in enumerate(topics.ALL):
        made = topic.message()
        for field in made.DESCRIPTOR.fields:
            if field.message_type is not None and not field.is_repeated:
                getattr(made, field.name).SetInParent()
            elif field.message_type is None and not field.is_repeated and field.cpp_type == field.CPPTYPE_STRING:
                setattr(made, field.name, b"a" if field.type == field.TYPE_BYTES else "a|b")
        yield bytes([number, 14]) + made.SerializeToString()


def _picture_seeds() -> Iterator[bytes]:
    for format_ in normalise.FORMATS:
        for mode in ("RGB", "P", "L"):
            file = io.BytesIO()
            Image.new(mode, (9, 7), 3).convert("RGB" if format_ == "JPEG" else mode).save(file, format_)
            yield file.getvalue()


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]]]] = {
    "events": (events, _event_seeds),
    "pictures": (pictures, _picture_seeds),
}


def main() -> None:
    """Fuzz for so long; libFuzzer ends the process, with 77 where it found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition(":")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path(".cache/fuzz"), help="what was found, for the next run")
    parser.add_argument("--again", type=Path, help="one input, once")
    asked = parser.parse_args()
    target, seeds = TARGETS[asked.target]
    if asked.again:
        target(asked.again.read_bytes())
        return
    corpus = asked.folder / asked.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-{name}={value}" for name, value in _LIMITS.items()]
    options = [f"-max_total_time={asked.seconds}", f"-artifact_prefix={asked.folder}/", "-print_final_stats=1", *limits]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
