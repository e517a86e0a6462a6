"""Measure a checkpoint on the held-out shop, and on real titles: `python -m models.demo.evaluate CHECKPOINT`.

All goes as in the pipeline: features by the model, intentions from those features, judgements of those intentions, each
through the project's engine. Writes figures.json and plots, and with `--card` the tables into the model card.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import track

from models.demo import lessons, pictures, shop
from models.demo.jobs import Answer, Model
from models.demo.pages import NoMarks, write_into
from models.demo.shop import Pair, Product
from services.common.grounding import content_words
from services.common.leaks import words
from services.common.relations import sentence
from services.common.settings import Settings
from services.common.titles import readable
from services.lvlm.engine import EngineError
from services.lvlm.load import load_engine

_SEED = 20_261
_THRESHOLD = 0.5
#: Rejected and kept intentions of real titles that the card shows.
_SAMPLE = 30


# -- the held-out shop ---------------------------------------------------------------------------------------------


def pictures_matter(model: Model, rng: random.Random, count: int) -> dict[str, float]:
    """Features with another product's picture, and without one, of products whose title shows no look."""
    followed, kinds, silent = [], [], []
    for _ in track(range(count), "pictures", transient=True):
        made = _plain_titled(rng)
        other = _plain_titled(rng)
        found = model.features(made, other.picture())
        followed += [other.colour in found.features, other.pattern in found.features]
        kinds.append(made.kind.name in found.description)
        without = model.features(made, None)
        said = set(re.findall(r"[a-z]+", f"{without.description} {' '.join(without.features)}"))
        silent.append(not said & ({*pictures.COLOURS, *pictures.PATTERNS} - set(words(made.title))))
    return {
        "features follow a swapped picture": _mean(followed),
        "features without a picture claim no look": _mean(silent),
        "description names the title's kind": _mean(kinds),
    }


def _plain_titled(rng: random.Random) -> Product:
    while True:
        made = shop.pair(rng, "held-out").a
        if not made.titled & {"colour", "pattern"}:
            return made


def intentions(model: Model, rng: random.Random, count: int) -> tuple[dict[str, float], list[tuple[float, bool]]]:
    """Intentions of held-out pairs; and of each its score and whether it is true."""
    named, formed, honest, judged = [], [], [], []
    for _ in track(range(count), "intentions", transient=True):
        pair = shop.pair(rng, "held-out")
        for answer in model.intentions(pair):
            truth = lessons.intention(pair, answer.relation)
            formed.append(lessons.well_formed(answer.relation, answer.text))
            if truth == lessons.NOTHING:
                honest.append(answer.text == lessons.NOTHING)
                judged.append((answer.score, False))
            else:
                right = any(key in answer.text for key in lessons.key(pair, answer.relation))
                named.append(right)
                judged.append((answer.score, right))
    return {
        "intentions name the true reason (relations that fit)": _mean(named),
        "intentions are well-formed (all relations)": _mean(formed),
        "intentions say that nothing fits (relations that do not)": _mean(honest),
    }, judged


def judgements(model: Model, rng: random.Random, count: int) -> list[tuple[float, bool]]:
    """Scores of good and bad candidates of held-out pairs."""
    found = []
    for _ in track(range(count), "judgements", transient=True):
        pair = shop.pair(rng, "held-out")
        asked = lessons.judgements(rng, "held-out", pair, 16)
        found += [(score, judged.good) for score, judged in zip(model.scores(pair, asked), asked, strict=True)]
    return found


def auroc(judged: Iterable[tuple[float, bool]]) -> float:
    """Chance that a good one scores above a bad one; ties count half."""
    good = [score for score, is_good in judged if is_good]
    bad = [score for score, is_good in judged if not is_good]
    wins = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
    return wins / (len(good) * len(bad))


# -- real titles ---------------------------------------------------------------------------------------------------


def real_titles(model: Model, products: Path, cobuys: Path, limit: int) -> tuple[dict[str, float], list[Answer]]:
    """Intentions of pairs of real titles, without pictures."""
    titles = {
        row["product_id"]: readable(row["title"]) for row in map(json.loads, products.read_text("utf-8").splitlines())
    }
    rows = [json.loads(line) for line in cobuys.read_text("utf-8").splitlines()][:limit]
    answers: list[Answer] = []
    for row in track(rows, "real titles", transient=True):
        answers += model.intentions(_titled_pair(titles[row["product_a"]], titles[row["product_b"]]))
    kept = [answer for answer in answers if _kept(answer)]
    bigrams = [pair for answer in kept for pair in _bigrams(answer.text)]
    uses_title = [bool(content_words(answer.text) & content_words(" ".join(answer.titles))) for answer in kept]
    return {
        "pairs of real titles": float(len(rows)),
        "kept share": len(kept) / len(answers),
        "kept intentions with a content word of a title": _mean(uses_title),
        "distinct-2 over kept intentions": len(set(bigrams)) / max(1, len(bigrams)),
    }, answers


def _titled_pair(a: str, b: str) -> Pair:
    kind = next(iter(shop.kinds().values()))
    blank = Product("", "", kind, "", "", "", frozenset(), (), "", "", "", pictured=False, seed=0)
    return Pair(replace(blank, title=a), replace(blank, title=b), "apart")


def _bigrams(text: str) -> list[tuple[str, str]]:
    return list(itertools.pairwise(words(text)))


def _kept(answer: Answer) -> bool:
    return answer.score >= _THRESHOLD


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / max(1, len(values))


# -- what is written -----------------------------------------------------------------------------------------------


def sweep(judged: Sequence[tuple[float, bool]]) -> list[tuple[float, float, float]]:
    """Per threshold: share of all kept, and share of the kept that are true."""
    rows = []
    for step in range(1, 20):
        threshold = step / 20
        kept = [is_good for score, is_good in judged if score >= threshold]
        rows.append((threshold, len(kept) / len(judged), _mean(kept)))
    return rows


def _plot(rows: Sequence[tuple[float, float, float]], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot([row[0] for row in rows], [row[1] for row in rows], label="kept, of all")
    axes.plot([row[0] for row in rows], [row[2] for row in rows], label="true, of the kept")
    axes.set(xlabel="threshold of the filter", ylabel="share", ylim=(0, 1.02))
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)


_GOALS = {
    "seconds to load, bfloat16": "< 5",
    "seconds to load, float32": "< 5",
    "features follow a swapped picture": ">= 0.95",
    "intentions name the true reason (relations that fit)": ">= 0.90",
    "intentions are well-formed (all relations)": ">= 0.90",
    "AUROC of the filter, good against bad candidates": ">= 0.95",
    "kept intentions with a content word of a title": ">= 0.80",
}


def _tables(figures: dict[str, float], answers: Sequence[Answer], rng: random.Random) -> str:
    lines = ["| figure | measured | goal |", "| --- | --- | --- |"]
    lines += [f"| {name} | {value:.3g} | {_GOALS.get(name, '')} |" for name, value in figures.items()]
    for title, wanted in (("Kept", True), ("Rejected", False)):
        chosen = [answer for answer in answers if _kept(answer) == wanted]
        if not chosen:
            continue
        lines += [
            "",
            f"{title} on real titles, a random sample:",
            "",
            "| titles | intention | score |",
            "| --- | --- | --- |",
        ]
        for answer in rng.sample(chosen, min(_SAMPLE, len(chosen))):
            titles = " + ".join(title.replace("|", "/") for title in answer.titles)
            lines.append(
                f"| {titles} | {sentence(answer.relation, answer.text).replace('|', '/')} | {answer.score:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Evaluate a checkpoint."""
    parser = argparse.ArgumentParser(description="Measure a checkpoint on the held-out shop, and on real titles.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for figures.json and the plot")
    parser.add_argument("--count", type=int, default=200, help="pairs, and products, of the held-out shop")
    parser.add_argument("--products", type=Path, help="JSONL with product_id and title")
    parser.add_argument("--cobuys", type=Path, help="JSONL with product_a and product_b")
    parser.add_argument("--limit", type=int, default=1000, help="pairs of real titles at the most")
    parser.add_argument("--card", type=Path, help="model card to write the tables into")
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    try:
        for dtype in ("bfloat16", "float32"):
            began = time.monotonic()
            engine = load_engine(Settings(model=str(asked.checkpoint), model_device="cpu", model_dtype=dtype))
            figures[f"seconds to load, {dtype}"] = time.monotonic() - began
    except EngineError as error:
        sys.exit(str(error))
    model, rng = Model(engine), random.Random(_SEED)
    figures |= pictures_matter(model, rng, asked.count)
    found, own = intentions(model, rng, asked.count)
    taught = judgements(model, rng, asked.count)
    figures |= found
    figures["AUROC of the filter, good against bad candidates"] = auroc(taught)
    figures["AUROC of the filter, on the model's own intentions"] = auroc(own)
    answers: list[Answer] = []
    if asked.products and asked.cobuys:
        found, answers = real_titles(model, asked.products, asked.cobuys, asked.limit)
        figures |= found
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[Any] = sweep(own)
    _plot(rows, asked.out / "threshold.png")
    written = {"model": engine.model_version, "figures": figures, "threshold, kept, true": rows}
    (asked.out / "figures.json").write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    tables = _tables(figures, answers, rng)
    print(tables)
    if asked.card:
        try:
            write_into(asked.card, "figures", "models.demo.evaluate", tables)
        except NoMarks as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
