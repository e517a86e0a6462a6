"""`python -m ablations NAME [--seed N] [--checkpoint PATH] [--out DIR]`: one ablation, or `all` of them.

Each writes its tables (NAME.json, and NAME.md or into a page) and its plot (NAME.png). What one has computed, another
takes over.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ablations import candidates, features, relations, text_only, threshold
from ablations.bench import Bench
from ablations.report import Report
from models.demo import CHECKPOINT
from models.demo.jobs import Model
from models.demo.pages import NoMarks, around, write_into
from services.common.process import BAD_INPUT, exit_code
from services.common.settings import load_settings
from services.lvlm.engine import BrokenNumbers, EngineError, PromptRefused
from services.lvlm.load import load_engine

_ROOM = "ablations"
ABLATIONS: dict[str, Callable[[Bench], Report]] = {
    "text-only": text_only.measure,
    "threshold": threshold.measure,
    "relations": relations.measure,
    "candidates": candidates.measure,
    "features": features.measure,
}


def main() -> int:
    """Run what was asked for; the exit code."""
    asked = _arguments()
    names = [*ABLATIONS] if asked.name == "all" else [asked.name]
    try:
        for name in names if asked.page else ():
            around(asked.page, name, _ROOM)  # Told now, not when all is computed.
        asked.out.mkdir(parents=True, exist_ok=True)
        settings = load_settings().model_copy(update={"model": asked.checkpoint})
        engine = load_engine(settings)
        bench = Bench(Model(engine, settings), asked.seed, asked.pairs)
        for name in names:
            _run(name, bench, asked.out, asked.page)
    except (EngineError, PromptRefused, BrokenNumbers, NoMarks) as error:
        print(f"{_ROOM}: {error}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        return exit_code(_ROOM, error)
    return 0


def _run(name: str, bench: Bench, out: Path, page: Path | None) -> None:
    began, model = time.monotonic(), bench.model.engine.model_version
    report = ABLATIONS[name](bench)
    said = f"`python -m ablations {name} --seed {bench.seed} --pairs {bench.count}`, with {model}:"
    report.write(out, {"model": model, "seed": bench.seed, "pairs": bench.count})
    tables = report.markdown(said)
    print(tables)
    if page:
        write_into(page, name, _ROOM, tables)
    else:
        (out / f"{name}.md").write_text(tables, "utf-8")
    print(f"{name}: {time.monotonic() - began:.0f} s, in {out}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ablations", description="Ablations over the made-up shop.")
    parser.add_argument("name", choices=[*ABLATIONS, "all"])
    parser.add_argument("--seed", type=int, default=1, help="of pairs, samples and intervals")
    parser.add_argument("--pairs", type=_count, default=60, help="pairs of the held-out shop")
    parser.add_argument(
        "--checkpoint", default=str(CHECKPOINT), help="what MINDSTREAM_MODEL takes; the other settings hold as well"
    )
    parser.add_argument("--out", type=Path, default=Path("build/ablations"), help="folder of tables and plots")
    parser.add_argument(
        "--page", type=Path, help="page to write the tables into, between its marks, and not beside the plots"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no count of pairs")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
