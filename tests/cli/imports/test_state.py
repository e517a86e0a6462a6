"""What an import remembers: its position, and pairs of products that were both seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.common import InputError
from services.cli.imports.state import Position, State
from services.common.pairs import pair_id


@given(st.lists(st.tuples(st.sampled_from('ab"%| \\'), st.lists(st.sampled_from('ab"%| \\c'), max_size=4)), max_size=8))
def test_a_pair_is_one_whose_products_were_both_seen(listed: list[tuple[str, list[str]]]) -> None:
    state = State(Path(":memory:"))
    for product, also in listed:
        state.add(product, also=also)
    latest = dict(listed)
    expected = {
        pair_id(product, other)
        for product, also in latest.items()
        for other in also
        if other in latest and other != product
    }
    found = list(state.pairs(""))
    assert sorted(pair_id(product, other) for product, others in found for other in others) == sorted(expected)
    for after in latest:
        assert [pair for pair in found if pair[0] > after] == list(state.pairs(after))
    state.close()


def test_both_listing_each_other_are_one_pair() -> None:
    state = State(Path(":memory:"))
    state.add("a", also=["b", "ab"])
    state.add("b", also=["a"])
    state.add("ab", also=["b"])
    assert [(product, sorted(others)) for product, others in state.pairs("")] == [("a", ["ab", "b"]), ("ab", ["b"])]
    state.close()


def test_a_position_comes_back(tmp_path: Path) -> None:
    state = State(tmp_path / "s.sqlite")
    assert state.position() is None
    at = Position({"files": ["x"]}, rows=7, sent={"products": 7})
    state.add("p", title="T")
    state.save(at)
    with pytest.raises(InputError, match="another import"):
        State(tmp_path / "s.sqlite")
    state.close()
    again = State(tmp_path / "s.sqlite")
    assert (again.position(), again.title("p"), again.title("q")) == (at, "T", None)
    again.clear()
    assert (again.position(), again.title("p")) == (None, None)
    again.close()
    (tmp_path / "no.sqlite").write_text(json.dumps("no database") * 1000)
    with pytest.raises(InputError, match="not a database"):
        State(tmp_path / "no.sqlite")
