"""`mindstream dlq` on the real broker: looked at, mended, sent back once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mindstream.events.v1 import dead_letter_pb2 as reasons
from mindstream.events.v1.cobuy_pb2 import CoBuy
from typer.testing import CliRunner

from services.cli.main import app
from services.common import dead_letter_queue, kafka, topics
from services.common.dead_letter_queue import Queue, letters, purge, queues, replay
from services.common.dead_letters import dead_letter
from services.common.records import Record
from services.common.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def installation(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Three dead letters of `cobuys`: an unknown product, an undecodable value, a self-pair."""
    made = settings()
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", made.kafka_bootstrap_servers)
    monkeypatch.setenv("MINDSTREAM_TOPIC_PREFIX", made.topic_prefix)
    events = [
        (
            CoBuy(pair_id="a|b", product_a="a", product_b="b").SerializeToString(),
            reasons.DEAD_LETTER_REASON_UNKNOWN_PRODUCT,
        ),
        (b"\xff\xff", reasons.DEAD_LETTER_REASON_UNDECODABLE),
        (CoBuy(pair_id="c|c", product_a="c", product_b="c").SerializeToString(), reasons.DEAD_LETTER_REASON_INVALID),
    ]
    producer = kafka.plain_producer(made)
    for offset, (value, reason) in enumerate(events):
        record = Record(topics.COBUYS.name(made), 1, offset, b"k", value, [("traceparent", b"00-1")])
        out = dead_letter(record, "extractor", reason, "why", error_class="EventFault", attempts=1, room=1 << 20)
        producer.produce(out.topic, out.value, out.key, headers=out.headers)  # type: ignore[arg-type]
    assert producer.flush(30) == 0
    return made


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["dlq", *arguments])
    return done.exit_code, done.output


def sent_back(made: Settings) -> list[Record]:
    return list(kafka.read_all(made, topics.COBUYS.name(made)))


def test_list_counts_by_reason(installation: Settings) -> None:
    code, output = invoke("list", "--json")
    assert code == 0
    assert {row["reason"]: row["waiting"] for row in json.loads(output)} == {
        "unknown_product": 1,
        "undecodable": 1,
        "invalid": 1,
    }


def test_show_decodes_what_can_be_decoded(installation: Settings) -> None:
    code, output = invoke("show", "--topic", "cobuys", "--json")
    assert code == 0
    first, second, _ = json.loads(output)
    assert first["event"] == {"pair_id": "a|b", "product_a": "a", "product_b": "b"}
    assert first["origin"] == f"{topics.COBUYS.name(installation)}/1/0"
    assert second["event"] == "\\xff\\xff"


def test_replay_sends_each_letter_once_with_its_origin(installation: Settings) -> None:
    for expected in ("1 sent", "0 sent"):
        code, output = invoke("replay", "--reason", "unknown_product")
        assert (code, output.strip()) == (0, expected)
    (record,) = sent_back(installation)
    assert CoBuy.FromString(record.value).pair_id == "a|b"
    assert (record.source.partition, record.source.offset) == (1, 0)
    assert record.text_header("traceparent") == "00-1"
    queue = next(queue for queue in queues(installation) if queue.topic is topics.COBUYS)
    assert [letter.replayed for letter in letters(installation, queue)] == [True, False, False]


def test_an_edit_mends_the_event(installation: Settings, tmp_path: Path) -> None:
    script = tmp_path / "mend.py"
    script.write_text(
        "import json, sys\ne = json.load(sys.stdin)\ne.update(product_b='d', pair_id='c|d')\nprint(json.dumps(e))"
    )
    code, output = invoke("replay", "--reason", "invalid", "--edit", f"{sys.executable} {script}")
    assert (code, output.strip()) == (0, "1 sent")
    (record,) = sent_back(installation)
    assert CoBuy.FromString(record.value) == CoBuy(pair_id="c|d", product_a="c", product_b="d")


def test_a_cut_letter_says_so_and_is_sent_only_with_an_edit(installation: Settings, tmp_path: Path) -> None:
    record = Record(topics.COBUYS.name(installation), 0, 7, b"k", b"x" * 3000)
    reason = reasons.DEAD_LETTER_REASON_TOO_LARGE
    out = dead_letter(record, "extractor", reason, "why", error_class="EventFault", attempts=1, room=2000)
    kafka.send(kafka.plain_producer(installation), [out])
    code, output = invoke("show", "--reason", "too_large", "--json")
    assert (code, json.loads(output)[0]["cut_from_bytes"]) == (0, 3000)
    assert "3000 bytes; replay needs --edit" in invoke("show", "--reason", "too_large")[1]
    code, output = invoke("replay", "--topic", "cobuys")
    assert (code, len(output.strip().splitlines())) == (2, 1)
    assert "is cut" in output
    assert sent_back(installation) == []
    script = tmp_path / "mend.py"
    script.write_text('print(\'{"product_a": "a", "product_b": "b"}\')')
    code, output = invoke("replay", "--reason", "too_large", "--edit", f"{sys.executable} {script}")
    assert (code, output.strip()) == (0, "1 sent")


def test_an_event_that_json_cannot_say_is_shown_as_bytes(installation: Settings) -> None:
    event = CoBuy(product_a="a", product_b="b")
    event.first_seen.seconds = 10**15
    record = Record(topics.COBUYS.name(installation), 0, 8, b"k", event.SerializeToString())
    reason = reasons.DEAD_LETTER_REASON_INTERNAL
    out = dead_letter(record, "extractor", reason, "why", error_class="E", attempts=1, room=1 << 20)
    kafka.send(kafka.plain_producer(installation), [out])
    code, output = invoke("show", "--reason", "internal", "--json")
    assert code == 0
    assert json.loads(output)[0]["event"].startswith("\x12\x01a")
    assert invoke("replay", "--reason", "internal")[0] == 0


def test_what_an_event_says_cannot_command_the_terminal(installation: Settings) -> None:
    event = CoBuy(product_a="\x9b2J\u202e", product_b="\x1b]0;title\x07")
    record = Record(topics.COBUYS.name(installation), 0, 9, b"k", event.SerializeToString())
    reason = reasons.DEAD_LETTER_REASON_INTERNAL
    out = dead_letter(record, "extractor", reason, "why \x1b[2J", error_class="E", attempts=1, room=1 << 20)
    kafka.send(kafka.plain_producer(installation), [out])
    code, output = invoke("show", "--reason", "internal")
    assert (code, "why \\x1b[2J" in output) == (0, True)
    assert all(line.isprintable() for line in output.splitlines())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "say which"),
        (("--topic", "nonsense"), "no topic 'nonsense'"),
        (("--offset", "1"), "--offset needs --topic"),
        (("--reason", "unknown_produkt"), "no reason 'unknown_produkt': one of content_type, image,"),
        (("--reason", "invalid", "--edit", "false"), "failed on"),
        (("--reason", "invalid", "--edit", "echo nonsense"), "gave no cobuys event"),
        (("--reason", "invalid", "--edit", "no-such-command"), "no-such-command"),
    ],
)
def test_a_mistake_is_one_line_and_sends_nothing(installation: Settings, arguments: tuple[str, ...], line: str) -> None:
    code, output = invoke("replay", *arguments)
    assert code == 2
    assert line in output
    assert len(output.strip().splitlines()) == 1
    assert sent_back(installation) == []


def of_cobuys(made: Settings) -> Queue:
    return next(queue for queue in queues(made) if queue.topic is topics.COBUYS)


def set_aside(made: Settings, pairs: int) -> list[str]:
    """So many more letters of `cobuys`; their pair ids."""
    ids = [f"a|b{number:04d}" for number in range(pairs)]
    outputs = []
    for offset, pair_id in enumerate(ids, 100):
        value = CoBuy(pair_id=pair_id, product_a="a", product_b=pair_id[2:]).SerializeToString()
        record = Record(topics.COBUYS.name(made), 1, offset, pair_id.encode(), value)
        reason = reasons.DEAD_LETTER_REASON_MODEL_REFUSED
        outputs.append(dead_letter(record, "extractor", reason, "why", error_class="E", attempts=1, room=1 << 20))
    kafka.send(kafka.plain_producer(made), outputs)
    return ids


def started(*arguments: str) -> subprocess.Popen[str]:
    """The command as a process of its own, by this test's environment."""
    command = [sys.executable, "-c", "from services.cli.main import main; main()", "dlq", *arguments]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        threading.Event().wait(0.05)


def sent_pairs(made: Settings) -> list[str]:
    return sorted(CoBuy.FromString(record.value).pair_id for record in sent_back(made))


def test_a_replay_that_is_killed_and_repeated_sends_none_twice(installation: Settings) -> None:
    ids, kills = set_aside(installation, 800), 0
    for _ in range(2):
        before = len(sent_back(installation))
        process = started("replay", "--reason", "model_refused")
        wait_for(lambda: len(sent_back(installation)) > before or process.poll() is not None)  # noqa: B023
        process.kill()
        process.communicate()
        kills += process.returncode == -9
    assert kills == 2
    assert 0 < len(sent_back(installation)) < len(ids)
    assert invoke("replay", "--reason", "model_refused")[0] == 0
    assert sent_pairs(installation) == ids
    assert invoke("replay", "--reason", "model_refused")[1].strip() == "0 sent"


def test_two_replays_at_once_send_none_twice(installation: Settings) -> None:
    ids = set_aside(installation, 300)
    both = [started("replay", "--reason", "model_refused") for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    # One may have been fenced by the other, and says so in a line.
    assert {process.returncode for process in both} <= {0, 3}
    assert [len(output.splitlines()) for output in outputs] == [1, 1], outputs
    assert invoke("replay", "--reason", "model_refused")[0] == 0
    assert sent_pairs(installation) == ids


def test_what_another_replay_sent_meanwhile_is_left_out(installation: Settings) -> None:
    ids = set_aside(installation, 3)
    read = [one for one in letters(installation, of_cobuys(installation)) if one.reason == "model_refused"]
    assert [replay(installation, read) for _ in range(2)] == [3, 0]
    assert sent_pairs(installation) == ids


def test_what_is_purged_is_gone_and_its_space_is_freed(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter_queue, "_MARKED_AT_ONCE", 3)
    set_aside(installation, 3)
    queue = of_cobuys(installation)
    assert invoke("purge", "--reason", "undecodable", "--dry-run")[1].strip() == "1 would be purged"
    assert invoke("purge", "--reason", "undecodable")[1].strip() == "1 purged"
    left = list(letters(installation, queue))
    assert [letter.reason for letter in left] == ["unknown_product", "invalid", *["model_refused"] * 3]
    # A letter that waits before it keeps its bytes in the topic.
    assert b"\xff\xff" in [record.value for record in kafka.read_all(installation, queue.name)]
    assert invoke("replay", "--reason", "unknown_product")[0] == 0
    assert invoke("purge", "--topic", "cobuys", "--offset", "0", "--offset", "1")[1].strip() == "1 purged"
    first = next(kafka.read_all(installation, queue.name))
    assert first.text_header("mindstream-dlq-reason") == "invalid"
    assert purge(installation, left) == 4  # What was purged meanwhile counts once.
    assert list(letters(installation, queue)) == []
    assert invoke("list")[1].strip() == "no dead letters"
    assert invoke("replay", "--topic", "cobuys")[1].strip() == "0 sent"
    set_aside(installation, 1)
    assert [letter.reason for letter in letters(installation, queue)] == ["model_refused"]


def test_a_purge_says_of_what(installation: Settings) -> None:
    code, output = invoke("purge")
    assert (code, "say which" in output) == (2, True)
    assert len(list(letters(installation, of_cobuys(installation)))) == 3
