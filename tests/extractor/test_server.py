"""What the model says of a product, and how its lists are read."""

from __future__ import annotations

from mindstream.inference.v1 import common_pb2
from mindstream.inference.v1 import feature_extractor_pb2 as pb
from mindstream.inference.v1.feature_extractor_pb2_grpc import FeatureExtractorStub

from services.extractor.server import entries
from tests.lvlm.fixtures import Served, png


def test_lists_are_read_as_models_write_them() -> None:
    assert entries("red, blue , red.\n- a 2. cup\n3) saucer\x00;;") == ["red", "blue", "a 2. cup", "saucer"]
    assert entries(" \n") == []


async def test_a_product_beside_others_gets_what_it_gets_alone(served: Served) -> None:
    stub = FeatureExtractorStub(served.channel)
    pictured = common_pb2.ProductView(title="cup", image=common_pb2.ImageRef(digest=served.media.put(png("red"))))
    products = [common_pb2.ProductView(title="saucer"), pictured]
    together = await stub.Extract(pb.ExtractRequest(products=products))
    for product, features in zip(products, together.products, strict=True):
        alone = await stub.Extract(pb.ExtractRequest(products=[product]))
        assert alone.products[0] == features
    assert together.call.prompt_version == "extractor/v1"
    assert together.call.generated_tokens > 0
