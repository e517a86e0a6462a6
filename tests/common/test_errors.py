"""What errors say to people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindstream.events.v1 import dead_letter_pb2 as reasons

from services.common.errors import EventFault, one_line


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("two\nlines,  \ttabbed", "two lines, tabbed"),
        ("\x1b[2J gone", "\\x1b[2J gone"),
        ("C1 \x9b31m", "C1 \\x9b31m"),
        ("turned \u202egnp.exe", "turned \\u202egnp.exe"),
        ("half a character \ud800", "half a character \\ud800"),
        ("杯 ☕ é", "杯 ☕ é"),
        ("", "EventFault"),
    ],
)
def test_a_line_cannot_command_a_terminal(said: str, line: str) -> None:
    assert one_line(EventFault(reasons.DEAD_LETTER_REASON_INVALID, said)) == line


@given(st.text(st.characters()))
def test_any_error_is_one_printable_line(said: str) -> None:
    line = one_line(ValueError(said))
    assert line
    assert line.isprintable()
    line.encode()
