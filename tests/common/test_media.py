"""The media store: what was put is there, whole, or it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3fs import S3FileSystem

from services.common.errors import WorldFault
from services.common.media import MediaStore, digest_of


def test_what_was_put_is_got_and_putting_twice_is_once(tmp_path: Path) -> None:
    store = MediaStore(f"file://{tmp_path}")
    digest = store.put(b"picture")
    assert store.put(b"picture") == digest == digest_of(b"picture")
    assert store.get(digest) == b"picture"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "0" * 64, "sha256:../../etc/passwd", "md5:0"])
def test_what_is_not_there_is_a_key_error(tmp_path: Path, digest: str) -> None:
    store = MediaStore(f"file://{tmp_path}")
    assert not store.has(digest)
    with pytest.raises(KeyError):
        store.get(digest)


def test_a_damaged_file_is_not_given(tmp_path: Path) -> None:
    store = MediaStore(f"file://{tmp_path}")
    digest = store.put(b"picture")
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(b"pictura")
    with pytest.raises(KeyError):
        store.get(digest)


def test_object_storage_that_is_away_is_the_worlds_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its client raises errors of its own, which are no OSError.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    S3FileSystem.clear_instance_cache()  # fsspec keeps file systems, with the addresses they were made for
    store = MediaStore("s3://shop/media")
    for ask in (lambda: store.put(b"picture"), lambda: store.get(digest_of(b"")), lambda: store.has(digest_of(b""))):
        with pytest.raises(WorldFault, match="Could not connect"):
            ask()


def test_storage_that_takes_nothing_is_the_worlds_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorldFault):
        MediaStore(f"file://{tmp_path}/file").put(b"picture")
