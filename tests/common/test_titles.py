"""Titles lose HTML's entities, whatever they name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.titles import readable


@pytest.mark.parametrize(
    ("title", "read"),
    [
        (" Boot, 6&quot; &amp; laces&nbsp;", 'Boot, 6" & laces'),
        ("a&#7;b", "ab"),
        ("a&#10;b", "a\nb"),
        ("&amp;#7;", "&#7;"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
    ],
)
def test_entities_become_what_they_name(title: str, read: str) -> None:
    assert readable(title) == read


@given(
    st.lists(st.sampled_from(["&", "#", "x", "amp", ";", "7", "D800", "Tab", "9" * 4000, " "]), max_size=12).map(
        "".join
    )
)
def test_any_title_is_read(title: str) -> None:
    assert readable(title) == readable(title).strip()
    readable(title).encode()
