"""`mindstream import`: history and released collections into the topics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.cli.common import PROBLEM, InputError, one_line_errors


class Collection(StrEnum):
    """What can be imported."""

    AMAZON_2018 = "amazon-2018"
    AMAZON_2023 = "amazon-2023"
    FOLKSCOPE = "folkscope"
    INTENTIONQA = "intentionqa"
    MIND = "mind"

    @property
    def catalogue(self) -> bool:
        """Whether it holds products and not intentions."""
        return self in (Collection.AMAZON_2018, Collection.AMAZON_2023)


class Pairs(StrEnum):
    """Which co-buys of a catalogue are sent."""

    BOTH_KNOWN = "both-known"
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True)
class Asked:
    """What a person has asked for."""

    collection: Collection
    files: list[Path]
    dry_run: bool
    resume: bool
    judge: bool
    as_is: bool
    pairs: Pairs | None
    text_only: bool
    products: list[Path]
    columns: list[str]
    score: float | None
    limit: int
    work: Path
    data_dir: Path | None

    def check(self) -> None:
        """See that the options go together.

        Raises:
            InputError: they do not.
        """
        name = self.collection.value
        of_intentions = self.judge or self.as_is or self.products or self.columns or self.score is not None
        if self.collection.catalogue and of_intentions:
            told = "--judge, --as-is, --products, --column and --score do not go with it"
            raise InputError(f"{name} holds no intentions: {told}")
        if not self.collection.catalogue and (self.pairs or self.text_only):
            raise InputError(f"{name} holds intentions: --pairs and --text-only do not go with it")
        if not self.collection.catalogue and self.judge == self.as_is:
            raise InputError(f"{name}: either --judge (our filter scores them) or --as-is (their own scores stay)")
        if self.score is not None and not self.as_is:
            raise InputError("--score goes with --as-is")


@one_line_errors
def import_(
    collection: Annotated[Collection, typer.Argument(help="Which collection the files are of (docs/import.md).")],
    files: Annotated[list[Path], typer.Argument(help="JSON lines, CSV or TSV; plain, .gz or .zst.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing: count, and show refused rows.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an import of the same files stopped.")] = False,
    judge: Annotated[bool, typer.Option("--judge", help="Intentions: have the filter judge them.")] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="Intentions: take them with their own scores.")] = False,
    pairs: Annotated[
        Pairs | None, typer.Option(help="Catalogues: which co-buys to send; both-known unless told.")
    ] = None,
    text_only: Annotated[bool, typer.Option("--text-only", help="Catalogues: leave pictures out.")] = False,
    products: Annotated[
        list[Path] | None, typer.Option(help="Intentions: files with an id and a title, for rows without titles.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Intentions: OURS=THEIRS, where a column has another name.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="With --as-is: score of rows with neither a score nor a verdict.", min=0, max=1)
    ] = None,
    limit: Annotated[int, typer.Option(help="Read the first N rows only; 0 reads all.", min=0)] = 0,
    work: Annotated[Path, typer.Option(help="Folder for the position and refused rows.")] = Path("mindstream-import"),
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the embedded platform.")] = None,
) -> None:
    """Load history: a catalogue with its co-buys, or intentions made elsewhere.

    Rows that cannot be taken are set aside with their reason, and the exit code is 1. Example:
    import amazon-2018 meta_Electronics.json.gz
    """
    asked = Asked(
        collection, files, dry_run, resume, judge, as_is, pairs, text_only, products or [], column or [], score, limit,
        work, data_dir,
    )  # fmt: skip
    asked.check()
    from services.cli.imports.session import run  # Kafka and protobuf: only where they are needed.

    if run(asked).refused:
        raise typer.Exit(PROBLEM)
