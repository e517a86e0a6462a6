"""For every alert: series under which it fires, with what it then says, and series a little better, under which not."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Series in promtool's notation: `0+2x10` begins at 0 and grows by 2 ten times, a minute each.
Series = dict[str, str]
_JUDGED = {
    'mindstream_intentions_judged_total{relation="isA",verdict="accepted"}': "0+5x1400",
    'mindstream_intentions_judged_total{relation="isA",verdict="rejected"}': "0+5x1400",
}
_SERVICES = ("model", "extractor", "generator", "filter", "kb_sink", "releases")


@dataclass(frozen=True)
class Case:
    """One alert; `quiet` replaces some of `series`."""

    alert: str
    series: Series
    quiet: Series
    #: Minutes after the first sample.
    at: int
    labels: dict[str, str] = field(default_factory=dict)
    #: How its value stands in the description.
    value: str = ""


def _builds(*services: str) -> Series:
    return {f'mindstream_build_info{{service="{name}"}}': "1x30" for name in services}


CASES = [
    Case(
        "MindstreamProcessDown",
        {'up{job="mindstream",instance="a:1"}': "0x10"},
        {'up{job="mindstream",instance="a:1"}': "1x10"},
        5,
        {"job": "mindstream", "instance": "a:1"},
    ),
    Case(
        "MindstreamServiceAbsent",
        _builds(*(name for name in _SERVICES if name != "filter")),
        _builds("filter"),
        10,
        {"service": "filter"},
    ),
    Case(
        "MindstreamRestarting",
        {'process_start_time_seconds{job="shop/mindstream",instance="a:1"}': "1 2 3 4 5 6 6 6"},
        {'process_start_time_seconds{job="shop/mindstream",instance="a:1"}': "1 2 3 4 4 4 4 4"},
        7,
        {"job": "shop/mindstream", "instance": "a:1"},
        "5",
    ),
    Case(
        "MindstreamWaitsOutside",
        {'mindstream_world_faults_total{stage="extractor",kind="model"}': "0+1x30"},
        {'mindstream_world_faults_total{stage="extractor",kind="model"}': "9x30"},
        20,
        {"stage": "extractor", "kind": "model"},
    ),
    Case(
        "MindstreamLagHigh",
        {'mindstream_consumer_lag_seconds{stage="generator",topic="t",partition="0"}': "400x20"},
        {'mindstream_consumer_lag_seconds{stage="generator",topic="t",partition="0"}': "299x20"},
        10,
        {"stage": "generator"},
        "6m 40s",
    ),
    Case(
        "MindstreamStageStuck",
        {
            'mindstream_consumer_lag_records{stage="filter",topic="t",partition="0"}': "7x30",
            'mindstream_records_done_total{stage="filter",topic="t",outcome="ok"}': "5x30",
        },
        {'mindstream_records_done_total{stage="filter",topic="t",outcome="ok"}': "0+1x30"},
        25,
        {"stage": "filter"},
        "7",
    ),
    Case(
        "MindstreamDeadLettersRising",
        {
            'mindstream_dead_letters_total{stage="cobuy",topic="t",reason="invalid"}': "0+1x40",
            'mindstream_records_done_total{stage="cobuy",topic="t",outcome="ok"}': "0+20x40",
        },
        {'mindstream_records_done_total{stage="cobuy",topic="t",outcome="ok"}': "0+200x40"},
        30,
        {"stage": "cobuy"},
        "5%",
    ),
    Case(
        "MindstreamDeadLettersOfBugs",
        {'mindstream_dead_letters_total{stage="filter",topic="t",reason="internal"}': "0x5 1x20"},
        {'mindstream_dead_letters_total{stage="filter",topic="t",reason="internal"}': "1x26"},
        10,
        {"stage": "filter", "reason": "internal"},
    ),
    Case(
        "MindstreamTransactionAborts",
        {
            'mindstream_transaction_aborts_total{stage="filter"}': "0+1x40",
            'mindstream_commit_seconds_count{stage="filter"}': "0+10x40",
        },
        {'mindstream_commit_seconds_count{stage="filter"}': "0+50x40"},
        30,
        {"stage": "filter"},
        "10%",
    ),
    Case(
        "MindstreamModelErrors",
        {
            'mindstream_model_call_errors_total{stage="filter",code="UNAVAILABLE"}': "0+1x30",
            'mindstream_model_call_errors_total{stage="filter",code="INVALID_ARGUMENT"}': "0+1x30",
            'mindstream_model_call_seconds_count{stage="filter"}': "0+3x30",
        },
        {'mindstream_model_call_errors_total{stage="filter",code="UNAVAILABLE"}': "0x30"},
        15,
        {"stage": "filter"},
        "20%",
    ),
    Case(
        "MindstreamModelSaturated",
        {
            'mindstream_server_calls_total{model_job="generator",code="RESOURCE_EXHAUSTED"}': "0+3x50",
            'mindstream_server_calls_total{model_job="generator",code="OK"}': "0+7x50",
        },
        {'mindstream_server_calls_total{model_job="generator",code="OK"}': "0+17x50"},
        40,
        {"model_job": "generator"},
    ),
    Case(
        "MindstreamModelSaturated",
        {
            'mindstream_server_queue_calls{model_job="filter",instance="a:1"}': "60x50",
            'mindstream_server_queue_limit_calls{model_job="filter",instance="a:1"}': "64x50",
        },
        {'mindstream_server_queue_calls{model_job="filter",instance="a:1"}': "50x50"},
        40,
        {"model_job": "filter"},
    ),
    Case(
        "MindstreamModelQueueLong",
        {
            'mindstream_server_queue_seconds_bucket{model_job="filter",le="30.0"}': "0+10x40",
            'mindstream_server_queue_seconds_bucket{model_job="filter",le="60.0"}': "0+100x40",
            'mindstream_server_queue_seconds_bucket{model_job="filter",le="+Inf"}': "0+100x40",
        },
        {'mindstream_server_queue_seconds_bucket{model_job="filter",le="30.0"}': "0+96x40"},
        30,
        {"model_job": "filter"},
        "58.33s",
    ),
    Case(
        "MindstreamKbLateFast",
        {
            'mindstream_kb_age_seconds_bucket{le="900.0"}': "0+8x90",
            "mindstream_kb_age_seconds_count": "0+10x90",
        },
        {'mindstream_kb_age_seconds_bucket{le="900.0"}': "0+9x90"},
        80,
        {},
        "20%",
    ),
    Case(
        # An hour of trouble that is over: the short window says so.
        "MindstreamKbLateFast",
        {
            'mindstream_kb_age_seconds_bucket{le="900.0"}': "0+5x90",
            "mindstream_kb_age_seconds_count": "0+10x90",
        },
        {'mindstream_kb_age_seconds_bucket{le="900.0"}': "0+5x70 360+10x20"},
        80,
        {},
        "50%",
    ),
    Case(
        "MindstreamKbLateSlow",
        {
            'mindstream_kb_age_seconds_bucket{le="900.0"}': "0+90x400",
            "mindstream_kb_age_seconds_count": "0+100x400",
        },
        {'mindstream_kb_age_seconds_bucket{le="900.0"}': "0+95x400"},
        390,
        {},
        "10%",
    ),
    Case(
        "MindstreamReleaseOverdue",
        {
            'mindstream_dataset_release_due_timestamp_seconds{instance="a"}': "60x70",
            'mindstream_dataset_release_due_timestamp_seconds{instance="b"}': "0x70",
        },
        {'mindstream_dataset_release_due_timestamp_seconds{instance="a"}': "0x70"},
        60,
        {},
        "59m 0s",
    ),
    Case(
        "MindstreamReleaseDamaged",
        {
            'mindstream_dataset_release_wrong_files{instance="a"}': "2x10",
            'mindstream_dataset_release_wrong_files{instance="b"}': "0x10",
        },
        {'mindstream_dataset_release_wrong_files{instance="a"}': "0x10"},
        5,
        {},
        "2",
    ),
    Case(
        "MindstreamPreserveRateLow",
        {
            'mindstream_intentions_judged_total{relation="isA",verdict="accepted"}': "0+1x200",
            'mindstream_intentions_judged_total{relation="isA",verdict="rejected"}': "0+9x200",
        },
        {'mindstream_intentions_judged_total{relation="isA",verdict="accepted"}': "0+3x200"},
        120,
        {},
        "10%",
    ),
    Case(
        "MindstreamRelationCollapsed",
        {
            'mindstream_intentions_judged_total{relation="isA",verdict="accepted"}': "0+10x600 6000x120",
            'mindstream_intentions_judged_total{relation="isA",verdict="rejected"}': "0+10x720",
            'mindstream_intentions_judged_total{relation="usedFor",verdict="accepted"}': "0+10x720",
            'mindstream_intentions_judged_total{relation="usedFor",verdict="rejected"}': "0+10x720",
        },
        {'mindstream_intentions_judged_total{relation="isA",verdict="accepted"}': "0+10x600 6000+4x120"},
        720,
        {"relation": "isA"},
        "0%",
    ),
    Case(
        "MindstreamIntentionsRepeated",
        {**_JUDGED, 'mindstream_intentions_repeated_total{relation="isA"}': "0+4x200"},
        {'mindstream_intentions_repeated_total{relation="isA"}': "0+2x200"},
        120,
        {},
        "40%",
    ),
    Case(
        "MindstreamIntentionsEmpty",
        {**_JUDGED, 'mindstream_intentions_empty_total{relation="isA"}': "0+1x200"},
        {'mindstream_intentions_empty_total{relation="isA"}': "0x200"},
        120,
        {},
        "10%",
    ),
    Case(
        "MindstreamTextOnlyRising",
        {
            **_JUDGED,
            'mindstream_featured_products_total{picture="with"}': "0+10x1200 12002+2x119",
            'mindstream_featured_products_total{picture="without"}': "0x1200 8+8x119",
        },
        {
            'mindstream_featured_products_total{picture="with"}': "0+10x1320",
            'mindstream_featured_products_total{picture="without"}': "0+8x1320",
        },
        1320,
        {},
        "72.73%",
    ),
    Case(
        "MindstreamScoreDrift",
        {
            **_JUDGED,
            'mindstream_intention_score_bucket{le="0.5"}': "0+8x1200 9602+2x119",
            'mindstream_intention_score_bucket{le="+Inf"}': "0+10x1320",
            "mindstream_intention_score_count": "0+10x1320",
        },
        {'mindstream_intention_score_bucket{le="0.5"}': "0+8x1320"},
        1320,
        {},
        "0.55",
    ),
    Case(
        "MindstreamGroundingFallen",
        {
            **_JUDGED,
            "mindstream_intention_grounding_sum": "0+8x1200 9602+2x119",
            "mindstream_intention_grounding_count": "0+10x1320",
        },
        {"mindstream_intention_grounding_sum": "0+8x1200 9605+5x119"},
        1320,
        {},
        "20%",
    ),
    Case(
        "MindstreamSaidBeforeRising",
        {**_JUDGED, 'mindstream_intentions_said_before_total{relation="isA"}': "0+1x1200 1204+4x119"},
        {'mindstream_intentions_said_before_total{relation="isA"}': "0+1x1200 1202+2x119"},
        1320,
        {},
        "54.55%",
    ),
]
