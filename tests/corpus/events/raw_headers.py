"""`python -m tests.corpus.events.raw_headers BROKER TOPIC HEX`: records whose header has a name that is no UTF-8.

A process of its own: of all clients at hand only aiokafka's slow writer, which this asks for, can be brought to it.
"""

from __future__ import annotations

import asyncio
import os
import sys

#: So many of them: Python calls what it has called often in another way.
RECORDS = 40


class _Raw(str):
    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


async def _send(broker: str, topic: str, value: bytes) -> None:
    os.environ["AIOKAFKA_NO_EXTENSIONS"] = "1"
    from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]

    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        # With a good header beside the bad one.
        headers = [("a", b"b"), (_Raw("x"), b"v")]
        sent = [await producer.send(topic, value, key=b"raw", headers=headers) for _ in range(RECORDS)]
        await asyncio.gather(*sent)


if __name__ == "__main__":
    asyncio.run(_send(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])))
