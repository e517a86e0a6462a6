"""The two kinds of error, and the wait.

An event's fault is a dead letter and the stage goes on. The world's fault is waited out and never a dead letter.
Parked means: not yet, try again later without holding up the partition.
"""

from __future__ import annotations

from mindstream.events.v1.dead_letter_pb2 import DEAD_LETTER_REASON_TOO_LARGE, DeadLetterReason


class EventFault(Exception):
    """This event can never pass as it is: a dead letter with `reason` and one line for people."""

    def __init__(self, reason: DeadLetterReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Parked(Exception):
    """Something this event needs is not there yet; after the grace it is a dead letter with `reason`."""

    def __init__(self, reason: DeadLetterReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WorldFault(Exception):
    """Something outside is away; `kind` is model, database, kafka or media. The event is tried again."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ServerCrashed(WorldFault):
    """The model server went away while it was computing this very event: the event is a crash suspect."""

    def __init__(self, message: str) -> None:
        super().__init__("model", message)


class TooLarge(WorldFault):
    """Kafka refuses a record for its size, and would again: the event that made it becomes a dead letter."""

    reason = DEAD_LETTER_REASON_TOO_LARGE

    def __init__(self, message: str) -> None:
        super().__init__("kafka", message)


def printable(text: str) -> str:
    """Text with escapes in place of what a terminal would obey, or UTF-8 cannot carry: it may quote an event."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: Exception) -> str:
    """What an error says, as one line for people."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def reason_label(reason: DeadLetterReason.ValueType) -> str:
    """Short name for headers and metric labels: `unknown_product`."""
    return DeadLetterReason.Name(reason).removeprefix("DEAD_LETTER_REASON_").lower()


def reason_value(label: str) -> DeadLetterReason.ValueType:
    """The reason of a label; unspecified where it is unknown."""
    names = {reason_label(value): value for value in DeadLetterReason.values()}
    return names.get(label, DeadLetterReason.DEAD_LETTER_REASON_UNSPECIFIED)
