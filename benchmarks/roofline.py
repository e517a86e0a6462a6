"""On paper: what a co-buy costs on one H100 with LLaVA-1.5-13b, by how it is decoded: `python -m benchmarks.roofline`.

The formulas and what they assume are in services/cli/planning/roofline.py, where `mindstream plan` too has them from.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from services.cli.planning.roofline import Decoder, alone, features, generated, judged
from services.common.relations import RELATIONS

#: The paper's knowledge base (MIND, arXiv 2406.10701, section 4).
_COBUYS, _PRODUCTS = 126_142, 107_215
#: Co-buys, and products, in one forward.
_TOGETHER, _PRODUCTS_TOGETHER = 16, 64
_GOAL_SECONDS, _GOAL_HOURS = 0.21, 12.0


def main() -> int:
    """Print both tables; 1 where a goal does not hold."""
    decoder, console, branches = Decoder(), Console(), len(RELATIONS)
    tree = generated(decoder, _TOGETHER)
    ways = {
        "generate(), one prompt at a time": alone(decoder),
        "generate(), 20 in a batch": generated(decoder, 1, prefills=branches, reads=branches),
        f"paged with prefix cache, {_TOGETHER} co-buys": generated(decoder, _TOGETHER, reads=branches),
        "tree, one co-buy at a time": generated(decoder, 1),
        f"tree, {_TOGETHER} co-buys in a forward": tree,
    }
    table = Table("decoding", "seconds a co-buy", "against the last")
    for name, seconds in ways.items():
        table.add_row(name, f"{seconds:.2f}", f"{seconds / tree:.1f}x")
    console.print(table)
    hours = {
        "features": _PRODUCTS * features(decoder, _PRODUCTS_TOGETHER) / 3600,
        "intentions": _COBUYS * tree / 3600,
        "judgements": _COBUYS * judged(decoder, _TOGETHER) / 3600,
    }
    total = sum(hours.values())
    parts = " + ".join(f"{name} {value:.1f}" for name, value in hours.items())
    console.print(f"The paper's KB, {_PRODUCTS:,} products and {_COBUYS:,} co-buys: {parts} = {total:.1f} GPU-hours")
    console.print(f"goals: {_GOAL_SECONDS} s a co-buy, {_GOAL_HOURS:.0f} GPU-hours")
    return 0 if tree <= _GOAL_SECONDS and total <= _GOAL_HOURS else 1


if __name__ == "__main__":
    sys.exit(main())
