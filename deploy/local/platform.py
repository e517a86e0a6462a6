"""The whole installation on one machine: Kafka, PostgreSQL and every service, each a process, under one supervisor.

All state is in one data folder; starting again with the same folder goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy.local import growth
from deploy.local.errors import PlatformError
from deploy.local.growth import Say
from deploy.local.kafka import Kafka
from deploy.local.kept_key import kept_key
from deploy.local.ownership import own
from deploy.local.postgres import Postgres
from deploy.local.process import Child, free_port, listens
from deploy.local.prometheus import Prometheus
from deploy.local.services import MODEL, SERVICES, Service
from models.demo import CHECKPOINT, NOTICE
from services.common.settings import Settings, load_settings

STATE_FILE = "platform.json"
#: What the start needs, bytes: the sum of the processes with the small model, and room for Kafka's first segments.
_MEMORY, _DISK = 2_000_000_000, 1_000_000_000
_RESTART_SECONDS = (0.2, 10.0)
#: What ran so long started well: when it ends, the next start is soon again.
_WELL_SECONDS = 30.0
#: The model has no such limit: downloading it takes as long as it takes, and its process ends where it cannot go on.
_START_SECONDS = 180.0


@dataclass(frozen=True)
class PlatformOptions:
    """What a person may choose; ports of 0 are free ones."""

    data_dir: Path
    model: str = ""
    kafka_port: int = 0
    postgres_port: int = 0
    model_port: int = 0
    explorer_port: int = 0
    #: More `MINDSTREAM_*` settings for every service.
    settings: dict[str, str] = field(default_factory=dict)
    #: Workers of each stage that scales.
    workers: int = 1
    #: Whether a Prometheus runs beside it, which must be installed, and its port.
    prometheus: bool = False
    prometheus_port: int = 0
    #: Ports of proxies before Kafka (see there).
    kafka_proxies: tuple[int, ...] = ()


class Platform:
    """Start, watch, stop. All calls from the main thread, whose end is the children's end."""

    def __init__(self, options: PlatformOptions, say: Say = lambda line: None) -> None:
        self._options = options
        self._say = say
        self._folder = options.data_dir.absolute()
        self._children: dict[str, Child] = {}
        self._ports: dict[str, int] = {}
        self._restart_at: dict[str, float] = {}
        #: Ends of a process, one soon after the other.
        self._ends: dict[str, int] = {}
        #: Names of processes that are not started again for now.
        self.held: set[str] = set()
        self._lock: IO[str] | None = None
        self.env: dict[str, str] = {}
        self._customer_key = self._feedback_key = ""
        self._reader_dsn = ""
        self.kafka: Kafka | None = None
        self.prometheus: Prometheus | None = None

    def start(self) -> None:
        """Start everything and wait until all is ready.

        Raises:
            PlatformError: what is in the way, in one line.
            SettingsError: a setting of the environment is wrong.
        """
        given = load_settings()
        self._lock = own(self._folder)
        self._customer_key = given.customer_key.get_secret_value() or kept_key(self._folder, "customer")
        self._feedback_key = given.explorer_feedback_key.get_secret_value() or kept_key(self._folder, "feedback")
        _check_room(self._folder)
        if self._options.prometheus:
            # Its targets are known when all have their ports, and whether it is there at all, now.
            self.prometheus = Prometheus(
                self._folder / "prometheus", self._log("prometheus"), self._ports, self._options.prometheus_port
            )
        model = self._options.model or str(CHECKPOINT)
        if not self._options.model:
            self._say(NOTICE)
        self._say("Kafka: preparing")
        kafka = Kafka(
            self._folder / "kafka",
            self._log("kafka"),
            self._options.kafka_port,
            say=self._say,
            proxies=self._options.kafka_proxies,
        )
        self.kafka = kafka
        postgres = Postgres(self._folder / "postgres", self._log("postgres"), self._options.postgres_port)
        self._children.update(kafka=kafka.child, postgres=postgres.child)
        model_port = free_port(self._options.model_port)
        explorer_port = free_port(self._options.explorer_port)
        self.env = {
            "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "MINDSTREAM_MEDIA_URL": f"file://{self._folder}/media",
            "MINDSTREAM_DATASETS_URL": f"file://{self._folder}/datasets",
            "MINDSTREAM_STATE_DIR": str(self._folder / "state"),
            "MINDSTREAM_MODEL": model,
            "MINDSTREAM_SERVER_BIND": f"127.0.0.1:{model_port}",
            **{f"MINDSTREAM_{job}_TARGET": f"127.0.0.1:{model_port}" for job in ("EXTRACTOR", "GENERATOR", "FILTER")},
            "MINDSTREAM_HTTP_HOST": "127.0.0.1",
            # For whoever is on this machine.
            "MINDSTREAM_EXPLORER_HOST": "127.0.0.1",
            "MINDSTREAM_EXPLORER_PORT": str(explorer_port),
            "MINDSTREAM_EXPLORER_AUTH": "off",
            # One machine, one person watching: look again soon, give up after minutes.
            "MINDSTREAM_PARK_SECONDS": "2",
            "MINDSTREAM_PARK_GRACE_SECONDS": "120",
            "MINDSTREAM_RELEASE_INTERVAL_SECONDS": "60",
            **self._options.settings,
        }
        # The model takes longest to load, so it begins first; what nobody waits for begins last.
        self._start_services([s for s in SERVICES if not s.after_topics])
        kafka.start()
        postgres.start()
        self.env["MINDSTREAM_POSTGRES_DSN"] = postgres.dsn()
        self._await("Kafka", kafka.child, kafka.ready)
        self._await("PostgreSQL", postgres.child, postgres.ready)
        postgres.create_database()
        self._reader_dsn = postgres.create_reader("kb")
        self._create_topics()
        self._start_services([s for s in SERVICES if s.after_topics and s.probed])
        for service in SERVICES:
            if service is MODEL:
                with growth.told(service.name, _hub_folder(model), self._say):
                    self._await_service(service.name, None)
            elif service.probed:
                for name in self._names(service):
                    self._await_service(name)
        self._start_services([s for s in SERVICES if not s.probed])
        self._start_prometheus()
        self._write_state("ready")
        self._say(f"explorer: {explorer_address(self.env)}")
        self._say("ready")

    def probe(self, name: str, kind: str) -> bool:
        """Whether a service's health endpoint says yes."""
        if name not in self._ports or not listens(self._ports[name]):
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[name]}/health/{kind}", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def tick(self) -> None:
        """Start again what has ended; call it about twice a second."""
        now = time.monotonic()
        for name, child in self._children.items():
            if child.running:
                continue
            if name in self.held:
                continue
            if name not in self._restart_at:
                well = now - child.started_at >= _WELL_SECONDS
                ends = self._ends[name] = 1 if well else self._ends.get(name, 0) + 1
                delay = min(_RESTART_SECONDS[1], _RESTART_SECONDS[0] * 2 ** min(ends - 1, 10))
                self._restart_at[name] = now + delay
                self._say(f"{name} ended, starts again in {delay:.1f} s: {child.last_line()[:200]}")
            elif now >= self._restart_at[name]:
                del self._restart_at[name]
                child.start()
                self._write_state("ready")

    def stop(self) -> None:
        """Stop the services, then PostgreSQL and Kafka; give the folder back."""
        names = [name for name in self._children if name not in ("kafka", "postgres")]
        for group, seconds in ((names, 30.0), (["postgres", "kafka"], 30.0)):
            for name in group:
                if name in self._children:
                    self._children[name].ask_to_stop()
            for name in group:
                if name in self._children:
                    self._children[name].wait_stopped(seconds)
        if self._lock is not None:  # Else the folder is another supervisor's.
            (self._folder / STATE_FILE).unlink(missing_ok=True)
            self._lock.close()

    def _create_topics(self) -> None:
        from services.common import kafka, topics

        settings = Settings(kafka_bootstrap_servers=self.env["MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS"])
        kafka.create_topics(settings, topics.specs(settings))

    def environment(self, name: str) -> dict[str, str]:
        """What the settings of the process `name` are, but for its slot and its port."""
        return self.env

    def _names(self, service: Service) -> list[str]:
        """Names of a service's processes, in the order of their slots."""
        more = range(1, self._options.workers if service.scales else 1)
        return [service.name, *(f"{service.name}-{slot}" for slot in more)]

    def _start_services(self, services: list[Service]) -> None:
        for service in services:
            for slot, name in enumerate(self._names(service)):
                port = self._ports[name] = free_port()
                own = {"MINDSTREAM_HTTP_PORT": str(port), "MINDSTREAM_SLOT": str(slot)}
                if service.customers:
                    own["MINDSTREAM_CUSTOMER_KEY"] = self._customer_key
                if service.reads_only:
                    own["MINDSTREAM_EXPLORER_DSN"] = self._reader_dsn
                    own["MINDSTREAM_EXPLORER_FEEDBACK_KEY"] = self._feedback_key
                command = [sys.executable, "-m", service.module]
                child = Child(name, command, {**self.environment(name), **own}, self._log(name))
                self._children[name] = child
                child.start()
        self._write_state("starting")

    def _start_prometheus(self) -> None:
        if self.prometheus is None:
            return
        self._children["prometheus"] = self.prometheus.child
        self.prometheus.start()
        self._await("Prometheus", self.prometheus.child, self.prometheus.ready)
        self._ports["prometheus"] = self.prometheus.port
        self._say(f"Prometheus: {self.prometheus.url}")

    def _await_service(self, name: str, seconds: float | None = _START_SECONDS) -> None:
        self._await(name, self._children[name], lambda: self.probe(name, "ready"), seconds)

    def _await(
        self, name: str, child: Child, ready: Callable[[], bool], seconds: float | None = _START_SECONDS
    ) -> None:
        self._say(f"{name}: starting")
        began = time.monotonic()
        while not ready():
            if not child.running:
                raise PlatformError(f"{name} ended at its start: {child.last_line()[:300]} (log: {child.log})")
            if seconds is not None and time.monotonic() - began > seconds:
                raise PlatformError(f"{name} is not ready after {seconds:.0f} s (log: {child.log})")
            time.sleep(0.1)

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _write_state(self, state: str) -> None:
        """What `mindstream status` and other commands of this folder read; it holds the database's password."""
        processes = {
            name: {
                "pid": child.process.pid if child.process else 0,
                "http_port": self._ports.get(name, 0),
                "log": str(child.log),
            }
            for name, child in self._children.items()
        }
        text = json.dumps(
            {"state": state, "supervisor": os.getpid(), "env": self.env, "processes": processes}, indent=1
        )
        partial = self._folder / (STATE_FILE + ".new")
        partial.touch(mode=0o600)
        partial.write_text(text)
        partial.replace(self._folder / STATE_FILE)


def explorer_address(env: Mapping[str, str]) -> str:
    """Where the explorer of a platform is, by what its services are told."""
    return f"http://{env['MINDSTREAM_EXPLORER_HOST']}:{env['MINDSTREAM_EXPLORER_PORT']}"


def _check_room(folder: Path) -> None:
    import psutil

    free, available = shutil.disk_usage(folder).free, psutil.virtual_memory().available
    if free < _DISK:
        raise PlatformError(f"{folder} has {free / 1e9:.1f} GB free; {_DISK / 1e9:.0f} GB are needed")
    if available < _MEMORY:
        raise PlatformError(f"{available / 1e9:.1f} GB of memory are available; {_MEMORY / 1e9:.0f} GB are needed")


def _hub_folder(model: str) -> Path | None:
    """Where a model of the Hub is downloaded to; None for a folder of this machine."""
    if Path(model).exists():
        return None
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
