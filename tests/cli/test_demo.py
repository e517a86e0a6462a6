"""The demo on files of one's own: what does not come through is said, and is an exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_dead_letters_are_said_by_reason_and_exit_1(tmp_path: Path) -> None:
    products, purchases, out = tmp_path / "products.jsonl", tmp_path / "purchases.jsonl", tmp_path / "out"
    rows = [{"product_id": "good", "title": "Tripod"}, {"product_id": "long", "title": "x" * 3000}]
    products.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Bought together once: too little support for a co-buy, so nothing waits for the product that is refused.
    order = {"order_id": "o", "occurred_at": "2024-01-01T00:00:00Z", "items": ["good", "long"]}
    purchases.write_text(json.dumps(order))
    script = "from services.cli.main import main; main()"
    arguments = ["demo", "--products", products, "--purchases", purchases, "--out", out]
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "1 dead letters of products in extractor: invalid: " in done.stderr
    assert "mindstream dlq list" in done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert [(row["stage"], row["reason"], row["count"]) for row in summary["dead_letters"]] == [
        ("extractor", "invalid", 1)
    ]
    assert (
        summary["stages"]["extractor"] | {"in": 2, "out": 0, "parked": 0, "dead_letter": 1}
        == (summary["stages"]["extractor"])
    )
    assert summary["stages"]["cobuy"]["dead_letter"] == 0
    assert summary["stages"]["cobuy"]["in"] >= 1
    assert {"torch", "transformers", "kafka", "postgresql", "generator_prompt"} <= summary["versions"].keys()


def test_keep_names_the_explorer_at_the_end_and_ctrl_c_ends_all(tmp_path: Path) -> None:
    products, cobuys = tmp_path / "products.jsonl", tmp_path / "cobuys.jsonl"
    rows = [{"product_id": "a", "title": "Tripod"}, {"product_id": "b", "title": "Spotting Scope"}]
    products.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cobuys.write_text(json.dumps({"product_a": "a", "product_b": "b"}))
    script = "from services.cli.main import main; main()"
    arguments = ["demo", "--products", products, "--cobuys", cobuys, "--out", tmp_path / "out", "--keep"]
    with (tmp_path / "errors").open("w") as errors:
        demo = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert demo.stdout is not None
    try:
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "http://" in line:
                break
        named = re.search(r"http://127\.0\.0\.1:\d+", lines[-1])
        assert named, (tmp_path / "errors").read_text()
        with urllib.request.urlopen(f"{named[0]}/pair?a=a&b=b", timeout=30) as answer:
            page = answer.read().decode()
        assert "of 20 stay" in page
        demo.send_signal(signal.SIGINT)
        assert demo.stdout.read() == ""  # That line was the last.
        assert demo.wait(60) == 0, (tmp_path / "errors").read_text()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(named[0], timeout=5)
    finally:
        demo.kill()
        demo.wait()
