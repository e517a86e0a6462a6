"""Every setting of every process, defined once.

A setting is read from the environment variable `MINDSTREAM_<NAME>` in capitals; `mindstream settings` prints the
table that docs/settings.md holds. Options of librdkafka pass through as `MINDSTREAM_LIBRDKAFKA_<OPTION>`, dots
written as underscores (`MINDSTREAM_LIBRDKAFKA_SASL_PASSWORD` is `sasl.password`).

Either may stand in a file instead, named like its variable, in the folder that `MINDSTREAM_SECRETS_DIR` names: as
Kubernetes mounts a Secret. The environment goes before a file. A name that is none of them is an error: it is a setting
that somebody believes in.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import DirectoryPath, Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LIBRDKAFKA_PREFIX = "MINDSTREAM_LIBRDKAFKA_"
_PREFIX = "MINDSTREAM_"
_SECRETS_DIR = "MINDSTREAM_SECRETS_DIR"
#: Names that begin like settings, and are the installers' (deploy/local/cache.py).
_OF_OTHERS = frozenset({"MINDSTREAM_CACHE_DIR"})
#: Options of librdkafka that have an underscore themselves; its callbacks, which no environment can set, aside.
_UNDERSCORED = {"log_level": "log_level"}

#: Fewer could be guessed, and customers' ids with them.
_KEY_CHARACTERS = 32
#: A list written with commas in the environment.
CommaList = Annotated[str, NoDecode]


class SettingsError(Exception):
    """A setting is wrong; the message is one line that names it."""


class Settings(BaseSettings):
    """All settings; each process reads those it needs."""

    model_config = SettingsConfigDict(env_prefix="MINDSTREAM_", extra="ignore", frozen=True, allow_inf_nan=False)

    # -- Secrets -------------------------------------------------------------------------------------------------
    secrets_dir: DirectoryPath | None = Field(
        None, description="Folder of files, each named like a variable and holding its value (a mounted Secret)."
    )

    # -- Kafka ---------------------------------------------------------------------------------------------------
    kafka_bootstrap_servers: str = Field("localhost:9092", description="Kafka brokers, host:port, comma-separated.")
    topic_prefix: str = Field("", description="Put before every topic, group and transactional id.")
    topic_partitions: int = Field(4, ge=1, description="Partitions of topics that `mindstream topics` creates.")
    topic_replication: int = Field(1, ge=1, description="Replication factor of topics that are created.")
    event_max_bytes: int = Field(1_048_576, ge=1024, description="Largest record value taken, bytes.")

    # -- The stage runtime ---------------------------------------------------------------------------------------
    slot: str = Field(
        "",
        description="Worker slot, stable across restarts; part of the transactional id. Default: the host name "
        "(a StatefulSet's ordinal name).",
    )
    window_records: int = Field(1000, ge=1, description="Records a worker holds at once; bounds memory.")
    window_bytes: int = Field(67_108_864, ge=1024, description="Bytes of records a worker holds at once.")
    concurrency: int = Field(16, ge=1, description="Model calls a worker has in flight at once.")
    commit_interval_seconds: float = Field(0.1, gt=0, description="Longest wait of a finished record for its commit.")
    session_timeout_seconds: float = Field(
        8.0,
        gt=0,
        description="Silence after which Kafka gives a worker's partitions away: so long they stand still when it is "
        "killed, started again or not. Brokers take no less than 6 by their own default.",
    )
    transaction_timeout_seconds: float = Field(30.0, gt=0, description="Longest a Kafka transaction may stay open.")
    drain_seconds: float = Field(20.0, ge=0, description="On SIGTERM: time to finish what is in flight.")
    backoff_min_seconds: float = Field(
        0.2, gt=0, description="First wait after the world's fault (model server away, …)."
    )
    backoff_max_seconds: float = Field(5.0, gt=0, description="Longest such wait.")
    crash_attempts: int = Field(
        3, ge=1, description="Times an event may kill the model server alone before it is a dead letter."
    )
    park_seconds: float = Field(
        5.0, gt=0, description="Wait before a parked record (unknown product, image not answering) is tried again."
    )
    park_grace_seconds: float = Field(900.0, ge=0, description="Time after which a parked record is a dead letter.")
    liveness_seconds: float = Field(
        120.0, gt=0, description="Age of the last Kafka poll from which the process counts as dead."
    )
    http_host: str = Field("0.0.0.0", description="Address of /metrics and /health/*.")
    http_port: int = Field(
        9100, ge=0, description="Port of /metrics and /health/{startup,ready,live}; 0 takes a free one."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR."
    )
    log_format: Literal["text", "json"] = Field("text", description="text, or json: one object a line.")
    otlp_endpoint: str = Field(
        "",
        description="OpenTelemetry collector for spans (OTLP over gRPC), such as http://collector:4317; empty: no "
        "tracing. Needs the extra `tracing`.",
    )
    trace_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces that begin here that is recorded; others come with a decision.",
    )

    # -- Co-buys -------------------------------------------------------------------------------------------------
    customer_key: SecretStr = Field(
        SecretStr(""),
        description="Key of at least 32 characters that customers' ids are hashed with (HMAC-SHA256) as they leave "
        "`purchases`; the cobuy service does not start without. The embedded platform makes one of its own.",
    )
    cobuy_min_support: int = Field(2, ge=1, description="Orders that must complete a pair before it is a co-buy.")
    cobuy_window_seconds: float = Field(
        86_400.0,
        ge=0,
        description="A customer's purchases pair up across orders within this time; 0: within one order only.",
    )
    cobuy_max_basket: int = Field(
        50,
        ge=2,
        description="Distinct products of one basket that are paired (pairs grow with the square).",
    )
    cobuy_max_window: int = Field(
        200,
        ge=1,
        description="Products of a customer's nearest earlier orders that an order is paired with, whole orders.",
    )
    cobuy_recent_orders: int = Field(
        64, ge=1, description="Orders remembered per pair, so that one sent again counts once."
    )
    cobuy_store: str = Field("memory://", description="Faust table store: memory:// or rocksdb://.")
    state_dir: Path = Field(Path("state"), description="Folder for Faust's local state.")

    # -- Products and pictures -----------------------------------------------------------------------------------
    pipeline_version: str = Field(
        "1", description="Raise it to have every pair judged anew; a pair is admitted once per version."
    )
    title_max_chars: int = Field(2000, ge=1, description="Longest product title taken, characters.")
    media_url: str = Field(
        "file:///var/lib/mindstream/media", description="Media store: an fsspec URL for normalised pictures by digest."
    )
    image_allowed_hosts: CommaList = Field(
        "",
        description="Hosts that picture URLs may name, comma-separated (`*.example.com`). Empty: none is fetched.",
    )
    image_allow_private: bool = Field(
        False, description="Allow picture URLs on private and loopback addresses (tests, shops inside the cluster)."
    )
    image_max_bytes: int = Field(10_485_760, ge=1, description="Largest picture file, bytes.")
    image_max_pixels: int = Field(50_000_000, ge=1, description="Largest picture, pixels.")
    image_side: int = Field(672, ge=16, description="Normalised pictures fit in a square of this side, pixels.")
    image_timeout_seconds: float = Field(10.0, gt=0, description="Longest fetch of one picture, redirects included.")
    image_decode_seconds: int = Field(
        30, ge=1, description="CPU time that decoding one picture may take; one that needs more is refused."
    )

    # -- Model calls ---------------------------------------------------------------------------------------------
    extractor_target: str = Field("localhost:50051", description="gRPC address of the FeatureExtractor server.")
    generator_target: str = Field("localhost:50051", description="gRPC address of the IntentionGenerator server.")
    filter_target: str = Field("localhost:50051", description="gRPC address of the IntentionFilter server.")
    call_timeout_seconds: float = Field(300.0, gt=0, description="Deadline of one model call.")
    send_image_bytes: bool = Field(
        False, description="Send pictures in the call, for model servers that do not reach the media store."
    )
    grpc_max_message_bytes: int = Field(33_554_432, ge=1024, description="Largest gRPC message, bytes.")
    grpc_tls_ca: FilePath | None = Field(None, description="CA file; set: model calls use TLS.")
    grpc_tls_cert: FilePath | None = Field(
        None, description="Certificate of this side (the server's, or the client's for mTLS)."
    )
    grpc_tls_key: FilePath | None = Field(None, description="Its key.")
    filter_threshold: float = Field(0.5, ge=0, le=1, description="Score from which an intention is accepted.")
    shadow_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Above 0, a filter with this setting is a shadow: it judges that share of the co-buys, for "
        "comparison only, into `intentions.judged.shadow` (docs/rollout.md).",
    )

    # -- Model servers -------------------------------------------------------------------------------------------
    server_jobs: CommaList = Field(
        "extractor,generator,filter", description="Jobs this server process serves on one loaded model."
    )
    server_bind: str = Field("0.0.0.0:50051", description="Address to serve gRPC on.")
    server_queue: int = Field(
        64, ge=1, description="Calls of a job waiting or running before RESOURCE_EXHAUSTED pushes back."
    )
    server_answers: int = Field(1024, ge=0, description="Answers kept to give again for a repeated idempotency key.")
    server_grace_seconds: float = Field(30.0, ge=0, description="On SIGTERM: time for calls in flight.")
    model: str = Field(
        "llava-hf/llava-1.5-13b-hf",
        description="Checkpoint: a Hub id or a folder, anything AutoModelForImageTextToText loads.",
    )
    model_revision: str = Field("main", description="Hub revision of the checkpoint; pin a commit in production.")
    adapter: str = Field(
        "",
        description="Folder of a LoRA adapter (`mindstream finetune` makes one), added to the checkpoint's weights at "
        "load and named in the model version; empty: none.",
    )
    model_dtype: str = Field(
        "auto", description="auto, float32, bfloat16 or float16; auto: bfloat16 on a GPU, float32 on CPU."
    )
    model_device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    model_threads: int = Field(0, ge=0, description="CPU threads of the model; 0 leaves torch's default.")
    engine: Literal["auto", "tree", "plain", "openai"] = Field(
        "auto",
        description="tree decodes all branches of a co-buy over one prefix; plain is transformers' generate(); auto "
        "takes the tree where the checkpoint's attention allows; openai asks an endpoint.",
    )
    openai_base_url: str = Field(
        "http://localhost:8000/v1", description="OpenAI-compatible endpoint (vLLM, SGLang), for the engine openai."
    )
    openai_api_key: SecretStr = Field(SecretStr(""), description="Its key, where it asks for one.")
    openai_model: str = Field("", description="Its name of the model; empty: the first that it lists.")
    openai_requests: int = Field(64, ge=1, description="Requests to it at once: one a branch.")
    openai_timeout_seconds: float = Field(120.0, gt=0, description="Deadline of one request to it; tried three times.")
    server_together: int = Field(
        16, ge=1, description="Calls computed together in one process (not by the plain engine); the jobs share them."
    )
    server_orphan_seconds: float = Field(
        10.0, ge=0, description="Time that a call is computed on after its caller is gone, should it ask again."
    )
    kv_tokens: int = Field(
        32_768,
        ge=1,
        description="Tokens whose keys and values calls in progress hold together (LLaVA-1.5-13b in bfloat16: 0.8 MB "
        "each). A call takes its prefix once, and each branch; one that is larger is refused.",
    )
    prefix_cache_tokens: int = Field(
        8192,
        ge=0,
        description="Tokens of prompts' beginnings whose keys and values are kept for later prompts; 0: none.",
    )
    filter_prompt: str = Field(
        "v1",
        description="Prompt of the filter's server: a version that comes with it, or a file `<version>.toml`, which "
        "needs a new name whenever it changes (docs/rollout.md).",
    )
    samples: int = Field(
        1, ge=1, le=16, description="Intentions under each relation: the first greedy, the others sampled, a seed each."
    )
    sample_temperature: float = Field(0.8, gt=0, description="Temperature of sampled intentions (samples above one).")
    sample_top_p: float = Field(0.95, gt=0, le=1, description="Share of the likeliest tokens that samples come from.")
    max_new_tokens: int = Field(64, ge=1, description="Longest intention, tokens.")
    features_max_new_tokens: int = Field(192, ge=1, description="Longest feature answer, tokens.")

    # -- The KB and the datasets ---------------------------------------------------------------------------------
    postgres_dsn: SecretStr = Field(
        SecretStr("postgresql://localhost/mindstream"),
        description="PostgreSQL DSN (libpq URL); passwords may come from PGPASSWORD or PGPASSFILE, TLS from its "
        "`sslmode=verify-full` and `sslrootcert`.",
    )
    datasets_url: str = Field(
        "file:///var/lib/mindstream/datasets", description="Where dataset releases go: file:// or s3:// (fsspec)."
    )
    release_interval_seconds: float = Field(
        900.0, gt=0, description="Time between dataset releases, when there is something new."
    )
    release_min_new: int = Field(1, ge=1, description="New or rejudged intentions before a release is made.")
    release_keep: int = Field(10, ge=1, description="Releases kept.")
    release_split: Literal["product", "pair"] = Field(
        "product",
        description="What is whole in one split: a `product` with all its pairs and texts (pairs of products in two "
        "splits are left out), or a `pair` (nothing is left out; products and texts may be in two splits).",
    )
    release_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="P(yes) from which a release takes an intention as accepted; unset: as it was judged.",
    )
    release_balance: float = Field(
        0.0, ge=0, description="A release has a relation at most so many times as often as the median one; 0: no bound."
    )
    release_near: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Likeness (Jaccard, of groups of four bytes) from which two reasons of one relation, split and "
        "verdict are one in a release: the best scored stays; 0.8 is usual, 0: all stay.",
    )
    release_deltas: int = Field(
        0, ge=0, description="Deltas after a full release, each with what the one before has not; 0: all are full."
    )
    release_verify_seconds: float = Field(
        3600.0, gt=0, description="Time between two comparisons of the newest release with its manifest."
    )

    # -- The explorer --------------------------------------------------------------------------------------------
    explorer_host: str = Field("127.0.0.1", description="Address of the explorer's pages and REST API.")
    explorer_port: int = Field(8080, ge=0, description="Their port; 0 takes a free one.")
    explorer_grpc_bind: str = Field(
        "", description="Address to serve gRPC `KnowledgeBase` on, such as 0.0.0.0:50052; empty: none."
    )
    explorer_dsn: SecretStr = Field(
        SecretStr(""),
        description="DSN of a role that only reads the KB (docs/security.md); empty: MINDSTREAM_POSTGRES_DSN.",
    )
    explorer_auth: Literal["token", "proxy", "off"] = Field(
        "token",
        description="Who may read: whoever has MINDSTREAM_EXPLORER_TOKEN, or whom a proxy before it lets through, or "
        "(off) everybody, which is taken on loopback only.",
    )
    explorer_token: SecretStr = Field(
        SecretStr(""), description="The bearer token, at least 32 characters (openssl rand -hex 32)."
    )
    explorer_feedback_key: SecretStr = Field(
        SecretStr(""),
        description="Key of at least 32 characters that names of people who judge intentions are hashed with "
        "(HMAC-SHA256). Set: the explorer takes thumbs up and down (docs/explorer.md); empty: it takes none.",
    )
    explorer_user_header: str = Field(
        "",
        description="Header in which the proxy says who comes, such as X-Forwarded-User; thumbs behind a proxy need "
        "it.",
    )
    explorer_trusted_proxies: CommaList = Field(
        "",
        description="Addresses or networks of proxies before it, comma-separated, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; without them all who come by a proxy are one client.",
    )
    explorer_rate: float = Field(
        50.0, ge=0, description="Requests a second that one client's address may make, twice as many at once; 0: any."
    )
    explorer_statement_seconds: float = Field(5.0, gt=0, description="Longest that one of its statements may run.")
    explorer_streams: int = Field(100, ge=1, description="Live pages that are followed at once.")

    @field_validator("postgres_dsn", "explorer_dsn")
    @classmethod
    def _libpq(cls, value: SecretStr) -> SecretStr:
        dsn = value.get_secret_value()
        scheme, url, _ = dsn.partition("://")
        if scheme not in ("postgresql", "postgres") if url else dsn and "=" not in dsn:
            raise ValueError("neither a postgresql:// URL nor libpq's key=value words")
        if find_spec("psycopg"):  # Processes without a database are without it.
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict

            try:
                conninfo_to_dict(dsn)
            except ProgrammingError as error:
                # What libpq quotes may be the password: only what separates is repeated.
                line = re.sub(r'("[]=:/]"|[^"]+)|".*', lambda found: found[1] or "…", " ".join(str(error).split()))
                raise ValueError(f"libpq cannot read it: {line}") from None
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _of_a_collector(cls, value: str) -> str:
        scheme, rest, address = value.partition("://")
        if value and not (scheme in ("http", "https") and rest and address.strip("/")):
            raise ValueError("not http://host:port or https://host:port")
        return value

    @field_validator("customer_key", "explorer_token", "explorer_feedback_key")
    @classmethod
    def _not_to_be_guessed(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < _KEY_CHARACTERS:
            raise ValueError(f"shorter than {_KEY_CHARACTERS} characters (make one: openssl rand -hex 32)")
        return value

    @field_validator("explorer_trusted_proxies")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for one in filter(None, map(str.strip, value.split(","))):
            ip_network(one)  # Its error names what is wrong.
        return value

    @field_validator("media_url", "datasets_url")
    @classmethod
    def _known_to_fsspec(cls, value: str) -> str:
        scheme, url, _ = value.partition("://")
        if url and find_spec("fsspec"):  # Processes without files are without it.
            from fsspec import available_protocols

            if scheme.rsplit("::")[-1] not in available_protocols():
                raise ValueError(f"fsspec knows no storage {scheme}://")
        return value

    @model_validator(mode="after")
    def _key_with_certificate(self) -> Self:
        if (self.grpc_tls_cert is None) != (self.grpc_tls_key is None):
            # One without the other would mean plain text where someone asked for TLS.
            raise ValueError("MINDSTREAM_GRPC_TLS_CERT and MINDSTREAM_GRPC_TLS_KEY are set together or not at all")
        return self

    @model_validator(mode="after")
    def _waits_that_grow(self) -> Self:
        if self.backoff_min_seconds > self.backoff_max_seconds:
            raise ValueError(
                f"MINDSTREAM_BACKOFF_MIN_SECONDS ({self.backoff_min_seconds:g}) is more than "
                f"MINDSTREAM_BACKOFF_MAX_SECONDS ({self.backoff_max_seconds:g})"
            )
        return self

    @property
    def worker_slot(self) -> str:
        """The slot, or the host name where none is set."""
        return self.slot or socket.gethostname()


def _option(name: str) -> str:
    return _UNDERSCORED.get(name, name.replace("_", "."))


def _secrets_dir() -> Path | None:
    named = os.environ.get(_SECRETS_DIR)
    # A folder that is not there is told of as the setting that it is.
    return Path(named) if named and Path(named).is_dir() else None


def _secret_files() -> Mapping[str, Path]:
    folder = _secrets_dir()
    return {path.name.upper(): path for path in folder.iterdir() if path.is_file()} if folder else {}


def _check_names() -> None:
    given = {name.upper() for name in (*os.environ, *_secret_files())} - _OF_OTHERS
    for name in sorted(given):
        field = name.removeprefix(_PREFIX).lower()
        if name.startswith(_PREFIX) and not name.startswith(LIBRDKAFKA_PREFIX) and field not in Settings.model_fields:
            close = get_close_matches(field, Settings.model_fields, 1)
            meant = f"{_PREFIX}{close[0].upper()}? " if close else ""
            raise SettingsError(f"{name}: no such setting ({meant}docs/settings.md has them all)")


@cache
def librdkafka_options() -> Mapping[str, str]:
    """Options passed through to every librdkafka client."""
    files = _secret_files()
    given = {name: path.read_text().strip() for name, path in files.items() if name.startswith(LIBRDKAFKA_PREFIX)}
    given.update((name, value) for name, value in os.environ.items() if name.startswith(LIBRDKAFKA_PREFIX))
    return {_option(name.removeprefix(LIBRDKAFKA_PREFIX).lower()): value for name, value in sorted(given.items())}


def load_settings() -> Settings:
    """Read the environment, and the files of the secrets' folder.

    Raises:
        SettingsError: naming the variable and what is wrong with it.
    """
    try:
        _check_names()
        return Settings(_secrets_dir=_secrets_dir())
    except OSError as error:
        raise SettingsError(f"{_SECRETS_DIR}: {error.filename}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        line = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise SettingsError(line) from None
        name = "_".join(str(part) for part in first["loc"])
        # No secret on a screen or in a log; storage's URLs may hold one too.
        given = "" if _secret(name) else f" (got {re.sub(r'//[^/@]*@', '//***@', repr(first['input']))})"
        raise SettingsError(f"MINDSTREAM_{name.upper()}: {line}{given}") from None


def _secret(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and field.annotation is SecretStr
