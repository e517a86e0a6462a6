"""A stage's worker as a process: signals, health endpoints, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from confluent_kafka import KafkaException

from services.common import health, kafka, tracing
from services.common.process import BAD_INPUT, configured, exit_code, introduce
from services.common.runtime.routes import topics_needed
from services.common.runtime.stage import Committer, Stage
from services.common.runtime.worker import Worker
from services.common.settings import Settings, SettingsError

_log = logging.getLogger(__name__)


def main(stage: Callable[[Settings], Stage], committer: Callable[[Settings], Committer] | None = None) -> int:
    """Run a stage by the environment's settings; the exit code."""
    settings = configured()
    try:
        made, commits = stage(settings), committer(settings) if committer else None
    except Exception as error:
        return exit_code("cannot start", error)
    return run(made, settings, commits)


def run(stage: Stage, settings: Settings, committer: Committer | None = None) -> int:
    """Run a stage's worker in this process until SIGTERM or SIGINT; the exit code."""
    try:
        introduce(stage.name, settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    worker = Worker(stage, settings, committer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    try:
        port = health.serve(settings, worker.health)
    except OSError as error:
        print(f"{stage.name}: cannot serve health on port {settings.http_port}: {error.strerror}", file=sys.stderr)
        return 2
    _log.info("%s worker, slot %s, pid %d, health on port %d", stage.name, settings.worker_slot, os.getpid(), port)
    try:
        trouble = kafka.topics_trouble(settings, topics_needed(stage, settings))
    except KafkaException as error:
        return exit_code(stage.name, error)
    if trouble:
        print(f"{stage.name}: {trouble}", file=sys.stderr)
        return 2
    try:
        return worker.run()
    except Exception as error:
        if worker.health.started:
            raise
        return exit_code(stage.name, error)
    finally:
        tracing.close()
