"""The KB as files for other tools: JSON lines, Parquet for analysts, N-Triples for graph people.

All are streamed: a KB that does not fit in memory is written as well as one that does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, Any
from urllib.parse import quote

Row = dict[str, Any]
#: Columns of an exported intention, as `services.common.kb.intentions` gives them.
COLUMNS = (
    "intention_id", "pair_id", "product_a", "product_b", "title_a", "title_b", "image_a", "image_b", "relation",
    "text", "sample", "score", "accepted", "threshold", "support", "extractor_model_a", "extractor_prompt_a",
    "extractor_model_b", "extractor_prompt_b", "generator_model", "generator_prompt", "filter_model", "filter_prompt",
    "pipeline_version", "source_topic", "source_partition", "source_offset", "source_event_id", "generated_at",
    "judged_at", "written_at", "sentence",
)  # fmt: skip
#: Rows of a Parquet file's row group, which are held at once.
_GROUP = 50_000
_RDF, _RDFS = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://www.w3.org/2000/01/rdf-schema#"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_OURS = "urn:mindstream:vocabulary#"
#: What N-Triples does not take within quotes (W3C, RDF 1.1 N-Triples, STRING_LITERAL_QUOTE).
_ESCAPED = str.maketrans({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r"})


def jsonl(rows: Iterable[Row], file: IO[bytes]) -> int:
    """One object a line; how many."""
    count = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
        count += 1
    return count


def parquet(rows: Iterable[Row], file: IO[bytes]) -> int:
    """One table, columns as in JSON lines, times as such; how many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {name: pa.int64() for name in ("sample", "support", "source_partition", "source_offset")}
    times = {name: pa.timestamp("us", "UTC") for name in ("generated_at", "judged_at", "written_at")}
    types = {**numbers, **times, "score": pa.float64(), "threshold": pa.float64(), "accepted": pa.bool_()}
    count, source = 0, iter(rows)
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(source, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
            count += len(group)
    return count


def ntriples(rows: Iterable[Row], file: IO[bytes]) -> int:
    """A statement a line (W3C, RDF 1.1 N-Triples); how many intentions. `rows` have each pair's together."""
    count = 0
    for _, group in groupby(rows, key=itemgetter("pair_id")):
        for number, row in enumerate(group):
            for triple in _triples(row, first=not number):
                file.write((" ".join(triple) + " .\n").encode())
            count += 1
    return count


FORMATS: dict[str, Callable[[Iterable[Row], IO[bytes]], int]] = {
    "jsonl": jsonl,
    "parquet": parquet,
    "ntriples": ntriples,
}


def _triples(row: Row, *, first: bool) -> Iterator[tuple[str, str, str]]:
    pair, a, b = _node("pair", row["pair_id"]), _node("product", row["product_a"]), _node("product", row["product_b"])
    if first:
        for product, title in ((a, row["title_a"]), (b, row["title_b"])):
            yield product, _iri(_RDF + "type"), _iri(_OURS + "Product")
            yield product, _iri(_RDFS + "label"), _literal(title)
        yield pair, _iri(_RDF + "type"), _iri(_OURS + "Pair")
        yield pair, _iri(_OURS + "product"), a
        yield pair, _iri(_OURS + "product"), b
        yield pair, _iri(_OURS + "support"), _literal(row["support"], "integer")
    reason = _node("intention", row["intention_id"])
    yield reason, _iri(_RDF + "type"), _iri(_OURS + "Intention")
    yield reason, _iri(_OURS + "pair"), pair
    yield reason, _iri(_OURS + "relation"), _node("relation", row["relation"])
    for name in ("text", "sentence", "generator_model", "filter_model"):
        yield reason, _iri(_OURS + name), _literal(row[name])
    yield reason, _iri(_OURS + "score"), _literal(repr(row["score"]), "double")
    yield reason, _iri(_OURS + "accepted"), _literal(str(row["accepted"]).lower(), "boolean")
    source = f"{row['source_topic']}/{row['source_partition']}/{row['source_offset']}"
    yield reason, _iri(_OURS + "source"), _literal(source)


def _node(kind: str, name: str) -> str:
    return _iri(f"urn:mindstream:{kind}:{quote(name, safe='')}")


def _iri(text: str) -> str:
    return f"<{text}>"


def _literal(value: Any, kind: str = "") -> str:
    quoted = f'"{str(value).translate(_ESCAPED)}"'
    return f"{quoted}^^{_iri(_XSD + kind)}" if kind else quoted
