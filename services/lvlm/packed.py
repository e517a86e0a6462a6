"""Linear layers on CPU, their weights laid out once as the processor's product wants them.

PyTorch's own product lays a weight out anew at every call. That is nothing where a prompt of many tokens is read, and
much in a decoding step of 20 rows (`python -m benchmarks.step_profile` says how much). The layers are oneDNN's, by the
operators that PyTorch's own compiler uses for frozen models. A row's result does not depend on how many rows are
computed beside it, from 16 rows on; a test holds this.
"""

from __future__ import annotations

import torch


class PackedLinear(torch.nn.Module):
    """A linear layer in float32 whose weight is kept in the packed layout alone: (..., in) to (..., out)."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        # Of any number of rows, the layout is the same; the operator asks for one.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), 1)
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The product, and the bias where there is one."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")
        return product


def pack(model: torch.nn.Module) -> int:
    """Exchange the linear layers of a model for packed ones, where this processor and PyTorch can; how many.

    The unpacked weights are let go, layer by layer. The model can be used for inference only.
    """
    if not available():
        return 0
    count = 0
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            # Subclasses do more than a product.
            if type(layer) is torch.nn.Linear and layer.weight.is_cpu and layer.weight.dtype == torch.float32:
                setattr(parent, name, PackedLinear(layer))
                count += 1
    return count


def available() -> bool:
    """Whether this PyTorch has oneDNN, and the operators."""
    found: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return found and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
