"""The dataset card, with the configurations that `datasets.load_dataset` reads."""

from __future__ import annotations

from typing import Any

from services.kb_sink.release.plots import PLOTS
from services.kb_sink.release.tasks import SCHEMAS

_ABOUT = {
    "features": "what a vision-language model sees of a product",
    "generation": "why a pair is bought together, as chat rows for supervised fine-tuning",
    "judgement": "whether a reason is one, kept and rejected, with the filter's P(yes) and people's verdicts",
    "preference": "of one pair and relation a kept reason against a rejected one, for preference optimisation",
    "intent-understand": "which of four reasons is a pair's",
    "intent-utilize": "which of four products goes with one, for a reason",
}
assert _ABOUT.keys() == SCHEMAS.keys()
_BAR = 40


def card(manifest: dict[str, Any]) -> str:
    """A release's README.md."""
    rows = {(one["config"], one["split"]): one["rows"] for one in manifest["splits"]}
    settings = manifest["settings"]
    lines = ["---", "pretty_name: Mindstream purchase intentions", "language: en", "configs:"]
    for config in SCHEMAS:
        found = [split for name, split in rows if name == config]
        if found:
            lines += [f"- config_name: {config}", "  data_files:"]
            for split in found:
                lines += [f"  - split: {split}", f"    path: {config}/{split}-*.parquet"]
    strict = settings["split"] == "product"
    lines += [
        "---", "", "# Purchase intentions", "",
        "Why products are bought together, written by a vision-language model and judged by it in a customer's role.",
        "The method is MIND's (arXiv 2406.10701). Machine-made: check before you rely on it.", "",
        *_delta(manifest),
        f"- Snapshot: {manifest['snapshot_at']}",
        f"- Intentions: {manifest['intentions']}, accepted: {manifest['accepted']}",
        *([f"- People's verdicts: {manifest['people_verdicts']}"] if manifest["people_verdicts"] else []),
        f"- Thresholds: {', '.join(map(str, manifest['thresholds']))}"
        + (f"; here {settings['threshold']}" if settings["threshold"] is not None else ""),
        f"- Models: {', '.join(manifest['models'])}",
        f"- Prompts: {', '.join(manifest['prompts'])}",
        f"- Splits: {'no product, pair or reason' if strict else 'no pair'} is in two.",
        *(f"- Left out, {why}: {count}" for why, count in manifest["left_out"].items() if count), "",
        "| config | rows | what a row asks |", "| --- | --- | --- |",
        *(f"| {config} | {_counts(rows, config)} | {about} |" for config, about in _ABOUT.items()), "",
        *(f"![{title}]({name})" for name, title in PLOTS.items()), "", "Kept of each relation:", "", "```",
        *_bars({name: (manifest["accepted_relations"].get(name, 0), n) for name, n in manifest["relations"].items()}),
        "```", "", "Scores, P(yes):", "", "```",
        *_bars({f"{tenth / 10:.1f}": (count, 0) for tenth, count in enumerate(manifest["scores"])}),
        "```", "", "`manifest.json` has every file's sha256.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _delta(manifest: dict[str, Any]) -> list[str]:
    if "base" not in manifest:
        return []
    base = manifest["base"]["release_id"]
    return [f"A delta: what `{base}` and its bases have not. Read it with them; of an id in two the newer holds.", ""]


def _counts(rows: dict[tuple[str, str], int], config: str) -> str:
    return ", ".join(f"{split} {count}" for (name, split), count in rows.items() if name == config) or "none"


def _bars(counts: dict[str, tuple[int, int]]) -> list[str]:
    """A line a name: a bar as long as its count is of the largest, and the count, of how many where that is known."""
    largest = max((count for count, _ in counts.values()), default=0) or 1
    return [
        f"{name:<16} {'#' * round(count / largest * _BAR):<{_BAR}} {count}" + (f" of {total}" if total else "")
        for name, (count, total) in counts.items()
    ]
