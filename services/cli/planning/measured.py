"""What was measured, by which command, on the two cores that benchmarks/results.json names, and what is assumed.

Figures of a small machine, on which Kafka and PostgreSQL ran beside: a server's are better, so that a plan made with
these asks for more rather than less.
"""

from __future__ import annotations

#: Records a second of one worker without its model: `python -m benchmarks --only pipeline.stage_runtime --quick`. The
#: co-buy service, which is not of this runtime, is taken to be as fast: not measured.
WORKER_RECORDS = 9_505
#: Intentions a second that one sink commits, and a bare COPY: `python -m benchmarks --only pipeline.sink --quick`.
SINK_INTENTIONS, COPY_INTENTIONS = 31_959, 46_422
#: Seconds of a release an intention of the whole KB: `python -m benchmarks --only release` (319 s for 995,460).
RELEASE_SECONDS = 319 / 995_460

#: Bytes of a record (key, headers, value) by topic: `python -m benchmarks.sizes`, 5,000 co-buys, as all from there.
RECORD_BYTES = {
    "purchases": 310,
    "purchases.by-customer": 324,
    "cobuys.occurrences": 284,
    "cobuys": 270,
    "cobuys.featured": 1_548,
    "intentions.candidates": 4_301,
    "intentions.judged": 4_678,
    "products": 277,
    "features": 795,
}
#: Bytes of a row with its indexes by table, of a filled database after VACUUM: `python -m benchmarks.sizes`.
ROW_BYTES = {
    "kb.intentions": 1_352,
    "kb.pairs": 326,
    "extractor.admitted": 151,
    "kb.products": 1_559,
    "extractor.products": 293,
    "extractor.features": 904,
}
#: Bytes of a release an intention of the KB, in Parquet and JSONL: `python -m benchmarks.sizes`.
RELEASE_BYTES = 2_699

#: Products that are new with a co-buy of a new pair: 107,215 products, 126,142 co-buys (MIND, arXiv 2406.10701,
#: section 4). A shop's catalogue ends: `--new-products-per-day`.
PRODUCTS_A_PAIR = 107_215 / 126_142
#: Days that Kafka keeps a record unless told: log.retention.hours, Apache Kafka's documentation of broker settings.
RETENTION_DAYS = 7
#: Weights beside the text model's: CLIP ViT-L/14's (Dosovitskiy, arXiv 2010.11929, table 1: ViT-Large).
TOWER_PARAMETERS = 307_000_000

#: Assumed: share of a card's memory that is for weights, keys and values; the rest is for what a forward needs.
MEMORY_SHARE = 0.9
#: Assumed: share of the day that a server computes as the formulas say; the rest is loading, updates and gaps.
COMPUTING_SHARE = 0.8
