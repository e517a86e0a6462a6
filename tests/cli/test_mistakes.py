"""What a person or the machine does wrong is one line and an exit code, never a trace; a bug keeps its trace."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.common import one_line_errors
from services.cli.main import app
from services.common.runtime.main import main
from services.common.settings import Settings


@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("POSTGRES_DSN", "mysql://x:secret@y/z", "neither a postgresql:// URL"),
        ("POSTGRES_DSN", "nonsense", "neither a postgresql:// URL"),
        ("POSTGRES_DSN", "postgresql://x:secret@[broken", "IPv6"),
        ("POSTGRES_DSN", "host=x password=a secret", "libpq cannot read it"),
        ("POSTGRES_DSN", 'host=x password=a" secret', "libpq cannot read it"),
        ("POSTGRES_DSN", "postgresql://x:secret%zz@y", "libpq cannot read it"),
        ("SECRETS_DIR", "/no/such/folder", "not point to a directory"),
        ("MEDIA_URL", "foo://bar", "no storage foo://"),
        ("DATASETS_URL", "foo://bar", "no storage foo://"),
        ("GRPC_TLS_CA", "/no/such/ca.pem", "not point to a file"),
        ("TOPIC_PARTITIONS", "abc", "integer"),
    ],
)
@pytest.mark.parametrize("command", ["kb stats", "up --data-dir"])
def test_a_wrong_setting_is_one_line(
    command: str, setting: str, value: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv(f"MINDSTREAM_{setting}", value)
    arguments = command.split()
    if arguments[0] == "up":
        arguments.append(str(tmp_path))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    said = [one for one in done.output.strip().splitlines() if one != "stopping"]
    assert len(said) == 1
    assert said[0].startswith(f"mindstream: MINDSTREAM_{setting}: ")
    assert line in said[0]
    assert "secret" not in said[0]


@pytest.mark.parametrize("dsn", ["postgresql://", "postgres://h/d", "host=h dbname=d", "", "postgresql:///d?host=/run"])
def test_whatever_libpq_takes_is_a_dsn(dsn: str) -> None:
    assert Settings(postgres_dsn=dsn).postgres_dsn.get_secret_value() == dsn


@pytest.mark.parametrize("url", ["s3://b/p", "file:///a", "/a/b", "memory://", "simplecache::s3://b"])
def test_whatever_fsspec_knows_is_a_storage(url: str) -> None:
    assert Settings(media_url=url, datasets_url=url).media_url == url


def test_a_folder_for_results_that_is_a_file_is_said_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = CliRunner().invoke(app, ["demo", "--out", str(file)])
    assert (done.exit_code, done.output) == (2, f"mindstream: {file}: File exists\n")


def test_a_release_on_an_unknown_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["datasets", "verify", "foo://bar"])
    assert (done.exit_code, done.output) == (2, "mindstream: foo://bar: Protocol not known: foo\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "missing/dir/x"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
    ],
)
def test_the_systems_errors_are_one_line_in_commands_and_workers(
    error: OSError, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object = None) -> None:
        raise error

    import typer

    with pytest.raises(typer.Exit) as ended:
        one_line_errors(fails)()
    assert ended.value.exit_code == code
    assert main(fails) == code  # type: ignore[arg-type]
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2
    assert all(str(error.strerror) in one for one in said)


def test_a_bug_keeps_its_trace() -> None:
    def bug(_: object = None) -> None:
        raise AssertionError

    for run in (one_line_errors(bug), lambda: main(bug)):  # type: ignore[arg-type]
        with pytest.raises(AssertionError):
            run()
