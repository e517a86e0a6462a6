"""One run over the KB: pages of pairs into messages, and a position saved behind what Kafka has acknowledged.

What a kill leaves unsaved is sent again. That writes nothing twice: a judgement by the same filter is the one that is
there (services/kb_sink/committer.py). The run keeps a little ahead of the filter and no more: new co-buys wait behind
what is sent, and Kafka does not keep for ever what nobody has read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.cli.common import InputError
from services.cli.rejudge import stored
from services.common import kafka, topics
from services.common.lag import lag
from services.common.records import output
from services.common.settings import Settings

NAME = "rejudge"
#: Pairs between two saved positions.
_PAGE = 50
#: Between two looks at how far the filter is.
_LOOK_SECONDS = 0.5


@dataclass
class Position:
    """How far a run is. All of it is JSON."""

    #: What it is of: installation and selection. Another run may not go on here.
    of: dict[str, Any] = field(default_factory=dict)
    #: The last pair whose intentions Kafka has.
    after: str = ""
    #: What was sent of how much, pairs and intentions.
    pairs: int = 0
    intentions: int = 0
    done: bool = False

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        partial = path.with_name(path.name + ".new")
        try:
            partial.write_text(json.dumps(asdict(self)))
            partial.replace(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None


def position(path: Path, of: dict[str, Any], *, resume: bool) -> Position:
    """Where to go on, or the beginning.

    Raises:
        InputError: what stopped here was another run, or the file is none of ours.
    """
    if not resume or not path.exists():
        return Position(of)
    try:
        found = Position(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path}: not a position of kb rejudge") from None
    if found.of != of:
        raise InputError(f"{path}: what stopped here was of another selection; without --resume it begins anew")
    return found


@dataclass
class Run:
    """Sends what is selected, from `at` on."""

    connection: Any
    which: stored.Which
    settings: Settings
    at: Position
    path: Path
    #: Messages that may wait for the filter before more are sent; 0: any number.
    ahead: int
    #: Called now and then, with the number of messages that wait.
    progress: Callable[[int], None] = lambda waiting: None

    def run(self) -> None:
        """Send everything.

        Raises:
            WorldFault: the database or Kafka is away; what was saved is in Kafka.
        """
        producer, name, at = kafka.plain_producer(self.settings), topics.AGAIN.name(self.settings), self.at
        while not at.done:
            self._wait()
            with self.connection.transaction():  # A page's own: none stays open while the filter is waited for.
                page = stored.pairs(self.connection, at.after, _PAGE)
                made = list(stored.messages(self.connection, self.which, page, self.settings.event_max_bytes))
            keyed = [(message.featured.cobuy.pair_id, message) for message in made]
            kafka.send(producer, [output(topics.AGAIN, name, pair, one, stage=NAME) for pair, one in keyed])
            at.pairs += len({pair for pair, _ in keyed})
            at.intentions += sum(len(message.candidates) for message in made)
            at.after, at.done = page[-1] if page else at.after, len(page) < _PAGE
            at.save(self.path)

    def _wait(self) -> None:
        """Wait until the filter has done most of what was sent."""
        while True:
            waiting = lag(self.settings, topics.AGAIN, topics.AGAIN.readers[0])
            self.progress(waiting)
            if not self.ahead or waiting < self.ahead:
                return
            time.sleep(_LOOK_SECONDS)
