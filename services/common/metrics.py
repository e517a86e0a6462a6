"""Every metric, defined once, with its meaning. Scraped at /metrics of each process.

Labels are bounded: stage, topic and reason come from tables in the code, never from events. None is named `job` or
`instance`: these are Prometheus' own.
"""

from __future__ import annotations

from collections.abc import Iterable

from mindstream.events.v1.dead_letter_pb2 import DeadLetterReason
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from services.common.errors import reason_label

# When each counter was made is nobody's question, and would be nearly half of what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

_CALL_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STEP_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# -- Every process ---------------------------------------------------------------------------------------------------
BUILD = Gauge("mindstream_build_info", "1: which service this process is, and its version.", ["service", "version"])

# -- The stage runtime ---------------------------------------------------------------------------------------------
RECORDS_IN = Counter("mindstream_records_in_total", "Records read from Kafka.", ["stage", "topic"])
RECORDS_DONE = Counter(
    "mindstream_records_done_total",
    "Records whose outcome is committed: ok, dead_letter, parked or duplicate.",
    ["stage", "topic", "outcome"],
)
RECORDS_OUT = Counter("mindstream_records_out_total", "Records written, committed ones only.", ["stage", "topic"])
DEAD_LETTERS = Counter("mindstream_dead_letters_total", "Records set aside, by reason.", ["stage", "topic", "reason"])
ADMISSION_DUPLICATES = Counter(
    "mindstream_admission_duplicates_total",
    "Co-buys dropped because their pair was admitted at another offset.",
    ["stage"],
)
LAG = Gauge(
    "mindstream_consumer_lag_records",
    "Records between the worker's position and the end.",
    ["stage", "topic", "partition"],
)
LAG_SECONDS = Gauge(
    "mindstream_consumer_lag_seconds",
    "Age of the oldest record that is not committed yet; 0 where none waits.",
    ["stage", "topic", "partition"],
)
WINDOW_RECORDS = Gauge("mindstream_window_records", "Records held in the in-order window.", ["stage"])
WINDOW_BYTES = Gauge("mindstream_window_bytes", "Bytes of records held in the in-order window.", ["stage"])
PAUSED = Gauge("mindstream_intake_paused", "1 while intake is paused (window full or model server away).", ["stage"])
COMMIT_SECONDS = Histogram(
    "mindstream_commit_seconds", "Time of one commit (Kafka or database transaction).", ["stage"], buckets=_CALL_BUCKETS
)
COMMIT_RECORDS = Histogram("mindstream_commit_records", "Records in one commit.", ["stage"], buckets=_BATCH_BUCKETS)
TRANSACTION_ABORTS = Counter("mindstream_transaction_aborts_total", "Transactions aborted.", ["stage"])
PARTITIONS = Gauge("mindstream_assigned_partitions", "Partitions assigned to this worker.", ["stage"])
WORLD_FAULTS = Counter(
    "mindstream_world_faults_total",
    "Waits for something outside: kind is model, database, kafka or media.",
    ["stage", "kind"],
)

# -- Products and pictures ---------------------------------------------------------------------------------------------
PICTURE_DECODER_DEATHS = Counter(
    "mindstream_picture_decoder_deaths_total", "Decoder processes that died, or were killed, over a picture."
)
PRODUCTS_FEATURED = Counter(
    "mindstream_featured_products_total",
    "Products of co-buys that got their features: with a picture, or without (by title alone).",
    ["picture"],
)

# -- Model calls, seen from the worker --------------------------------------------------------------------------------
CALL_SECONDS = Histogram(
    "mindstream_model_call_seconds", "Model calls that were answered.", ["stage"], buckets=_CALL_BUCKETS
)
CALL_ERRORS = Counter("mindstream_model_call_errors_total", "Model calls that failed, by gRPC code.", ["stage", "code"])
CALLS_IN_FLIGHT = Gauge("mindstream_model_calls_in_flight", "Model calls under way.", ["stage"])

# -- Model servers ---------------------------------------------------------------------------------------------------
SERVER_CALLS = Counter("mindstream_server_calls_total", "Calls answered, by job and gRPC code.", ["model_job", "code"])
SERVER_QUEUE = Gauge("mindstream_server_queue_calls", "Calls waiting or running.", ["model_job"])
SERVER_QUEUE_LIMIT = Gauge(
    "mindstream_server_queue_limit_calls", "Calls that may wait or run before the server pushes back.", ["model_job"]
)
SERVER_QUEUE_SECONDS = Histogram(
    "mindstream_server_queue_seconds", "Wait of a call before computing.", ["model_job"], buckets=_CALL_BUCKETS
)
SERVER_COMPUTE_SECONDS = Histogram(
    "mindstream_server_compute_seconds", "Time computing one call.", ["model_job"], buckets=_CALL_BUCKETS
)
SERVER_BATCH = Histogram(
    "mindstream_server_batch_sequences", "Branches of one request to the engine.", ["model_job"], buckets=_BATCH_BUCKETS
)
SERVER_TOKENS = Counter(
    "mindstream_server_tokens_total", "Tokens, by job and kind: prompt or generated.", ["model_job", "kind"]
)
ENGINE_PREFIX_TOKENS = Counter(
    "mindstream_engine_prefix_tokens_total", "Tokens of prefixes, kept from an earlier prompt or computed.", ["source"]
)
ENGINE_PICTURES = Counter(
    "mindstream_engine_pictures_total", "Pictures of prompts, kept from an earlier one or computed.", ["source"]
)
ENGINE_SECONDS = Counter(
    "mindstream_engine_seconds_total",
    "Time computing: prefill or decode (a GPU's last prefill is waited for there).",
    ["phase"],
)
ENGINE_STEP_SECONDS = Histogram(
    "mindstream_engine_step_seconds", "Time of one step: a token for every branch in flight.", buckets=_STEP_BUCKETS
)
ENGINE_TOKENS = Counter("mindstream_engine_tokens_total", "Tokens decoded.")
ENGINE_BRANCHES = Gauge("mindstream_engine_branches", "Branches in the last step.")
ENGINE_RUNS = Gauge("mindstream_engine_runs", "Prompts in progress: read or decoded.")
ENGINE_KV_TOKENS = Gauge(
    "mindstream_engine_kv_tokens", "Tokens of keys and values: promised to runs, or cached.", ["holder"]
)
SERVER_ANSWERS_REUSED = Counter(
    "mindstream_server_answers_reused_total", "Calls answered from a kept or shared computation.", ["model_job"]
)

# -- Co-buys ---------------------------------------------------------------------------------------------------------
COBUY_OCCURRENCES = Counter("mindstream_cobuy_occurrences_total", "Pair occurrences counted.")
COBUY_REPEATS = Counter("mindstream_cobuy_repeats_total", "Pair occurrences ignored: their order was counted before.")
COBUY_CROSSINGS = Counter("mindstream_cobuy_crossings_total", "Pairs whose support reached the minimum.")
COBUY_BASKETS_CAPPED = Counter("mindstream_cobuy_baskets_capped_total", "Baskets over the size cap.")
COBUY_WINDOWS_CAPPED = Counter(
    "mindstream_cobuy_windows_capped_total",
    "Orders whose customer bought more in the window than is paired.",
)
COBUY_ITEMS_LEFT_OUT = Counter(
    "mindstream_cobuy_items_left_out_total", "Items of capped baskets and windows that were not paired."
)

# -- Signs of failure that the seed names: what the filter keeps, and empty or repeated texts (MIND section 4) ---
INTENTIONS_JUDGED = Counter(
    "mindstream_intentions_judged_total", "Intentions judged, by relation and verdict.", ["relation", "verdict"]
)
INTENTIONS_EMPTY = Counter("mindstream_intentions_empty_total", "Candidates with no text, by relation.", ["relation"])
INTENTIONS_REPEATED = Counter(
    "mindstream_intentions_repeated_total", "Candidates whose text another relation of the pair also has.", ["relation"]
)
INTENTION_SCORES = Histogram(
    "mindstream_intention_score", "Scores of intentions that have a text.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1),
)  # fmt: skip
PRESERVE_RATE = Gauge(
    "mindstream_filter_preserve_ratio", "Share accepted since the worker started, by relation.", ["relation"]
)

# -- Quality without labels, of what the filter keeps (docs/quality.md); the entropy over relations is a recorded series
INTENTION_GROUNDING = Histogram(
    "mindstream_intention_grounding",
    "Share of a kept intention's content words that stand in either product's title or features.",
    buckets=(0, 0.25, 0.5, 0.75, 1),
)
INTENTIONS_SAID_BEFORE = Counter(
    "mindstream_intentions_said_before_total",
    "Kept intentions that are among the last 1,000 kept of their worker, said of another pair, by relation.",
    ["relation"],
)
INTENTION_DISTINCT = Gauge(
    "mindstream_intention_distinct_ratio",
    "Distinct-n: n-grams, each once, over all n-grams in the last 1,000 kept intentions of the worker.",
    ["n"],
)

# -- The KB and the datasets -------------------------------------------------------------------------------------------
SINK_ROWS = Counter(
    "mindstream_sink_rows_total", "KB rows, by table and outcome: written or known.", ["table", "outcome"]
)
KB_AGE = Histogram(
    "mindstream_kb_age_seconds", "From the co-buy's last purchase (or its publication) to its row in the KB.",
    buckets=(1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400),
)  # fmt: skip
RELEASES = Counter("mindstream_dataset_releases_total", "Dataset releases published.")
RELEASE_TIME = Gauge(
    "mindstream_dataset_release_timestamp_seconds", "Unix time of the newest release (age = now - this)."
)
RELEASE_ROWS = Gauge("mindstream_dataset_release_rows", "Rows of the newest release.", ["config", "split"])
RELEASE_BYTES = Gauge("mindstream_dataset_release_bytes", "Bytes of the newest release.")
RELEASE_DUE_TIME = Gauge(
    "mindstream_dataset_release_due_timestamp_seconds", "Unix time since which a release is owed; 0 while none is."
)
RELEASE_WRONG = Gauge(
    "mindstream_dataset_release_wrong_files",
    "What was wrong with the newest release against its manifest when it was last verified.",
)

# -- The explorer ------------------------------------------------------------------------------------------------------
EXPLORER_REQUESTS = Counter(
    "mindstream_explorer_requests_total",
    "Requests answered, by route and status.",
    ["route", "code"],
)
EXPLORER_SECONDS = Histogram(
    "mindstream_explorer_request_seconds", "Time from a request to the end of its answer.", ["route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5),
)  # fmt: skip

EXPLORER_FEEDBACK = Counter(
    "mindstream_explorer_feedback_total",
    "People's verdicts on intentions that Kafka has taken: up or down.",
    ["verdict"],
)

#: Values of `outcome` and `kind` above.
OUTCOMES, WORLD = ("ok", "dead_letter", "parked", "duplicate"), ("model", "database", "kafka", "media")


def begin(stage: str, topics: Iterable[str]) -> None:
    """Have a worker's counters stand at zero before its first record.

    Of a counter that appears with its first event, Prometheus' `increase` does not see that event.
    """
    for topic in topics:
        RECORDS_IN.labels(stage, topic)
        for outcome in OUTCOMES:
            RECORDS_DONE.labels(stage, topic, outcome)
        for reason in DeadLetterReason.values()[1:]:
            DEAD_LETTERS.labels(stage, topic, reason_label(reason))
    for kind in WORLD:
        WORLD_FAULTS.labels(stage, kind)
    TRANSACTION_ABORTS.labels(stage)
