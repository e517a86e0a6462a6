"""`python -m deploy.monitoring.picture PROMETHEUS_URL OUT.png [SECONDS]`: the front page's queries, plotted.

For where no Grafana is at hand: the panels are the dashboard's, their look is matplotlib's.
"""

from __future__ import annotations

import json
import math
import sys
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.monitoring.__main__ import DASHBOARDS

_POINTS = 180
#: What Grafana makes of `$__rate_interval` at this scrape interval, about.
_RATE_INTERVAL = "1m"
_COLUMNS = 4


def ask(url: str, path: str, **parameters: object) -> Any:
    """The data of an answer of Prometheus' HTTP API.

    Raises:
        OSError: it is away, or refuses the query.
    """
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=60) as answer:
        return json.load(answer)["data"]


def answers(url: str, target: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Series of a panel's target over the last `seconds`, or of now where it is a number; with `values` either way."""
    expression, now = target["expr"].replace("$__rate_interval", _RATE_INTERVAL), round(time.time(), 3)
    if target.get("range"):
        # Whole steps back from now, so that what was recorded a moment ago is among them.
        step = max(1, math.ceil(seconds / _POINTS))
        found: list[dict[str, Any]] = ask(
            url, "query_range", query=expression, start=now - seconds // step * step, end=now, step=step
        )["result"]
        return found
    return [{**one, "values": [one["value"]]} for one in ask(url, "query", query=expression)["result"]]


def legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    """What the panel calls a series."""
    text = target["legendFormat"]
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return "" if text == "__auto" else str(text)


def draw(url: str, out: Path, seconds: float) -> None:
    """Plot the front page as it is now."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    board = json.loads((DASHBOARDS / "mindstream.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    rows = math.ceil(len(panels) / _COLUMNS)
    figure, places = pyplot.subplots(rows, _COLUMNS, figsize=(5 * _COLUMNS, 2.9 * rows), layout="constrained")
    for place, panel in zip(places.flat, panels, strict=False):
        _plot(place, panel, url, seconds)
    for place in places.flat[len(panels) :]:
        place.axis("off")
    at = datetime.now(UTC)
    figure.suptitle(
        f"{board['title']}: {board['description']}  ({at:%Y-%m-%d %H:%M} UTC, last {seconds / 60:.0f} minutes)"
    )
    figure.savefig(out, dpi=80)


def _plot(place: Any, panel: dict[str, Any], url: str, seconds: float) -> None:
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    place.set_title(panel["title"], fontsize=10)
    found = [
        (legend(target, one["metric"]), one) for target in panel["targets"] for one in answers(url, target, seconds)
    ]
    if panel["type"] == "stat":
        value = float(found[0][1]["values"][-1][1]) if found else math.nan
        place.axis("off")
        place.text(0.5, 0.5, _said(value, unit), ha="center", va="center", fontsize=28)
    elif panel["type"] == "bargauge":
        place.barh([name for name, _ in found], [float(one["values"][-1][1]) for _, one in found])
        place.tick_params(labelsize=6)
    else:
        for name, one in found:
            times = [datetime.fromtimestamp(float(at), UTC) for at, _ in one["values"]]
            dashed = "--" if name == "objective" else "-"
            place.plot(times, [float(value) for _, value in one["values"]], dashed, label=name, linewidth=1)
        place.set_ylim(bottom=0)
        place.tick_params(labelsize=6)
        place.set_ylabel(unit if unit != "short" else "", fontsize=7)
        if 0 < len(found) <= 8:
            place.legend(fontsize=6, loc="upper left")


def _said(value: float, unit: str) -> str:
    if math.isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "bytes":
        return f"{value / 1000:,.0f} kB"
    return f"{value:,.1f} s" if unit == "s" else f"{value:,.0f}"


if __name__ == "__main__":
    draw(sys.argv[1].rstrip("/"), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 3600)
