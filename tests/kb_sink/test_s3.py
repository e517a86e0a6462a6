"""Releases and pictures on a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from services.common import datasets
from services.common.errors import WorldFault
from services.common.media import MediaStore
from services.common.settings import Settings
from services.kb_sink.release import make_release
from tests.kb_sink.test_release import database, fill, new_database, shop

__all__ = ["database", "new_database"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a bucket that is new, and the environment that leads to it, as a deployment has it."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"mindstream-{uuid.uuid4().hex[:8]}"
    S3FileSystem.clear_instance_cache()  # fsspec keeps file systems, with the addresses they were made for
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.mark.integration
def test_a_release_on_s3_is_the_one_on_a_disk(bucket: str, database: str, tmp_path: Any) -> None:
    said = shop(8)
    fill(database, said[:-1])
    made = [
        make_release(Settings(postgres_dsn=database, datasets_url=url, release_keep=1))
        for url in (f"{bucket}/datasets", f"file://{tmp_path}/datasets")
    ]
    assert made[0] is not None
    assert made[1] is not None
    assert made[0].url == f"{bucket}/datasets/{made[0].release_id}"
    assert made[0].manifest == made[1].manifest
    assert datasets.verify(made[0].url) == []
    newest = datasets.latest(f"{bucket}/datasets")
    assert newest is not None
    assert newest["url"] == made[0].url

    victim = next(name for name in made[0].manifest["files"] if name.endswith(".jsonl"))
    files, root = datasets.open_store(made[0].url)
    files.pipe_file(f"{root}/{victim}", files.cat_file(f"{root}/{victim}")[:-2])
    assert datasets.verify(made[0].url) == [f"{victim} is not what the manifest says"]
    fill(database, said)
    newer = make_release(Settings(postgres_dsn=database, datasets_url=f"{bucket}/datasets", release_keep=1))
    assert newer is not None
    assert [one["release_id"] for one in datasets.releases(f"{bucket}/datasets")] == [newer.release_id]


@pytest.mark.integration
def test_a_delta_on_s3_has_its_base_there_and_keeps_it(bucket: str, database: str) -> None:
    said, settings = shop(10), Settings(postgres_dsn=database, datasets_url=f"{bucket}/datasets", release_keep=1)
    fill(database, said[:300])
    base = make_release(settings)
    assert base is not None
    fill(database, said)
    delta = make_release(settings, base.release_id)
    assert delta is not None
    assert {one["release_id"] for one in datasets.releases(settings.datasets_url)} == {
        base.release_id,
        delta.release_id,
    }
    assert datasets.verify(delta.url) == []
    files, root = datasets.open_store(base.url)
    files.rm(f"{root}/manifest.json")
    assert datasets.verify(delta.url) == [f"base {base.release_id} is missing"]


@pytest.mark.integration
def test_no_bucket_is_the_worlds_fault(bucket: str, database: str) -> None:
    fill(database, shop(9, pairs=2))
    with pytest.raises(WorldFault):
        make_release(Settings(postgres_dsn=database, datasets_url="s3://nobody-has-made-this/datasets"))


def test_pictures_are_kept_on_s3(bucket: str) -> None:
    store = MediaStore(f"{bucket}/media")
    digest = store.put(b"a picture's bytes")
    assert MediaStore(f"{bucket}/media").get(digest) == b"a picture's bytes"
