from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.lvlm.packed import PackedLinear, available, pack

pytestmark = pytest.mark.skipif(not available(), reason="PyTorch without oneDNN")

_sizes = st.sampled_from((1, 24, 64, 256, 384, 1000))


@given(inside=_sizes, outside=_sizes, rows=st.integers(1, 300), bias=st.booleans())
def test_products_are_those_of_the_layer(inside: int, outside: int, rows: int, bias: bool) -> None:
    layer = torch.nn.Linear(inside, outside, bias=bias)
    given_rows = torch.randn(1, rows, inside)
    with torch.inference_mode():
        packed, expected = PackedLinear(layer)(given_rows), layer(given_rows)
    assert packed.shape == expected.shape
    torch.testing.assert_close(packed, expected, rtol=1e-4, atol=1e-5)


@given(inside=_sizes, outside=_sizes, rows=st.integers(16, 300))
def test_a_row_is_the_same_whatever_stands_beside_it(inside: int, outside: int, rows: int) -> None:
    packed = PackedLinear(torch.nn.Linear(inside, outside))
    given_rows = torch.randn(rows, inside)
    with torch.inference_mode():
        assert torch.equal(packed(given_rows)[:16], packed(given_rows[:16].clone()))


def test_only_plain_layers_in_float32_are_packed_and_their_weights_are_let_go() -> None:
    class More(torch.nn.Linear):
        pass

    model = torch.nn.ModuleDict(
        {
            "first": torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()),
            "second": More(8, 8),
            "third": torch.nn.Linear(8, 8, dtype=torch.bfloat16),
        }
    )
    assert pack(model) == 1
    assert [name for name, _ in model.named_parameters()] == [
        "second.weight",
        "second.bias",
        "third.weight",
        "third.bias",
    ]
    assert pack(model) == 0
