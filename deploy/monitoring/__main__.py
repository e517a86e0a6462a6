"""`python -m deploy.monitoring [--check]`: writes the dashboards' JSON, or says which is stale (exit code 1)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.monitoring.front import FRONT
from deploy.monitoring.panels import built
from deploy.monitoring.stages import STAGES

DASHBOARDS = Path(__file__).parent / "dashboards"


def texts() -> dict[str, str]:
    """Every dashboard's JSON, by its file's name."""
    return {
        f"{page.uid}.json": json.dumps(built(page), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for page in (FRONT, *STAGES)
    }


def stale() -> list[str]:
    """Files that are not what the code makes, or that it does not make at all."""
    made = texts()
    kept = {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    return sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))


def main() -> int:
    """Write or check; the exit code."""
    if "--check" in sys.argv[1:]:
        for name in stale():
            print(f"{name} is stale: make dashboards", file=sys.stderr)
        return 1 if stale() else 0
    DASHBOARDS.mkdir(exist_ok=True)
    for path in DASHBOARDS.glob("*.json"):
        path.unlink()
    for name, text in texts().items():
        (DASHBOARDS / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
