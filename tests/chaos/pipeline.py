"""The embedded platform under test: two workers of each stage, and every way to a server through a proxy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg

from deploy.local.platform import Platform, PlatformOptions
from deploy.local.process import Child
from models import untrained
from services.common.lag import lags
from services.common.settings import Settings
from tests.chaos import clock
from tests.chaos.proxy import Links

#: The workers of a stage, and who else is connected to what.
STAGES = ("extractor", "generator", "filter", "kb_sink")
WORKERS = tuple(name for stage in STAGES for name in (stage, f"{stage}-1"))
SERVICES = ("model", "cobuy", *WORKERS, "releases")
SERVERS = ("kafka", "postgres")
_WAYS = {
    "cobuy": ("kafka",),
    "extractor": ("kafka", "model", "postgres"),
    "generator": ("kafka", "model"),
    "filter": ("kafka", "model"),
    "kb_sink": ("kafka", "postgres"),
    "releases": ("kafka", "postgres"),
}
#: "process>server" of every way.
WAYS = tuple(f"{name}>{server}" for name in SERVICES for server in _WAYS.get(name.split("-")[0], ()))
#: Folders that are disks of their own, where root can have them: bytes.
DISKS = {"kafka": 400_000_000, "postgres": 700_000_000, "datasets": 60_000_000}
#: A model that answers a co-buy in a tenth of a second, and the waits of a machine that is watched.
_SETTINGS = {
    "MINDSTREAM_MODEL_DTYPE": "float32",
    "MINDSTREAM_MODEL_DEVICE": "cpu",
    "MINDSTREAM_MODEL_THREADS": "1",
    "MINDSTREAM_MAX_NEW_TOKENS": "4",
    "MINDSTREAM_FEATURES_MAX_NEW_TOKENS": "8",
    "MINDSTREAM_PARK_GRACE_SECONDS": "20",
    "MINDSTREAM_RELEASE_INTERVAL_SECONDS": "20",
}


_CLONE_NEWNS = 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


class Stuck(Exception):
    """Something that must happen did not, in the time it was given."""


class _Proxied(Platform):
    """The platform whose processes each have their own ways to the servers."""

    def __init__(self, options: PlatformOptions, links: Links, say: Callable[[str], None]) -> None:
        super().__init__(options, say)
        self._links = links

    def environment(self, name: str) -> dict[str, str]:
        env = dict(self.env)
        for server in self._links.of(name):
            port = self._links[name, server].port
            if server == "kafka":
                env["MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{port}"
            elif server == "postgres":
                env["MINDSTREAM_POSTGRES_DSN"] = _at_port(env["MINDSTREAM_POSTGRES_DSN"], port)
            else:
                env.update({f"MINDSTREAM_{job}_TARGET": f"127.0.0.1:{port}" for job in _JOBS})
        return env

    @property
    def children(self) -> dict[str, Child]:
        """All processes by name."""
        return self._children


_JOBS = ("EXTRACTOR", "GENERATOR", "FILTER")


def _at_port(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))


class Pipeline:
    """What faults and checks need of the platform. All calls from the main thread."""

    def __init__(self, folder: Path, say: Callable[[str], None], settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.say = say
        self.links = Links()
        #: The environment by which clocks can be made to jump; empty where they cannot.
        self.clocks = clock.build(folder)
        proxies = []
        for name, server in (way.split(">") for way in WAYS):
            link = self.links.add(name, server, self._target(name, server))
            if server == "kafka":
                proxies.append(link.port)
        checkpoint = folder.parent / untrained.NAME
        if not checkpoint.exists():
            untrained.make(checkpoint)
        options = PlatformOptions(
            folder,
            str(checkpoint),
            settings={**_SETTINGS, **self.clocks, **(settings or {})},
            workers=2,
            kafka_proxies=tuple(proxies),
        )
        self.platform = _Proxied(options, self.links, self._ended)
        self._connection: psycopg.Connection[Any] | None = None

    def _ended(self, line: str) -> None:
        if "ended, starts again" in line:
            self.say(f"  {line[:230]}")

    def _target(self, name: str, server: str) -> Callable[[], int]:
        def port() -> int:
            if server == "kafka":
                assert self.platform.kafka is not None
                return self.platform.kafka.behind[self.links[name, server].port]
            if server == "postgres":
                return int(urlsplit(self.platform.env["MINDSTREAM_POSTGRES_DSN"]).port or 0)
            return int(self.platform.env["MINDSTREAM_SERVER_BIND"].rpartition(":")[2])

        return port

    @property
    def settings(self) -> Settings:
        """Of the platform, by no proxy."""
        env = self.platform.env.items()
        names = {name.removeprefix("MINDSTREAM_").lower(): v for name, v in env if name.startswith("MINDSTREAM_")}
        return Settings(**names)  # type: ignore[arg-type]

    # -- processes -----------------------------------------------------------------------------------------------------

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process; to PostgreSQL's children too where it stops or goes on."""
        child = self.platform.children[name]
        if child.process is None or not child.running:
            return
        processes = [psutil.Process(child.process.pid)]
        if name == "postgres" and number in (signal.SIGSTOP, signal.SIGCONT):
            processes += processes[0].children(recursive=True)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stop_signal(self, name: str) -> int:
        """How a process is asked to end."""
        return self.platform.children[name].stop_signal

    def pid(self, name: str) -> int:
        """Process id of the newest start."""
        process = self.platform.children[name].process
        assert process is not None
        return process.pid

    def alive(self, name: str) -> bool:
        """Whether a process runs."""
        return self.platform.children[name].running

    def ready(self, name: str) -> bool:
        """Whether a service says that it is ready."""
        return self.platform.probe(name, "ready")

    def tick(self, seconds: float = 0.1) -> None:
        """Let time pass under supervision."""
        time.sleep(seconds)
        self.platform.tick()

    def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Let time pass until the condition holds.

        Raises:
            Stuck: it does not, for so long.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Stuck(f"{what} did not happen in {seconds:.0f} s")
            self.tick()

    # -- what came of it -----------------------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the KB; nothing where it is away."""
        try:
            if self._connection is None or self._connection.closed:
                dsn = self.platform.env["MINDSTREAM_POSTGRES_DSN"]
                options = "-c statement_timeout=5000"
                self._connection = psycopg.connect(dsn, connect_timeout=2, autocommit=True, options=options)
            return self._connection.execute(sql, values).fetchall()
        except psycopg.Error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return []

    def newest(self) -> float:
        """When the newest intention was written, seconds since the epoch; 0 before the first."""
        rows = self.query("SELECT coalesce(extract(epoch FROM max(written_at)), 0)::float8 FROM kb.intentions")
        return float(rows[0][0]) if rows else 0.0

    def drained(self) -> bool:
        """Whether nothing waits anywhere."""
        from confluent_kafka import KafkaException

        try:
            return not any(lag.records for lag in lags(self.settings))
        except KafkaException:
            return False

    def lag(self) -> str:
        """What waits where, for people."""
        from confluent_kafka import KafkaException

        try:
            waiting = [f"{lag.group} has {lag.records} of {lag.topic}" for lag in lags(self.settings) if lag.records]
        except KafkaException as error:
            return f"Kafka does not say: {error.args[0].str()}"
        return ", ".join(waiting) or "nothing"

    def close(self) -> None:
        """Stop everything."""
        if self._connection is not None:
            self._connection.close()
        self.links.heal()
        self.platform.stop()
        self.links.close()


@contextmanager
def running(folder: Path, say: Callable[[str], None], settings: dict[str, str] | None = None) -> Iterator[Pipeline]:
    """A pipeline in a new folder, its disks of their own where that can be had; all gone at the end."""
    folder.mkdir(mode=0o755)
    disks = _mount(folder)
    pipeline = Pipeline(folder, say, settings)
    try:
        pipeline.platform.start()
        yield pipeline
    finally:
        pipeline.close()
        for disk in disks:
            subprocess.run(["umount", "--lazy", disk], check=True)


def _mount(folder: Path) -> list[Path]:
    """Disks of their own in memory, where root can have them; nobody else sees them, and they end with this process."""
    disks = {folder / name: size for name, size in DISKS.items()}
    for disk in disks:
        disk.mkdir()
    if os.geteuid():
        return []
    if _libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace of our own")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for disk, size in disks.items():
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(disk)], check=True)
    return list(disks)
