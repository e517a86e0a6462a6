"""The KB's files hold what the KB holds, in forms that other programs read."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import pytest
import rdflib
from hypothesis import given
from hypothesis import strategies as st

from services.cli import exports

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


def row(**given: Any) -> dict[str, Any]:
    """A row as the KB gives it."""
    made: dict[str, Any] = dict.fromkeys(exports.COLUMNS, "x")
    made |= dict.fromkeys(("sample", "support", "source_partition", "source_offset"), 1)
    made |= dict.fromkeys(("generated_at", "judged_at", "written_at"), AT)
    return made | {"relation": "UsedFor", "score": 0.25, "threshold": 0.5, "accepted": False, "source": "", **given}


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


def graph(form: str, rows: list[dict[str, Any]]) -> set[tuple[str, str, Any]]:
    """All statements, as another program reads them."""
    found = rdflib.Graph().parse(data=written(form, rows), format={"ntriples": "nt", "jsonld": "json-ld"}[form])
    return {(str(s), str(p), o.toPython() if isinstance(o, rdflib.Literal) else o) for s, p, o in found}


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # rdflib's own word about itself.
@given(ROWS)
def test_both_forms_of_rdf_say_the_same_and_all(given_rows: list[dict[str, str]]) -> None:
    named = [row(intention_id=str(number), **one) for number, one in enumerate(given_rows)]
    rows = sorted(named, key=lambda one: str(one["pair_id"]))
    found = graph("ntriples", rows)
    assert graph("jsonld", rows) == found
    pairs = [s for s, _, o in found if o == rdflib.URIRef("urn:mindstream:vocabulary#Pair")]
    assert len(pairs) == len({one["pair_id"] for one in rows})
    text = "urn:mindstream:vocabulary#text"
    assert {(s, o) for s, p, o in found if p == text} == {
        (f"urn:mindstream:intention:{one['intention_id']}", one["text"]) for one in rows
    }


def test_what_a_triple_says() -> None:
    text = written("ntriples", [row(pair_id="a b|c", product_a="a b", text='says "so"\n', accepted=True)]).decode()
    assert '<urn:mindstream:product:a%20b> <http://www.w3.org/2000/01/rdf-schema#label> "x" .\n' in text
    assert r'vocabulary#text> "says \"so\"\n" .' in text
    assert '"0.25"^^<http://www.w3.org/2001/XMLSchema#double>' in text
    assert '"true"^^<http://www.w3.org/2001/XMLSchema#boolean>' in text
    assert '#source> "x/1/1" .' in text
    imported = written("ntriples", [row(source="folkscope", source_event_id="co.csv:2")]).decode()
    assert '#source> "folkscope co.csv:2" .' in imported


@pytest.mark.parametrize("form", exports.FORMATS)
def test_an_empty_kb_has_no_rows(form: str) -> None:
    content = written(form, [])
    assert json.loads(content)["@graph"] == [] if form == "jsonld" else b"urn:" not in content
