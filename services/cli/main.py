"""`mindstream`: the command line."""

from __future__ import annotations

import typer

from services.cli import feed, kb, platform, releases
from services.cli.demo import demo

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Purchases in, a knowledge base of purchase intentions and fine-tuning datasets out.\n\n"
    "Begin with: mindstream demo --out results",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(platform.up)
app.command()(platform.status)
app.command()(demo)
app.command()(platform.topics)
app.command()(platform.settings)
app.add_typer(feed.app, name="feed")
app.add_typer(kb.app, name="kb")
app.add_typer(releases.app, name="datasets")


def main() -> None:
    """Entry point."""
    app()
