"""`mindstream finetune` and `mindstream evaluate`: what releases are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from services.cli.common import InputError, one_line_errors, print_json
from services.common.settings import Settings, load_settings

P = ParamSpec("P")
R = TypeVar("R")
evaluate = typer.Typer(no_args_is_help=True, help="Measure models on benchmarks.")
#: `evaluate intentionqa` and `finetune` alike.
CheckpointHelp = "Checkpoint: a Hub id or a folder, anything the engine loads."


class Scorings(StrEnum):
    """How an answer is taken; see training.asking."""

    GENERATE = "generate"
    LETTER = "letter"
    LIKELIHOOD = "likelihood"


def with_training(command: Callable[P, R]) -> Callable[P, R]:
    """What training's own errors and a missing extra are to a person: one line."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            from services.lvlm.engine import EngineError
            from training.errors import TrainingError

            try:
                return command(*args, **kwargs)
            except (EngineError, TrainingError) as error:
                raise InputError(str(error)) from None
        except ModuleNotFoundError as error:
            raise InputError(f"{error.name} is missing: the extra `training` has it (`remote` for endpoints)") from None

    return wrapped


@one_line_errors
@with_training
def finetune(
    release: Annotated[str, typer.Option(help="Folder of a finished release: a path, file:// or s3://.")],
    checkpoint: Annotated[str, typer.Option(help=CheckpointHelp)],
    out: Annotated[Path, typer.Option(help="Folder of the run: the adapter, run.json, and what it goes on from.")],
    kinds: Annotated[
        str, typer.Option(help="Configurations to learn from, comma-separated.")
    ] = "generation,intent-understand,intent-utilize",
    seed: Annotated[int, typer.Option(help="Of the adapter's beginning, and of the order of rows.", min=0)] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps; 0: as many as --epochs takes.", min=0)] = 0,
    epochs: Annotated[float, typer.Option(help="How often each row is learned from.", min=0.001)] = 1.0,
    batch: Annotated[int, typer.Option(help="Rows computed together.", min=1)] = 8,
    accumulate: Annotated[int, typer.Option(help="Batches of an optimizer step.", min=1)] = 1,
    learning_rate: Annotated[float, typer.Option(help="The highest; it rises, then falls as a cosine.")] = 2e-4,
    rank: Annotated[int, typer.Option(help="LoRA's rank; its scale is twice that.", min=1)] = 16,
    pictures: Annotated[bool, typer.Option(help="Show pictures, where a row has them.")] = True,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: a tenth of all.", min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a LoRA adapter on a release; MINDSTREAM_ADAPTER then adds it to the checkpoint.

    Pictures come from MINDSTREAM_MEDIA_URL. On a GPU it trains in bfloat16, on a CPU in float32.

    Example: mindstream finetune --release demo-out/datasets --checkpoint models/demo/mindstream-demo-llava --out tuned
    """
    from training.finetune import finetune as train
    from training.run import Recipe

    chosen = tuple(kind.strip() for kind in kinds.split(",") if kind.strip())
    recipe = Recipe(
        kinds=chosen, seed=seed, steps=steps, epochs=epochs, batch=batch, accumulate=accumulate,
        learning_rate=learning_rate, rank=rank, pictures=pictures,
    )  # fmt: skip
    record = train(release, _settings(model=checkpoint), out, recipe, save_every=save_every, resume=resume)
    print(f"{out}: adapter sha256:{record['adapter']['sha256'][:12]}, loss {record['losses'][-1][1]:.3f}")
    print(f"To use it: MINDSTREAM_MODEL={checkpoint} MINDSTREAM_ADAPTER={out}")


@evaluate.command()
@one_line_errors
@with_training
def intentionqa(
    data: Annotated[str, typer.Option(help="JSONL of IntentionQA, or the folder of a release with its own questions.")],
    task: Annotated[
        int, typer.Option(help="1: which reason a pair has; 2: which product goes with one.", min=1, max=2)
    ],
    checkpoint: Annotated[list[str] | None, typer.Option(help=f"{CheckpointHelp} Several are compared.")] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Adapter of the first checkpoint, which is asked alone too.")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible endpoint, instead of checkpoints.")] = "",
    scoring: Annotated[
        Scorings,
        typer.Option(
            help="generate: read what the model says; letter: the likeliest letter; likelihood: the option whose words "
            "are likeliest without the list."
        ),
    ] = Scorings.GENERATE,
    split: Annotated[str, typer.Option(help="Split of a release.")] = "test",
    limit: Annotated[int, typer.Option(help="Ask the first N questions only; 0: all.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Accuracy on IntentionQA (arXiv 2406.10173) by difficulty, with 95 % intervals, beside floors.

    Example: mindstream evaluate intentionqa --data task1.jsonl --task 1 --checkpoint llava-hf/llava-1.5-7b-hf
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from training import questions, report
    from training.asking import ask

    if bool(checkpoint) == bool(endpoint):
        raise InputError("one of --checkpoint and --endpoint is needed")
    found, too_few = questions.read(data, task, split)
    asked = found[:limit] if limit else found
    if endpoint:
        models = [_settings(engine="openai", openai_base_url=endpoint, adapter="")]
    else:
        models = [_settings(model=one, adapter="") for one in checkpoint or ()]
        models += [models[0].model_copy(update={"adapter": one}) for one in adapter or ()]
    console = Console(stderr=True)

    def tracked(answers: Iterator[int | None], total: int) -> Iterator[int | None]:
        yield from track(answers, "asking", total, console=console, transient=True)

    told = report.report(asked, [ask(one, asked, scoring.value, tracked) for one in models], seed)
    told = {"data": data, "task": task, "scoring": scoring.value, "with too few options": too_few, **told}
    if as_json:
        print_json(told)
        return
    headings, *rows = report.table(told)
    table = Table(
        *headings, title=f"task {task}, {told['questions']} questions of {told['pairs']} pairs, {scoring.value}"
    )
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _settings(**changed: object) -> Settings:
    return load_settings().model_copy(update=changed)
