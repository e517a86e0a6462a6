"""Scores of candidates."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from mindstream.inference.v1 import common_pb2
from mindstream.inference.v1 import intention_filter_pb2 as pb
from mindstream.inference.v1.intention_filter_pb2_grpc import IntentionFilterStub
from mindstream.inference.v1.intention_generator_pb2 import ProductPair

from tests.lvlm.fixtures import Served

_PAIR = ProductPair(product_a=common_pb2.ProductView(title="cup"), product_b=common_pb2.ProductView(title="saucer"))


async def _judge(served: Served, *intentions: tuple[str, str]) -> Any:
    asked = [pb.IntentionToJudge(relation=relation, text=text) for relation, text in intentions]
    pairs = [pb.PairToJudge(pair=_PAIR, intentions=asked)]
    return await IntentionFilterStub(served.channel).Judge(pb.JudgeRequest(pairs=pairs))


async def test_each_intention_has_its_score_in_order(served: Served) -> None:
    asked = [("IsA", "dish"), ("UsedFor", "drinking tea at breakfast"), ("Open", "likes tea")]
    forward = await _judge(served, *asked)
    backward = await _judge(served, *reversed(asked))
    assert all(0 <= score <= 1 for score in forward.pairs[0].scores)
    assert list(reversed(backward.pairs[0].scores)) == pytest.approx(list(forward.pairs[0].scores), abs=1e-4)
    assert len(set(forward.pairs[0].scores)) == 3
    assert forward.call.generated_tokens == 0


async def test_reasons_are_given_where_they_are_asked_for(served: Served) -> None:
    asked = [pb.IntentionToJudge(relation="IsA", text=text) for text in ("dish", "a thing for breakfast")]
    request = pb.JudgeRequest(pairs=[pb.PairToJudge(pair=_PAIR, intentions=asked)], reasons=True)
    answer = await IntentionFilterStub(served.channel).Judge(request)
    request.reasons = False
    without = await IntentionFilterStub(served.channel).Judge(request)
    assert len(set(answer.pairs[0].reasons)) == 2
    assert answer.call.generated_tokens > 0
    assert not without.pairs[0].reasons
    assert list(without.pairs[0].scores) == pytest.approx(list(answer.pairs[0].scores), abs=1e-5)


async def test_an_empty_intention_is_refused(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _judge(served, ("IsA", " "))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
