"""One page per stage, and one for the model servers."""

from __future__ import annotations

from deploy.monitoring.front import objective
from deploy.monitoring.panels import Page, Panel, Query, Row, one, quantiles, rate


def _flow(stage: str) -> Row:
    """What every reader of topics has."""
    of = f'{{stage="{stage}"}}'
    return Row(
        "Flow",
        [
            one(
                "Records done per second",
                rate("mindstream_records_done_total", "topic, outcome", of=of),
                "{{topic}} {{outcome}}",
                stacked=True,
            ),
            one(
                "Records written per second",
                rate("mindstream_records_out_total", "topic", of=of) + " or vector(0)",
                "{{topic}}",
            ),
            Panel(
                "Age of the oldest record that waits",
                [Query(f"max by (topic) (mindstream_consumer_lag_seconds{of})", "{{topic}}"), objective("lag_seconds")],
                unit="s",
            ),
            one("Records that wait", f"sum by (topic) (mindstream_consumer_lag_records{of})", "{{topic}}"),
            one(
                "Dead letters per minute",
                rate("mindstream_dead_letters_total", "topic, reason", of=of, per=60),
                "{{topic}} {{reason}}",
                stacked=True,
            ),
            one(
                "Waits for something outside",
                rate("mindstream_world_faults_total", "kind", of=of),
                "{{kind}}",
                about="Tries per second that found it away, refusing or late.",
            ),
        ],
    )


def _runtime(stage: str) -> Row:
    """What the stage runtime has; the cobuy service runs on Faust."""
    of = f'{{stage="{stage}"}}'
    return Row(
        "Worker",
        [
            Panel("Commits", quantiles("mindstream_commit_seconds", of=of), unit="s"),
            Panel("Records in a commit", quantiles("mindstream_commit_records", of=of)),
            one("Aborted commits", rate("mindstream_transaction_aborts_total", of=of), "per second"),
            one("Records held in windows", f"sum(mindstream_window_records{of})", "records"),
            one("Workers whose intake is paused", f"sum(mindstream_intake_paused{of})", "paused"),
            one("Partitions", f"sum by (instance) (mindstream_assigned_partitions{of})", "{{instance}}"),
        ],
    )


def _calls(stage: str) -> Row:
    of = f'{{stage="{stage}"}}'
    return Row(
        "Model calls",
        [
            Panel("Time of a call", quantiles("mindstream_model_call_seconds", of=of), unit="s"),
            one("Calls under way", f"sum(mindstream_model_calls_in_flight{of})", "calls"),
            one(
                "Failed calls per second",
                rate("mindstream_model_call_errors_total", "code", of=of),
                "{{code}}",
                stacked=True,
            ),
        ],
    )


_COBUY = Row(
    "Co-buys",
    [
        one("Pair occurrences per second", rate("mindstream_cobuy_occurrences_total"), "counted"),
        one("Pairs that became co-buys, per second", rate("mindstream_cobuy_crossings_total"), "co-buys"),
        one("Occurrences counted before, per second", rate("mindstream_cobuy_repeats_total"), "repeats"),
        Panel(
            "Baskets and windows over the cap, per second",
            [
                Query(rate("mindstream_cobuy_baskets_capped_total"), "baskets"),
                Query(rate("mindstream_cobuy_windows_capped_total"), "windows"),
            ],
        ),
        one("Items left out, per second", rate("mindstream_cobuy_items_left_out_total"), "items"),
    ],
)
_PRODUCTS = Row(
    "Products",
    [
        one(
            "Products that got features, per second",
            rate("mindstream_featured_products_total", "picture"),
            "{{picture}} picture",
            stacked=True,
        ),
        Panel(
            "Share without a picture",
            [Query("mindstream:text_only:ratio1h", "last hour"), Query("mindstream:text_only:ratio1d", "last day")],
            unit="percentunit",
        ),
        one("Picture decoders that died", "sum(increase(mindstream_picture_decoder_deaths_total[1h]))", "in an hour"),
    ],
)
_JUDGED = Row(
    "Verdicts",
    [
        one(
            "Intentions judged per minute",
            rate("mindstream_intentions_judged_total", "verdict", per=60),
            "{{verdict}}",
            stacked=True,
        ),
        one(
            "Scores",
            rate("mindstream_intention_score_bucket", "le", per=60),
            "up to {{le}}",
            about="Intentions per minute with a score of at most so much.",
        ),
        Panel(
            "Drift of scores",
            [Query("mindstream:score:drift", "hour against day"), objective("score_drift")],
            about="Largest distance between the two distributions (Kolmogorov-Smirnov).",
        ),
        one(
            "Kept since its worker started, by relation",
            "avg by (relation) (mindstream_filter_preserve_ratio)",
            "{{relation}}",
            unit="percentunit",
        ),
        one(
            "Repeated texts per minute, by relation",
            rate("mindstream_intentions_repeated_total", "relation", per=60),
            "{{relation}}",
            stacked=True,
        ),
        one(
            "Empty texts per minute, by relation",
            rate("mindstream_intentions_empty_total", "relation", per=60),
            "{{relation}}",
            stacked=True,
        ),
    ],
)
_QUALITY = Row(
    "Quality without labels, of what is kept",
    [
        Panel(
            "Grounding",
            [
                Query("mindstream:grounding:mean1h", "last hour"),
                Query("mindstream:grounding:mean1d", "last day"),
                Query(
                    rate("mindstream_intention_grounding_bucket", of='{le="0.0"}')
                    + f" / {rate('mindstream_intention_grounding_count')}",
                    "without any",
                ),
            ],
            unit="percentunit",
            about="Share of an intention's content words that stand in either product's title or features; and "
            "intentions of which none does.",
        ),
        Panel(
            "Said before",
            [
                Query("mindstream:said_before:ratio1h", "last hour"),
                Query("mindstream:said_before:ratio1d", "last day"),
            ],
            unit="percentunit",
            about="Share of intentions that are among their worker's last 1,000, said of another pair.",
        ),
        one(
            "Said before per minute, by relation",
            rate("mindstream_intentions_said_before_total", "relation", per=60),
            "{{relation}}",
            stacked=True,
        ),
        one(
            "Distinct n-grams",
            "avg by (n) (mindstream_intention_distinct_ratio)",
            "distinct-{{n}}",
            unit="percentunit",
            about="Of all n-grams in a worker's last 1,000 intentions.",
        ),
        one(
            "Entropy over relations, bits",
            "mindstream:kept_relations:entropy1h",
            "last hour",
            about="4.3 where all 20 relations are kept alike, 0 where one alone is.",
        ),
    ],
)
_ROWS = Row(
    "Knowledge base",
    [
        one("Rows per minute", rate("mindstream_sink_rows_total", "table, outcome", per=60), "{{table}} {{outcome}}"),
        Panel("From purchase to row", quantiles("mindstream_kb_age_seconds"), unit="s"),
        Panel(
            "Late co-buys",
            [Query(f"mindstream:kb_late:ratio{window}", window) for window in ("5m", "30m", "1h", "6h")]
            + [objective("late_ratio")],
            unit="percentunit",
        ),
    ],
)
_RELEASES = Row(
    "Dataset releases",
    [
        one("Rows of the newest", "max by (config, split) (mindstream_dataset_release_rows)", "{{config}} {{split}}"),
        one("Bytes of the newest", "max(mindstream_dataset_release_bytes)", "bytes", unit="bytes"),
        one("Published", "sum(increase(mindstream_dataset_releases_total[1h]))", "in an hour"),
        one("Files that are wrong", "max(mindstream_dataset_release_wrong_files)", "files"),
        one(
            "Owed for",
            "time() - max(mindstream_dataset_release_due_timestamp_seconds > 0) or vector(0)",
            "seconds",
            unit="s",
        ),
    ],
)
_MEMORY = 'process_resident_memory_bytes and on (instance) mindstream_build_info{service="model"}'
_SERVERS = [
    Row(
        "Calls",
        [
            one(
                "Answers per second",
                rate("mindstream_server_calls_total", "model_job, code"),
                "{{model_job}} {{code}}",
                stacked=True,
            ),
            Panel(
                "Wait before computing",
                [
                    *quantiles("mindstream_server_queue_seconds", "model_job", legend="{{model_job}}"),
                    objective("queue_seconds"),
                ],
                unit="s",
            ),
            Panel(
                "Time computing",
                quantiles("mindstream_server_compute_seconds", "model_job", legend="{{model_job}}"),
                unit="s",
            ),
            Panel(
                "Calls waiting or running",
                [
                    Query("sum by (model_job) (mindstream_server_queue_calls)", "{{model_job}}"),
                    Query("max(mindstream_server_queue_limit_calls)", "limit of one server"),
                ],
            ),
            one(
                "Answers given again, per second",
                rate("mindstream_server_answers_reused_total", "model_job") + " or vector(0)",
                "{{model_job}}",
            ),
            Panel(
                "Branches of a request",
                quantiles("mindstream_server_batch_sequences", "model_job", legend="{{model_job}}"),
            ),
        ],
    ),
    Row(
        "Engine",
        [
            one(
                "Tokens per second",
                rate("mindstream_server_tokens_total", "model_job, kind"),
                "{{model_job}} {{kind}}",
                stacked=True,
            ),
            one("Decoded per second", rate("mindstream_engine_tokens_total"), "tokens"),
            Panel("A step", quantiles("mindstream_engine_step_seconds"), unit="s"),
            one(
                "Engines at work",
                rate("mindstream_engine_seconds_total", "phase"),
                "{{phase}}",
                unit="percentunit",
                stacked=True,
            ),
            Panel(
                "In progress",
                [Query("sum(mindstream_engine_runs)", "prompts"), Query("sum(mindstream_engine_branches)", "branches")],
            ),
            one(
                "Keys and values held, tokens",
                "sum by (holder) (mindstream_engine_kv_tokens)",
                "{{holder}}",
                stacked=True,
            ),
            one(
                "Tokens of prefixes per second",
                rate("mindstream_engine_prefix_tokens_total", "source"),
                "{{source}}",
                stacked=True,
            ),
            one("Pictures per second", rate("mindstream_engine_pictures_total", "source"), "{{source}}", stacked=True),
            one("Memory of the process", _MEMORY, "{{instance}}", unit="bytes"),
        ],
    ),
]

STAGES = [
    Page("mindstream-cobuy", "Mindstream: cobuy", "Purchases into co-buys.", [_flow("cobuy"), _COBUY]),
    Page(
        "mindstream-extractor",
        "Mindstream: extractor",
        "Co-buys get their products' features.",
        [_flow("extractor"), _calls("extractor"), _PRODUCTS, _runtime("extractor")],
    ),
    Page(
        "mindstream-generator",
        "Mindstream: generator",
        "Co-buys get their candidates.",
        [_flow("generator"), _calls("generator"), _runtime("generator")],
    ),
    Page(
        "mindstream-filter",
        "Mindstream: filter",
        "Candidates get their verdicts.",
        [_flow("filter"), _JUDGED, _QUALITY, _calls("filter"), _runtime("filter")],
    ),
    Page(
        "mindstream-sink",
        "Mindstream: knowledge base",
        "Intentions into the knowledge base, and releases from it.",
        [_flow("kb_sink"), _ROWS, _RELEASES, _runtime("kb_sink")],
    ),
    Page("mindstream-models", "Mindstream: model servers", "What the three model jobs are answered by.", _SERVERS),
]
