"""vLLM's side of benchmarks.against_vllm, run by the Python of vLLM's own environment.

Reads one JSON line: the checkpoint's folder, the weights' type, the tokens of an answer, and rounds; a round is a list
of prompts, each with its picture's file. Writes one JSON line: the seconds of each round and the last round's texts.
Prefix caching is on.
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
    model = LLM(
        asked["model"], dtype=asked["dtype"], enable_prefix_caching=True, max_model_len=4096, seed=0,
        limit_mm_per_prompt={"image": 1}, max_num_seqs=max(map(len, asked["rounds"])), gpu_memory_utilization=0.5,
    )  # fmt: skip
    sampling = SamplingParams(temperature=0, max_tokens=asked["tokens"], ignore_eos=True)
    seconds, texts = [], []
    for prompts in asked["rounds"]:
        made = [{"prompt": text, "multi_modal_data": {"image": Image.open(file)}} for text, file in prompts]
        began = time.perf_counter()
        answers = model.generate(made, sampling, use_tqdm=False)
        seconds.append(time.perf_counter() - began)
        texts = [answer.outputs[0].text for answer in answers]
    print("\n" + json.dumps({"seconds": seconds, "texts": texts}), flush=True)


if __name__ == "__main__":
    main()
