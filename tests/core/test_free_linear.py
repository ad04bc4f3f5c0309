from __future__ import annotations

import pytest
import torch
from cases import gaussian, planes_of

from cvkan.core.aggregation import MeanAggregation
from cvkan.core.linear import ComplexLinear, FreeLinear
from cvkan.core.polarizing import PolarBlock


def test_planes_mix_by_any_real_matrix() -> None:
    torch.manual_seed(0)
    layer, z = FreeLinear(3, 2).double(), gaussian(4, 5, 3)
    torch.nn.init.normal_(layer.bias)
    expected = torch.cat([z.real, z.imag], dim=-1) @ layer.weight.T + layer.bias
    re, im = layer(planes_of(z))
    torch.testing.assert_close(torch.cat([re, im], dim=-1), expected)
    torch.testing.assert_close(layer(z), torch.complex(re, im))


def test_a_tied_matrix_makes_it_the_complex_layer() -> None:
    complex_layer, free, z = ComplexLinear(3, 2).double(), FreeLinear(3, 2).double(), gaussian(5, 3)
    p, q = complex_layer.weight_re.data, complex_layer.weight_im.data
    free.weight.data = torch.cat([torch.cat([p, -q], dim=1), torch.cat([q, p], dim=1)])
    torch.testing.assert_close(free(z), complex_layer(z))


def test_it_starts_like_the_complex_layer() -> None:
    torch.manual_seed(0)
    z = gaussian(100, 200)
    assert FreeLinear(200, 200).double()(z).abs().square().mean().item() == pytest.approx(1.0, rel=0.1)
    torch.testing.assert_close(FreeLinear(4, 4, identity=True).double()(gaussian(3, 4)), gaussian(3, 4))
    with pytest.raises(ValueError, match="identity=True needs d_in == d_out, got 2 and 3"):
        FreeLinear(2, 3, identity=True)


def test_block_uses_it_for_all_four_maps() -> None:
    block = PolarBlock(4, 1, 2, (6,), {"mean": MeanAggregation}, linear=FreeLinear)
    assert sum(isinstance(module, FreeLinear) for module in block.modules()) == 4
