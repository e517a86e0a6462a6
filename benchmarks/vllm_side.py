"""vLLM's side of benchmarks.engine, run by the Python that vLLM is installed for: it pins other versions than we do.

Reads one JSON line: the checkpoint's folder, rounds of prompts, a picture's file, and the tokens of an answer. Writes
one JSON line: the seconds of each round and the texts of the last. Prefix caching is on.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Answer all rounds."""
    from PIL import Image
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    picture = Image.open(asked["picture"])
    model = LLM(
        asked["model"], dtype=asked["dtype"], enable_prefix_caching=True, max_model_len=4096,
        limit_mm_per_prompt={"image": 1}, max_num_seqs=len(asked["rounds"][-1]), seed=0,
    )  # fmt: skip
    sampling = SamplingParams(temperature=0, max_tokens=asked["tokens"], ignore_eos=True)
    seconds, texts = [], []
    for prompts in asked["rounds"]:
        began = time.perf_counter()
        answers = model.generate(
            [{"prompt": prompt, "multi_modal_data": {"image": picture}} for prompt in prompts], sampling, use_tqdm=False
        )
        seconds.append(time.perf_counter() - began)
        texts = [answer.outputs[0].text for answer in answers]
    print("\n" + json.dumps({"seconds": seconds, "texts": texts}), flush=True)


if __name__ == "__main__":
    main()
