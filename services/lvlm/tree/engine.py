"""The tree engine: each request's prefix is computed once, and all its branches are decoded together over it.

The same greedy tokens as the plain engine's, from the same prompts; what differs is the work. A step's matrix products
are over all branches, of several requests where there are any, and a prefix's keys and values are read once a step
instead of once a branch (`attention`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from services.common import metrics
from services.common.settings import Settings
from services.lvlm.checkpoint import Checkpoint
from services.lvlm.engine import Branch, BrokenNumbers, Completion, EngineError, Prefix, PromptRefused, Usage
from services.lvlm.packed import pack
from services.lvlm.tree import attention
from services.lvlm.tree.attention import Tree
from services.lvlm.tree.cache import CHUNK, Cache
from services.lvlm.tree.run import Run, read

_log = logging.getLogger(__name__)

#: Rows that a forward on CPU has at the least, for each thread. Products of fewer take other kernels, whose rounding
#: differs; above it a row's result did not depend on how many other rows there were (MKL, float32). On a GPU it does.
_ROWS_A_THREAD = 8


class UnsupportedCheckpoint(Exception):
    """The tree engine cannot decode this architecture; one line says why."""


class _Caught(Exception):
    """The text model was reached."""


class TreeEngine:
    """See SteppedEngine. For decoders with standard attention and one position a token."""

    concurrent = False

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        """Take over the checkpoint's attention.

        Raises:
            UnsupportedCheckpoint: the architecture's attention cannot be exchanged, or gives other results so.
        """
        self._checkpoint, self._settings = checkpoint, settings
        self._model: Any = checkpoint.model
        self.model_version = checkpoint.version
        _refuse_unknown(checkpoint.model.config)
        attention.register()
        packed = pack(self._model)
        if packed:
            _log.info("packed %d linear layers for this processor", packed)
        self._text_config: Any = checkpoint.model.config.get_text_config()
        self._decoder: Any = self._model.get_decoder()
        self._least = _ROWS_A_THREAD * torch.get_num_threads() if self._model.device.type == "cpu" else 0
        self.cache = Cache(settings.prefix_cache_tokens)
        self._check()

    # -- alone -----------------------------------------------------------------------------------------------------

    def complete(
        self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int
    ) -> tuple[list[Completion], Usage]:
        """See Engine."""
        run = self._through(self.begin(prefix, branches, max_new_tokens))
        return run.completions, run.usage

    def score(self, prefix: Prefix, branches: Sequence[Branch]) -> tuple[list[float], Usage]:
        """See Engine."""
        run = self._through(self.begin(prefix, branches, 0))
        return run.scores, run.usage

    def _through(self, run: Run) -> Run:
        while not run.whole:
            self.prefill(run)
        while not run.done:
            self.step([run])
        return run

    # -- beside others ---------------------------------------------------------------------------------------------

    def begin(self, prefix: Prefix, branches: Sequence[Branch], max_new_tokens: int) -> Run:
        """See SteppedEngine."""
        prompts = read(self._checkpoint, prefix, branches, max_new_tokens)
        run = Run(self._checkpoint, prompts, branches, max_new_tokens, self._settings)
        if run.cost > self._settings.kv_tokens:
            raise PromptRefused(
                f"{run.cost} tokens of keys and values are more than {self._settings.kv_tokens} (MINDSTREAM_KV_TOKENS)"
            )
        return run

    def prefill(self, run: Run) -> None:
        """See SteppedEngine. A chunk of the prefix; or what is left of it, and the rest of all prompts."""
        with torch.inference_mode(), self._attention():
            self._look_up(run)
            if run.tree.filled + CHUNK <= len(run.prompts.prefix):
                self._chunk(run)
                return
            hidden = self._branch_out(run)
            if run.most:
                run.branched(hidden)
            else:
                run.scored(self._logits(hidden))

    def alive(self) -> bool:
        """See SteppedEngine."""
        if self._model.device.type != "cuda":
            return True
        try:
            torch.cuda.synchronize(self._model.device)
            return bool(torch.ones(1, device=self._model.device).item())
        except Exception:
            return False

    def step(self, runs: Sequence[Run]) -> None:
        """See SteppedEngine."""
        with torch.inference_mode(), self._attention():
            # One that failed beside others has chosen its tokens, and comes again only for the forward.
            choosing = [run for run in runs if run.hidden is not None]
            if choosing:
                self._choose(choosing)
            going = [run for run in runs if run.pending is not None]
            if not going:
                return
            trees = [run.tree for run in going]
            positions = torch.cat([run.tree.begin(0, 1) for run in going])
            tokens = torch.cat([run.pending for run in going if run.pending is not None])
            hidden = self._forward(trees, self._embedded(tokens), positions)
            metrics.ENGINE_BRANCHES.set(len(tokens))
            for run, rows in zip(going, torch.split(hidden, [tree.branches for tree in trees]), strict=True):
                run.tree.end()
                run.pending, run.hidden = None, rows

    def _choose(self, runs: Sequence[Run]) -> None:
        logits = self._logits(torch.cat([run.hidden for run in runs if run.hidden is not None]))
        counts = [len(run.going) for run in runs]
        chosen = [run.choose(rows) for run, rows in zip(runs, torch.split(logits, counts), strict=True)]
        # The one place of the loop where the host waits for the device: it must see who is done.
        seen: list[int] = torch.cat(chosen).tolist()
        metrics.ENGINE_TOKENS.inc(len(seen))
        for run, tokens in zip(runs, chosen, strict=True):
            try:
                run.take(tokens, seen[: len(tokens)])
            except Exception as error:
                run.fail(error)  # Half taken, it cannot be taken again.
            seen = seen[len(tokens) :]

    # -- forwards --------------------------------------------------------------------------------------------------

    def _look_up(self, run: Run) -> None:
        """Take over the chunks that its prefix begins with, if they are kept."""
        if run.looked_up:
            return
        run.looked_up = True
        for layers in self.cache.chunks(run.prompts.chunks):
            for layer, (keys, values) in layers.items():
                run.tree.fill(layer, keys, values, run.tree.filled)
            run.tree.filled += CHUNK
        metrics.ENGINE_PREFIX_TOKENS.labels("kept").inc(run.tree.filled)
        metrics.ENGINE_PREFIX_TOKENS.labels("computed").inc(len(run.prompts.prefix) - run.tree.filled)

    def _chunk(self, run: Run) -> None:
        """The next chunk of a prefix."""
        tree = run.tree
        start, stop = tree.filled, tree.filled + CHUNK
        embeddings = self._of_prefix(run)[start:stop]
        self._forward([tree], embeddings, tree.begin(CHUNK, 0))
        tree.end()
        try:
            self.cache.keep(run.prompts.chunks[start // CHUNK], tree, start, stop)
        except (MemoryError, RuntimeError) as error:  # PyTorch says so of memory, on a CPU in no kind of its own.
            _log.warning("nothing more is kept of prefixes, all that was is given back: %s", error)
            self.cache.clear()
        metrics.ENGINE_KV_TOKENS.labels("cache").set(self.cache.tokens)

    def _branch_out(self, run: Run) -> torch.Tensor:
        """What is left of the prefix, and the rest of all prompts; the hidden state (B, d) at the end of each."""
        tree, prompts, device = run.tree, run.prompts, self._model.device
        fresh, width = len(prompts.prefix) - tree.filled, prompts.width
        # What pads a shorter question in front is seen by nobody; any token will do.
        padded = [[rest[0]] * (width - len(rest)) + rest for rest in prompts.rests]
        embeddings = self._embedded(torch.tensor(padded, device=device).flatten())
        if fresh:
            embeddings = torch.cat((self._of_prefix(run)[tree.filled :], embeddings))
        tree.pads = torch.tensor([width - len(rest) for rest in prompts.rests], device=device)
        hidden = self._forward([tree], embeddings, tree.begin(fresh, width))[fresh:]
        tree.end()
        return hidden.view(len(prompts.rests), width, -1)[:, -1]

    def _forward(self, trees: list[Tree], embeddings: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """The trees' next tokens, (N, d) at (N,), through the text model: hidden states (N, d)."""
        output = self._decoder(
            inputs_embeds=_at_least(self._least, embeddings)[None],
            position_ids=_at_least(self._least, positions)[None],
            use_cache=False,
            trees=trees,
        )
        hidden: torch.Tensor = output.last_hidden_state[0, : len(embeddings)]
        return hidden

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model.get_output_embeddings()(_at_least(self._least, hidden))
        return logits[: len(hidden)]

    def _embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self._model.get_input_embeddings()(tokens)
        return embeddings

    def _of_prefix(self, run: Run) -> torch.Tensor:
        """Embeddings (P, d) of its prefix; pictures in their places, where they are still to be read."""
        if run.embeddings is None:
            prefix = run.prompts.prefix
            tokens = torch.tensor(prefix, device=self._model.device)
            run.embeddings = self._embedded(tokens)
            if self._checkpoint.image_token in prefix[run.tree.filled :]:
                found = [place for place, token in enumerate(prefix) if token == self._checkpoint.image_token]
                places = torch.tensor(found, device=tokens.device)
                run.embeddings[places] = self._pictures(run, tokens, places)
        return run.embeddings

    def _pictures(self, run: Run, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Embeddings (placeholders, d) of its pictures: what the model itself hands to its text model."""
        kept = self.cache.picture(run.prompts.digest)
        metrics.ENGINE_PICTURES.labels("computed" if kept is None else "kept").inc()
        if kept is not None:
            return kept
        caught: list[torch.Tensor] = []

        def catch(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            caught.append(kwargs["inputs_embeds"][0, places])
            raise _Caught

        inputs = {name: value.to(self._model.device) for name, value in run.prompts.pictures.items()}
        inputs = {name: v.to(self._model.dtype) if v.is_floating_point() else v for name, v in inputs.items()}
        handle = self._decoder.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            self._model.model(
                input_ids=tokens[None], position_ids=torch.arange(len(tokens), device=tokens.device)[None],
                use_cache=False, **inputs,
            )  # fmt: skip
        except _Caught:
            pass
        finally:
            handle.remove()
        self.cache.keep_picture(run.prompts.digest, caught[0])
        return caught[0]

    def _attention(self) -> _Exchanged:
        return _Exchanged(self._text_config)

    # -- at load ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Score both ways, and decode a few tokens: an architecture that computes anything else is found out.

        Raises:
            EngineError: the model computes no numbers.
            UnsupportedCheckpoint: it fails, or the results differ by more than rounding.
        """
        from PIL import Image

        from services.lvlm.plain import PlainEngine

        branches = [Branch("Why? Because", ""), Branch("What is it", "It is"), Branch("?", "")]
        plain = PlainEngine(self._checkpoint, self._settings)
        for prefix in (Prefix("Two products."), Prefix("Two products.", (Image.new("RGB", (64, 48), "teal"),))):
            try:
                ours, _ = self.score(prefix, branches)
                self.complete(prefix, branches, _CHECKED_TOKENS)
            except BrokenNumbers as error:
                raise EngineError(f"{self._settings.model}: {error}") from None
            except (MemoryError, torch.OutOfMemoryError) as error:
                raise EngineError(f"no memory to decode {self._settings.model}: {error}") from None
            except Exception as error:
                line = " ".join(str(error).split())[:200]
                raise UnsupportedCheckpoint(f"{type(error).__name__}: {line}") from None
            theirs, _ = plain.score(prefix, branches)
            if max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > _TOLERANCE[self._model.dtype]:
                raise UnsupportedCheckpoint(f"its scores are {ours} here and {theirs} in transformers")


#: Tokens that are decoded at load.
_CHECKED_TOKENS = 4
#: Largest difference of a score from the plain path's, by what the weights are computed in.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}


class _Exchanged:
    """The text model's attention is the tree's inside this block, so that the plain path keeps its own."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __enter__(self) -> None:
        self._before = self._config._attn_implementation
        self._config._attn_implementation = attention.NAME

    def __exit__(self, *_: object) -> None:
        self._config._attn_implementation = self._before


def _at_least(rows: int, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with zeros behind it, where it has fewer rows."""
    missing = rows - len(tensor)
    return torch.cat((tensor, tensor.new_zeros(missing, *tensor.shape[1:]))) if missing > 0 else tensor


def _refuse_unknown(config: Any) -> None:
    """Architectures whose decoder is known to need more than causal attention over one position a token.

    Raises:
        UnsupportedCheckpoint: naming what it has.
    """
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None) or {}
    if parameters.get("rope_type") in ("dynamic", "longrope"):
        raise UnsupportedCheckpoint(f"{config.model_type} turns positions by the length of all that is computed")
    if "mrope_section" in parameters:
        raise UnsupportedCheckpoint(f"{config.model_type} has positions in three dimensions (mrope)")
    if getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
        raise UnsupportedCheckpoint(f"{config.model_type} attends through a sliding window")
    if set(getattr(text, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise UnsupportedCheckpoint(f"{config.model_type} has layers other than full attention")
