"""What a failed call is answered: one gRPC status an error, with google.rpc details.

A worker takes INVALID_ARGUMENT and FAILED_PRECONDITION for the event's fault, INTERNAL for a failure of the engine at
this very call, and all else for something that passes.
"""

from __future__ import annotations

import logging

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.common.errors import WorldFault
from services.lvlm.engine import BrokenNumbers, PromptRefused

_log = logging.getLogger(__name__)
_DOMAIN = "mindstream"


class InvalidRequest(Exception):
    """The request can never be answered; `field` in the request's own path notation."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field, self.description = field, description


class ImageNotFound(Exception):
    """A digest that the media store of this server does not hold."""


def of(error: Exception) -> status_pb2.Status:
    """The status of an error that ended a call."""
    match error:
        case InvalidRequest():
            violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.description)
            bad = error_details_pb2.BadRequest(field_violations=[violation])
            return status(code_pb2.INVALID_ARGUMENT, "the request cannot be answered", bad)
        case PromptRefused():
            return status(code_pb2.INVALID_ARGUMENT, str(error))
        case BrokenNumbers():
            return status(code_pb2.FAILED_PRECONDITION, str(error))
        case ImageNotFound():
            digest = str(error)
            info = error_details_pb2.ErrorInfo(reason="IMAGE_NOT_FOUND", domain=_DOMAIN, metadata={"digest": digest})
            return status(code_pb2.NOT_FOUND, f"no picture {digest} in the media store", info)
        case WorldFault():
            return status(code_pb2.UNAVAILABLE, str(error))
    line = f"{type(error).__name__}: {error}"
    # By name: a server that asks an endpoint has no torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        # All that is let in has its place by `kv_tokens`: if there is none, the process is to blame.
        return status(code_pb2.RESOURCE_EXHAUSTED, f"no memory: {line}")
    _log.error("a call failed: %s", line, exc_info=error)
    return status(code_pb2.INTERNAL, line)


def queue_full(queued: int) -> status_pb2.Status:
    """Too many calls of a job wait."""
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))
    return status(code_pb2.RESOURCE_EXHAUSTED, f"{queued} calls are waiting", retry)


def status(code: int, message: str, *details: Message) -> status_pb2.Status:
    """A status with its details packed."""
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)
