"""The front page: is it keeping up, is it learning, what does it cost."""

from __future__ import annotations

from deploy.monitoring.panels import Page, Panel, Query, Row, one, quantiles, rate

_ACCEPTED = 'mindstream_intentions_judged_total{verdict="accepted"}'


def objective(name: str) -> Query:
    """The line of an objective (rules/objectives.yaml)."""
    return Query(f'max(mindstream:objective{{of="{name}"}})', "objective")


_KEEPING_UP = Row(
    "Is it keeping up?",
    [
        one("Oldest record that waits", "max(stage:mindstream_lag_seconds:max)", kind="number", unit="s", width=4),
        one(
            "Late in the KB, last hour",
            "mindstream:kb_late:ratio1h",
            kind="number",
            unit="percentunit",
            width=4,
            about="Share of co-buys whose rows came more than 15 minutes after their last purchase.",
        ),
        one(
            "Dead letters, last hour",
            "sum(increase(mindstream_dead_letters_total[1h]))",
            kind="number",
            width=4,
            red_from=5,
        ),
        one("Processes that answer", 'sum(up{job=~"(.*/)?mindstream.*"})', kind="number", width=4),
        one("Processes that do not", 'sum(1 - up{job=~"(.*/)?mindstream.*"})', kind="number", width=4, red_from=1),
        one("Alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)', kind="number", width=4, red_from=1),
        one(
            "Records done per second",
            rate("mindstream_records_done_total", "stage"),
            "{{stage}}",
            about="Of every stage, whatever became of them.",
        ),
        Panel(
            "Age of the oldest record that waits",
            [Query("stage:mindstream_lag_seconds:max", "{{stage}}"), objective("lag_seconds")],
            unit="s",
        ),
        Panel(
            "From purchase to row",
            quantiles("mindstream_kb_age_seconds"),
            unit="s",
            about="Age of a co-buy's last purchase when its rows are written; up to the last bucket, a day.",
        ),
        one("Records that wait", "stage:mindstream_lag_records:sum", "{{stage}}"),
        one(
            "Dead letters per minute",
            rate("mindstream_dead_letters_total", "stage, reason", per=60),
            "{{stage}} {{reason}}",
            stacked=True,
        ),
        one(
            "Waits for something outside",
            rate("mindstream_world_faults_total", "kind"),
            "{{kind}}",
            about="Tries per second that found it away, refusing or late.",
        ),
    ],
)
_LEARNING = Row(
    "Is it learning?",
    [
        one(
            "Accepted intentions per minute, by relation",
            rate(_ACCEPTED, "relation", per=60),
            "{{relation}}",
            stacked=True,
            width=12,
        ),
        Panel(
            "Share of intentions that are kept",
            [
                Query(f"{rate(_ACCEPTED)} / {rate('mindstream_intentions_judged_total')}", "kept"),
                objective("preserve_ratio"),
            ],
            unit="percentunit",
            width=6,
        ),
        one(
            "Kept in the last hour, by relation",
            "relation:mindstream_preserved:ratio1h",
            "{{relation}}",
            kind="bars",
            unit="percentunit",
            width=6,
        ),
        one(
            "KB rows per minute",
            rate("mindstream_sink_rows_total", "table", of='{outcome="written"}', per=60),
            "{{table}}",
            width=6,
        ),
        Panel(
            "Repeated, empty, without a picture",
            [
                Query("mindstream:repeated:ratio1h", "repeated"),
                Query("mindstream:empty:ratio1h", "empty"),
                Query("mindstream:text_only:ratio1h", "products without a picture"),
            ],
            unit="percentunit",
            width=6,
        ),
        one(
            "Newest release, rows",
            "max by (config, split) (mindstream_dataset_release_rows)",
            "{{config}} {{split}}",
            kind="bars",
            width=6,
        ),
        one("Newest release, size", "max(mindstream_dataset_release_bytes)", kind="number", unit="bytes", width=3),
        one(
            "Newest release, age",
            "time() - max(mindstream_dataset_release_timestamp_seconds > 0)",
            kind="number",
            unit="s",
            width=3,
        ),
    ],
)
_COST = Row(
    "What does it cost?",
    [
        one(
            "Tokens per second",
            rate("mindstream_server_tokens_total", "model_job, kind"),
            "{{model_job}} {{kind}}",
            stacked=True,
            width=6,
        ),
        one(
            "Engines at work",
            rate("mindstream_engine_seconds_total", "phase"),
            "{{phase}}",
            unit="percentunit",
            stacked=True,
            width=6,
            about="Seconds of computing per second; 1 is one engine without a pause.",
        ),
        one(
            "Seconds of model per accepted intention",
            f"{rate('mindstream_server_compute_seconds_sum')} / {rate(_ACCEPTED)}",
            "seconds",
            unit="s",
            width=6,
            about="Calls that are computed together each count their own time.",
        ),
        one(
            "Keys and values held, tokens",
            "sum by (holder) (mindstream_engine_kv_tokens)",
            "{{holder}}",
            stacked=True,
            width=6,
        ),
    ],
)

FRONT = Page(
    "mindstream",
    "Mindstream",
    "Is it keeping up, is it learning, what does it cost?",
    [_KEEPING_UP, _LEARNING, _COST],
)
