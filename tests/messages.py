"""Protobuf messages for property tests, drawn from their descriptors: whatever the wire may carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

M = TypeVar("M", bound=Message)

_F = FieldDescriptor
#: UTF-8 cannot hold lone surrogates, so neither can protobuf.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    _F.TYPE_STRING: texts,
    _F.TYPE_BYTES: st.binary(max_size=8),
    _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_DOUBLE: st.floats(),
    _F.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    _F.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    _F.TYPE_UINT32: st.integers(0, 2**32 - 1),
    _F.TYPE_UINT64: st.integers(0, 2**64 - 1),
    #: Enums are open: a newer writer may send what we do not know.
    _F.TYPE_ENUM: st.integers(0, 12) | st.integers(-(2**31), 2**31 - 1),
}
#: What a timestamp may be by its own definition, and what the wire may carry in its place.
timestamps = st.builds(
    Timestamp, seconds=st.integers(-62_135_596_800, 253_402_300_799), nanos=st.integers(0, 999_999_999)
)
_any_timestamps = st.builds(
    Timestamp, seconds=_SCALARS[_F.TYPE_INT64], nanos=st.integers(0, 999_999_999) | _SCALARS[_F.TYPE_INT32]
)


def messages(of: type[M], *, timestamp: st.SearchStrategy[Timestamp] = _any_timestamps) -> st.SearchStrategy[M]:
    """Any message of a type: each field unset, or anything of its type."""

    @st.composite
    def drawn(draw: st.DrawFn) -> M:
        made = of()
        _fill(draw, made, of.DESCRIPTOR, timestamp)
        return made

    return drawn()


def _fill(draw: st.DrawFn, made: Any, descriptor: Any, timestamp: st.SearchStrategy[Timestamp]) -> None:
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            getattr(made, field.name).update(draw(st.dictionaries(texts, texts, max_size=2)))
        elif field.is_repeated:
            for _ in range(draw(st.integers(1, 2))):
                held = getattr(made, field.name)
                if entry is None:
                    held.append(draw(_SCALARS[field.type]))
                else:
                    _message(draw, held.add, entry, timestamp)
        elif entry is not None:
            inner = getattr(made, field.name)
            inner.SetInParent()
            _message(draw, lambda inner=inner: inner, entry, timestamp)  # type: ignore[misc]
        else:
            setattr(made, field.name, draw(_SCALARS[field.type]))


def _message(
    draw: st.DrawFn, place: Callable[[], Any], descriptor: Any, timestamp: st.SearchStrategy[Timestamp]
) -> None:
    if descriptor.full_name == Timestamp.DESCRIPTOR.full_name:
        place().CopyFrom(draw(timestamp))
    else:
        _fill(draw, place(), descriptor, timestamp)
