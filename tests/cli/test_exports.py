"""The KB's files hold what the KB holds, in forms that other programs read."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli import exports

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
#: Lines of N-Triples as its grammar has them (W3C, RDF 1.1 N-Triples), without blank nodes and languages.
_IRI = r'<[^\x00-\x20<>"{}|^`\\]*>'
_LITERAL = r'"(?:[^"\\\n\r]|\\[tbnrf"\'\\])*"(?:\^\^' + _IRI + ")?"
LINE = re.compile(rf"({_IRI}) ({_IRI}) ({_IRI}|{_LITERAL}) \.")


def row(**given: Any) -> dict[str, Any]:
    """A row as the KB gives it."""
    made: dict[str, Any] = dict.fromkeys(exports.COLUMNS, "x")
    made |= dict.fromkeys(("sample", "support", "source_partition", "source_offset"), 1)
    made |= dict.fromkeys(("generated_at", "judged_at", "written_at"), AT)
    made |= {"relation": "UsedFor", "score": 0.25, "threshold": 0.5, "accepted": False, **given}
    return made


def written(form: str, rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    assert exports.FORMATS[form](rows, file) == len(rows)
    return file.getvalue()


ROWS = st.lists(st.fixed_dictionaries({"pair_id": TEXT, "product_a": TEXT, "title_a": TEXT, "text": TEXT}), max_size=8)


@given(ROWS)
def test_parquet_has_the_rows(given_rows: list[dict[str, str]]) -> None:
    rows = [row(**one) for one in given_rows]
    assert pq.read_table(io.BytesIO(written("parquet", rows))).to_pylist() == rows


@given(ROWS)
def test_json_lines_have_the_rows(given_rows: list[dict[str, str]]) -> None:
    rows = [row(**one) for one in given_rows]
    lines = written("jsonl", rows).decode().split("\n")[:-1]
    assert [json.loads(line) for line in lines] == [json.loads(json.dumps(one, default=str)) for one in rows]


@given(ROWS)
def test_every_line_is_a_triple(given_rows: list[dict[str, str]]) -> None:
    rows = sorted((row(**one) for one in given_rows), key=lambda one: str(one["pair_id"]))
    lines = written("ntriples", rows).decode().split("\n")[:-1]
    triples = [LINE.fullmatch(line) for line in lines]
    assert all(triples)
    pairs = [match for match in triples if match and match[3] == "<urn:mindstream:vocabulary#Pair>"]
    assert len(pairs) == len({one["pair_id"] for one in rows})


def test_what_a_triple_says() -> None:
    text = written("ntriples", [row(pair_id="a b|c", product_a="a b", text='says "so"\n', accepted=True)]).decode()
    assert '<urn:mindstream:product:a%20b> <http://www.w3.org/2000/01/rdf-schema#label> "x" .\n' in text
    assert r'vocabulary#text> "says \"so\"\n" .' in text
    assert '"0.25"^^<http://www.w3.org/2001/XMLSchema#double>' in text
    assert '"true"^^<http://www.w3.org/2001/XMLSchema#boolean>' in text


@pytest.mark.parametrize("form", exports.FORMATS)
def test_an_empty_kb_is_an_empty_file(form: str) -> None:
    assert b"urn:" not in written(form, [])
