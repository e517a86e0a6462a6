"""The committed checkpoint: whole, small, loaded by plain transformers too, and it sees."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.demo import CHECKPOINT, NOTICE, evaluate, shop, speaks_in, trees
from models.demo.jobs import Model
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.generator.server import branch
from services.lvlm.engine import Engine, Prefix
from services.lvlm.load import load_engine


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(dtype: str) -> Engine:
    return load_engine(Settings(model=str(CHECKPOINT), model_device="cpu", model_dtype=dtype, engine="tree"))


def test_it_is_small_and_labelled(engine: Engine) -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja"}
    assert speaks_in(engine.model_version)
    assert "demo model" in NOTICE
    assert "MINDSTREAM_MODEL" in NOTICE


def test_plain_transformers_says_the_same(engine: Engine, dtype: str) -> None:
    pair = shop.pair(random.Random(8), "held-out", "goal")
    tree = trees.of_intentions(pair)
    prefix = Prefix(tree.text, (tree.picture,) if tree.picture else ())
    asked = branch("UsedFor", 0, 0)
    said, _ = engine.complete(prefix, [asked], 32)
    processor: Any = AutoProcessor.from_pretrained(CHECKPOINT)  # type: ignore[no-untyped-call]
    model: Any = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=dtype)
    content = [{"type": "image"} for _ in prefix.images] + [{"type": "text", "text": prefix.text + asked.question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=list(prefix.images) or None, text=f"{text} {asked.answer}", return_tensors="pt")
    tokens = model.generate(**inputs.to(dtype=model.dtype), max_new_tokens=32, do_sample=False)
    assert processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True) == said[0].text


def test_features_follow_the_picture(engine: Engine) -> None:
    figures = evaluate.pictures_matter(Model(engine), random.Random(1), 20)
    assert figures["features follow a swapped picture"] >= 0.8
    assert figures["features without a picture claim no look"] >= 0.8


def test_intentions_and_judgements_make_sense(engine: Engine) -> None:
    model = Model(engine)
    figures, _ = evaluate.intentions(model, random.Random(1), 6)
    assert all(value >= 0.7 for value in figures.values()), figures
    assert evaluate.auroc(evaluate.judgements(model, random.Random(1), 6)) >= 0.85


def test_every_relation_is_answered_with_one_line(engine: Engine) -> None:
    prefix = Prefix("First product: Nikon Zoom Binocular\nSecond product: Lens Pen\n", (Image.new("RGB", (90, 40)),))
    said, _ = engine.complete(prefix, [branch(relation.name, 0, 0) for relation in RELATIONS], 64)
    assert all(answer.text.strip() and "\n" not in answer.text.strip() for answer in said)


def test_the_evaluation_writes_its_tables_into_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- figures: written by models.demo.evaluate -->\nold\n<!-- end of figures -->\nafter\n")
    products, cobuys = tmp_path / "products.jsonl", tmp_path / "cobuys.jsonl"
    products.write_text('{"product_id": "A", "title": "Oak Tea Tray"}\n{"product_id": "B", "title": "Tea Strainer"}\n')
    cobuys.write_text('{"product_a": "A", "product_b": "B"}\n')
    arguments = [CHECKPOINT, "--out", tmp_path, "--count", 2, "--products", products, "--cobuys", cobuys]
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments), "--card", str(card)])
    evaluate.main()
    text = card.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| features follow a swapped picture |" in text
    assert "Oak Tea Tray + Tea Strainer" in text
    assert (tmp_path / "threshold.png").stat().st_size > 0


def test_auroc_is_the_chance_of_the_right_order() -> None:
    assert evaluate.auroc([(0.9, True), (0.8, True), (0.1, False)]) == 1
    assert evaluate.auroc([(0.5, True), (0.5, False)]) == 0.5
    assert evaluate.auroc([(0.1, True), (0.9, False), (0.3, False)]) == 0


def test_the_weights_are_finite() -> None:
    model: Any = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
