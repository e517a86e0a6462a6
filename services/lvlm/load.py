"""The engine of the settings."""

from __future__ import annotations

import logging
import sys

from services.common.settings import Settings
from services.lvlm.engine import Branch, BrokenNumbers, Engine, EngineError, Prefix

_log = logging.getLogger(__name__)


def load_engine(settings: Settings) -> Engine:
    """Load the checkpoint into the tree engine, or where that does not know its attention into the plain one.

    With the engine `openai` nothing is loaded: an endpoint is asked.

    Raises:
        EngineError: it cannot be loaded or asked, or `engine` is `tree` and it cannot be decoded so.
    """
    # Here, not above: a server that asks an endpoint has no torch, and one with a checkpoint no client.
    if settings.engine == "openai":
        if settings.adapter:
            raise EngineError(
                "MINDSTREAM_ADAPTER is for a checkpoint; an endpoint's is named by MINDSTREAM_OPENAI_MODEL"
            )
        from services.lvlm.remote import RemoteEngine

        return RemoteEngine(settings)
    from services.lvlm.checkpoint import Checkpoint
    from services.lvlm.plain import PlainEngine
    from services.lvlm.tree.engine import TreeEngine, UnsupportedCheckpoint

    _say_as_we_do()
    checkpoint = Checkpoint(settings)
    if settings.engine == "plain":
        return _with_numbers(PlainEngine(checkpoint, settings), settings)
    try:
        return TreeEngine(checkpoint, settings)
    except UnsupportedCheckpoint as error:
        if settings.engine == "tree":
            raise EngineError(f"the tree engine cannot decode {settings.model}: {error}") from None
        _log.warning("the tree engine cannot decode %s: %s; taking the plain one", settings.model, error)
        return _with_numbers(PlainEngine(checkpoint, settings), settings)


def _say_as_we_do() -> None:
    """What transformers says goes into the log in the log's form, and its bars only where a person watches them."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as said

    said.disable_default_handler()
    said.enable_propagation()
    if not sys.stderr.isatty():
        said.disable_progress_bar()  # type: ignore[no-untyped-call]
        disable_progress_bars()


def _with_numbers(engine: Engine, settings: Settings) -> Engine:
    try:
        engine.score(Prefix("Two products."), [Branch("Why?")])
    except BrokenNumbers as error:
        raise EngineError(f"{settings.model}: {error}") from None
    return engine
