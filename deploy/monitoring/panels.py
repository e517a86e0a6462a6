"""What dashboards are made of: panels of one look, whose queries go to the Prometheus that the reader chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

#: A dashboard's grid is so wide.
_GRID = 24
_SOURCE = models.DataSourceRef("prometheus", "${datasource}")
_TAG = "mindstream"


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel: lines over time, unless it says otherwise."""

    title: str
    queries: Sequence[Query]
    #: Grafana's name of the unit.
    unit: str = "short"
    #: Lines over one another, whose sum counts.
    stacked: bool = False
    #: One number or a bar a series, of now, instead of lines.
    kind: str = "lines"
    #: From this value on it is red (a number, of now); None: no colour.
    red_from: float | None = None
    red_below: float | None = None
    width: int = 8
    #: Says what it means, where the title does not.
    about: str = ""


def one(title: str, expr: str, legend: str = "", **more: Any) -> Panel:
    """A panel of one query."""
    return Panel(title, [Query(expr, legend)], **more)


def rate(counter: str, by: str = "", of: str = "", per: int = 1) -> str:
    """A counter's rate per so many seconds: the sum of the series that `of` selects, by some labels or in all."""
    summed = f"sum by ({by}) " if by else "sum"
    return f"{f'{per} * ' if per > 1 else ''}{summed}(rate({counter}{of}[$__rate_interval]))"


def quantiles(histogram: str, by: str = "", of: str = "", legend: str = "") -> list[Query]:
    """A histogram's median, and what 95 of 100 keep under."""
    labels = f"le, {by}" if by else "le"
    return [
        Query(
            f"histogram_quantile({q}, {rate(histogram + '_bucket', labels, of)})", f"{legend} p{round(100 * q)}".strip()
        )
        for q in (0.5, 0.95)
    ]


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Page:
    """One dashboard."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]


def built(page: Page) -> models.Dashboard:
    """The dashboard of a page."""
    board = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.about)
        .tags([_TAG])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Mindstream")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
        )
    )
    number = 0
    for row in page.rows:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            number += 1
            board = board.with_panel(_visual(panel).id(number))
    return board.build()


def _visual(panel: Panel) -> Any:
    made = {"lines": _lines, "number": _number, "bars": _bars}[panel.kind](panel)
    made = made.title(panel.title).description(panel.about).unit(panel.unit).datasource(_SOURCE).span(panel.width)
    for place, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(chr(65 + place))
        made = made.with_target((target.range() if panel.kind == "lines" else target.instant()).datasource(_SOURCE))
    return made


def _lines(panel: Panel) -> Any:
    legend = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST).show_legend(True)
    made = (
        timeseries.Panel()
        .height(8)
        .min(0)
        .legend(legend.placement(looks.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
    )
    if panel.stacked:
        made = made.fill_opacity(30).stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    return made


def _number(panel: Panel) -> Any:
    made = stat.Panel().height(4).graph_mode(looks.BigValueGraphMode.NONE).reduce_options(_last())
    if panel.red_from is None and panel.red_below is None:
        return made.color_mode(looks.BigValueColorMode.NONE)
    low, high = ("green", "red") if panel.red_below is None else ("red", "green")
    edge = panel.red_from if panel.red_below is None else panel.red_below
    steps = [models.Threshold(color=low), models.Threshold(value=edge, color=high)]
    return made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))


def _bars(panel: Panel) -> Any:
    made = bargauge.Panel().height(8).min(0).orientation(looks.VizOrientation.HORIZONTAL)
    return made.reduce_options(_last())


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])
