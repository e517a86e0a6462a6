"""The KB as files for other tools: JSON lines, Parquet for analysts, N-Triples and JSON-LD for graph people.

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
    "pipeline_version", "source", "source_topic", "source_partition", "source_offset", "source_event_id",
    "generated_at", "judged_at", "written_at", "sentence",
)  # fmt: skip
#: Rows of a Parquet file's row group, which are held at once.
_GROUP = 50_000
_RDF, _RDFS = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://www.w3.org/2000/01/rdf-schema#"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_OURS = "urn:mindstream:vocabulary#"
_NODE, _INTEGER, _DOUBLE, _BOOLEAN = "@id", _XSD + "integer", _XSD + "double", _XSD + "boolean"
#: The vocabulary: what each term stands for, and of which type its values are; texts where nothing is said.
_TERMS: dict[str, tuple[str, str]] = {
    "label": (_RDFS + "label", ""),
    "product": (_OURS + "product", _NODE),
    "support": (_OURS + "support", _INTEGER),
    "pair": (_OURS + "pair", _NODE),
    "relation": (_OURS + "relation", _NODE),
    **{name: (_OURS + name, "") for name in ("text", "sentence", "generator_model", "filter_model", "source")},
    "score": (_OURS + "score", _DOUBLE),
    "accepted": (_OURS + "accepted", _BOOLEAN),
}
#: The same as JSON-LD has it (W3C, JSON-LD 1.1, section 3.1).
_CONTEXT: dict[str, Any] = {
    **{kind: _OURS + kind for kind in ("Product", "Pair", "Intention")},
    **{term: {"@id": iri, "@type": kind} if kind else iri for term, (iri, kind) in _TERMS.items()},
}
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
    return sum(_written(node, file) for node in _nodes(rows))


def jsonld(rows: Iterable[Row], file: IO[bytes]) -> int:
    """One document, a node a line (W3C, JSON-LD 1.1); how many intentions. `rows` have each pair's together."""
    count, between = 0, b""
    file.write(b'{"@context": ' + _json(_CONTEXT) + b',\n"@graph": [\n')
    for node in _nodes(rows):
        file.write(between + _json(node))
        count, between = count + (node["@type"] == "Intention"), b",\n"
    file.write(b"\n]}\n")
    return count


FORMATS: dict[str, Callable[[Iterable[Row], IO[bytes]], int]] = {
    "jsonl": jsonl,
    "parquet": parquet,
    "ntriples": ntriples,
    "jsonld": jsonld,
}


def _nodes(rows: Iterable[Row]) -> Iterator[Row]:
    """What is said of a pair and its products, and then of its intentions, in terms of the vocabulary."""
    for _, group in groupby(rows, key=itemgetter("pair_id")):
        for number, row in enumerate(group):
            pair = _urn("pair", row["pair_id"])
            products = [_urn("product", row["product_a"]), _urn("product", row["product_b"])]
            if not number:
                for product, title in zip(products, (row["title_a"], row["title_b"]), strict=True):
                    yield {"@id": product, "@type": "Product", "label": title}
                yield {"@id": pair, "@type": "Pair", "product": products, "support": row["support"]}
            yield {
                "@id": _urn("intention", row["intention_id"]),
                "@type": "Intention",
                "pair": pair,
                "relation": _urn("relation", row["relation"]),
                **{name: row[name] for name in ("text", "sentence", "generator_model", "filter_model")},
                "score": row["score"],
                "accepted": row["accepted"],
                "source": _source(row),
            }


def _source(row: Row) -> str:
    if row["source"]:
        return f"{row['source']} {row['source_event_id']}"
    return f"{row['source_topic']}/{row['source_partition']}/{row['source_offset']}"


def _written(node: Row, file: IO[bytes]) -> int:
    """Write a node's statements; whether it is an intention."""
    subject = _iri(node["@id"])
    file.write(f"{subject} {_iri(_RDF + 'type')} {_iri(_OURS + node['@type'])} .\n".encode())
    for term, (iri, kind) in _TERMS.items():
        values = node.get(term, [])
        for value in values if isinstance(values, list) else [values]:
            file.write(f"{subject} {_iri(iri)} {_iri(value) if kind == _NODE else _literal(value, kind)} .\n".encode())
    return int(node["@type"] == "Intention")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _urn(kind: str, name: str) -> str:
    return f"urn:mindstream:{kind}:{quote(name, safe='')}"


def _iri(text: str) -> str:
    return f"<{text}>"


def _literal(value: Any, kind: str) -> str:
    """A literal; numbers and booleans as JSON has them, which is how XML Schema has them too."""
    text = value if isinstance(value, str) else json.dumps(value)
    quoted = f'"{text.translate(_ESCAPED)}"'
    return f"{quoted}^^{_iri(kind)}" if kind else quoted
