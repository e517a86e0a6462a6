"""One import: rows into messages, messages to Kafka, and a position saved behind what Kafka has acknowledged.

What a kill leaves unsaved is read and sent again. That harms nobody: products are kept by their id, a pair is admitted
once, and an intention's id follows from its content.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from services.cli.common import InputError
from services.cli.imports.reading import Row, opened
from services.cli.imports.sources import Message, Source
from services.cli.imports.state import Position, State
from services.common import kafka
from services.common.errors import EventFault, WorldFault, one_line
from services.common.records import invalid
from services.common.settings import Settings

#: Rows, or products whose pairs are sent, between two saved positions.
SAVED_EVERY = 50_000
#: What may wait in the producer.
_QUEUE_KBYTES = 64 * 1024
#: Longest wait for acknowledgements, beyond librdkafka's own five minutes.
_SETTLE_SECONDS = 330.0


class Sink(Protocol):
    """Where messages go."""

    def send(self, made: Sequence[Message]) -> None:
        """Take them."""

    def settle(self) -> None:
        """Come back when all are acknowledged."""


class Nowhere:
    """A dry run's sink."""

    def send(self, made: Sequence[Message]) -> None:
        """Drop them."""

    def settle(self) -> None:
        """Nothing waits."""


class ToKafka:
    """The real one; what waits for its acknowledgement is bounded."""

    def __init__(self, settings: Settings) -> None:
        self._failed: list[KafkaError] = []
        ours = {"queue.buffering.max.kbytes": _QUEUE_KBYTES, "delivery.report.only.error": True}
        self._producer = Producer(kafka.producer_config(settings, on_delivery=self._fail, **ours))

    def send(self, made: Sequence[Message]) -> None:
        """Send them, when there is room.

        Raises:
            WorldFault: Kafka did not take an earlier one.
        """
        produce = self._producer.produce
        for topic, key, value, headers in made:
            while True:
                try:
                    produce(topic, value, key, headers=headers)  # type: ignore[arg-type]
                    break
                except BufferError:
                    self._producer.poll(0.1)
                    self._raise()
                except KafkaException as error:
                    self._failed.append(error.args[0])
                    self._raise()

    def settle(self) -> None:
        """Wait for all acknowledgements.

        Raises:
            WorldFault: Kafka did not take them all.
        """
        left = self._producer.flush(_SETTLE_SECONDS)
        self._raise()
        if left:
            raise WorldFault("kafka", f"Kafka has not answered for {left} records")

    def _fail(self, error: KafkaError | None, _: Any) -> None:
        if error:
            self._failed.append(error)

    def _raise(self) -> None:
        if self._failed:
            raise WorldFault("kafka", f"Kafka did not take a record: {self._failed[0].str()} (then go on: --resume)")


class Refused:
    """Rows that were refused, an object a line: `file`, `line`, `reason` and the row."""

    def __init__(self, path: Path, keep: int) -> None:
        try:
            self._file = path.open("r+b" if keep else "wb")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        self._file.truncate(keep)
        self._file.seek(0, 2)

    def add(self, path: Path, row: Row, reason: str) -> None:
        """Set one aside."""
        told = {"file": str(path), "line": row.line, "reason": reason, "row": row.shown}
        self._file.write(json.dumps(told, ensure_ascii=False).encode("utf-8", "replace") + b"\n")

    def size(self) -> int:
        """Bytes written; a killed process leaves them there."""
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Import:
    """One run over files, from `position` on."""

    source: Source
    files: list[Path]
    sink: Sink
    state: State
    position: Position
    refused: Refused
    #: Rows in all; 0: every one.
    limit: int = 0
    #: Called now and then, with the share of the files that is read.
    progress: Callable[[float], None] = lambda share: None
    saved_every: int = SAVED_EVERY

    def run(self) -> None:
        """Send everything.

        Raises:
            InputError: a file cannot be read on; what was before is sent.
            WorldFault: Kafka does not take the messages.
        """
        self.source.listed = self.position.listed
        try:
            if not self.position.read:
                self._read()
        except InputError:
            self._save()
            raise
        self._send_pairs()
        self.position.done = True
        self._save()

    def _read(self) -> None:
        at, sizes = self.position, [path.stat().st_size for path in self.files]
        for number, path in enumerate(self.files):
            if number < at.file:
                continue
            with opened(path) as reader:
                for row in reader.rows(at.offset, at.line):
                    if self.limit and at.rows >= self.limit:
                        break
                    self._take(row, path)
                    if not at.rows % 1000:
                        self.progress((sum(sizes[:number]) + reader.read) / (sum(sizes) or 1))
                    if not at.rows % self.saved_every:
                        self._save()
            at.file, at.offset, at.line = number + 1, 0, 0
        at.read = True
        self._save()

    def _take(self, row: Row, path: Path) -> None:
        at = self.position
        at.rows, at.offset, at.line = at.rows + 1, row.end, row.line
        try:
            if row.fault:
                raise invalid(row.fault)
            made = self.source.take(row, path)
        except EventFault as fault:
            at.refused += 1
            self.refused.add(path, row, one_line(fault))
        else:
            self._send(made)

    def _send_pairs(self) -> None:
        at = self.position
        for number, (product, made) in enumerate(self.source.pairs(at.after), 1):
            self._send(made)
            at.after = product
            if not number % 1000:
                self.progress(1.0)
            if not number % self.saved_every:
                self._save()

    def _send(self, made: Sequence[Message]) -> None:
        self.sink.send(made)
        sent = self.position.sent
        for message in made:
            sent[message.topic] = sent.get(message.topic, 0) + 1

    def _save(self) -> None:
        self._send(self.source.take_held())
        self.sink.settle()
        self.position.listed = self.source.listed
        self.position.refused_bytes = self.refused.size()
        self.state.save(self.position)
