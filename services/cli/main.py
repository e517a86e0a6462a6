"""`mindstream`: the command line."""

from __future__ import annotations

import logging

import typer

from services.cli import dlq, feed, kb, platform, ratings, releases, training
from services.cli.demo import demo
from services.cli.doctor import doctor
from services.cli.imports.command import import_
from services.cli.plan import plan
from services.cli.rejudge.command import rejudge
from services.cli.shadow.command import app as shadow

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
app.command()(doctor)
app.command()(plan)
app.command()(platform.topics)
app.command()(platform.migrate)
app.command()(platform.settings)
app.add_typer(feed.app, name="feed")
kb.app.add_typer(ratings.app, name="ratings")
kb.app.command()(rejudge)
app.command("import")(import_)
app.add_typer(kb.app, name="kb")
app.add_typer(shadow, name="shadow")
app.add_typer(releases.app, name="datasets")
app.add_typer(dlq.app, name="dlq")
app.command()(training.finetune)
app.add_typer(training.evaluate, name="evaluate")


def main() -> None:
    """Entry point."""
    # A command says in one line of its own what Kafka refused; what the library says beside it helps nobody here.
    logging.getLogger("librdkafka").addHandler(logging.NullHandler())
    app()
