"""What every process does first, and how it ends where it cannot go on."""

from __future__ import annotations

import sys

from confluent_kafka import KafkaError, KafkaException

from services.common import logs, metrics, tracing
from services.common.dead_letters import service_version
from services.common.errors import WorldFault
from services.common.settings import Settings, SettingsError, load_settings

#: Exit codes: the input or a setting is wrong; something outside is away.
BAD_INPUT, AWAY = 2, 3
#: A path that somebody named is not what it should be; any other error of the system is the machine's.
_PATH_ERRORS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
#: What librdkafka says of an option or a password.
_OF_OPTIONS = (KafkaError._INVALID_ARG, KafkaError._AUTHENTICATION)


def configured() -> Settings:
    """Settings of the environment, with logging set up by them; one line and exit code 2 where one is wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    logs.configure(settings)
    return settings


def introduce(service: str, settings: Settings) -> None:
    """Say which service this process is, in its metrics and in its traces.

    Raises:
        SettingsError: it is to trace, and cannot.
    """
    metrics.BUILD.labels(service, service_version()).set(1)
    tracing.configure(settings, service)


def exit_code(who: str, error: Exception) -> int:
    """Say in one line what a person or the machine did wrong; the exit code.

    Raises:
        Exception: the error itself where it is neither: a bug, whose trace is wanted.
    """
    if isinstance(error, SettingsError):
        line, code = str(error), BAD_INPUT
    elif isinstance(error, WorldFault):
        line, code = str(error), AWAY
    elif isinstance(error, KafkaException):
        why = error.args[0]
        wrong = "MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS right"
        if "SSL" in why.str():
            wrong = "MINDSTREAM_LIBRDKAFKA_SSL_* right, and this host the one that the broker's certificate names"
        elif why.code() in _OF_OPTIONS:
            wrong = "MINDSTREAM_LIBRDKAFKA_* right"
        line = f"Kafka: {why.str()} (is {wrong}?)"
        code = BAD_INPUT if why.code() == KafkaError._INVALID_ARG else AWAY
    elif isinstance(error, OSError):
        line = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        code = BAD_INPUT if isinstance(error, _PATH_ERRORS) else AWAY
    else:
        raise error
    print(f"{who}: {line}", file=sys.stderr, flush=True)
    return code
