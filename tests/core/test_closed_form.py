"""The untrained network is the closed-form polarizer of docs/core.md: hidden tokens in phase, 64 / 6 / 16."""

from __future__ import annotations

import torch
from reference import phase_noise_tokens
from torch import Tensor, nn

from cvkan.analysis.polarization import token_magnitude, topk_recovery
from cvkan.core.aggregation import AgreementAggregation, MeanAggregation
from cvkan.core.backbone import PolarBackbone
from cvkan.core.polarizing import PolarBlock

Z, WANTED = phase_noise_tokens(400, 64, 6, 16, torch.Generator().manual_seed(0))


def backbone(aggregation: type[nn.Module], n_layers: int = 1, **options: float) -> PolarBackbone:
    def block(**sizes: object) -> nn.Module:
        return PolarBlock(**sizes, aggregations={"only": aggregation}, **options)

    torch.manual_seed(0)
    return PolarBackbone(16, n_layers, 1, (64,), block)


@torch.no_grad()
def recovery(model: PolarBackbone) -> list[float]:
    layers = model.trace((Z.real.contiguous(), Z.imag.contiguous()))
    wanted: Tensor = WANTED.float()
    return [topk_recovery(token_magnitude(layer.z), wanted).mean().item() for layer in layers]


def test_one_untrained_block_of_three_agreement_passes_finds_the_hidden_tokens() -> None:
    (found,) = recovery(backbone(AgreementAggregation))
    assert found >= 0.94


def test_a_second_block_does_not_lose_them() -> None:
    first, second = recovery(backbone(AgreementAggregation, n_layers=2))
    assert min(first, second) >= 0.94


def test_gain_of_the_block_tells_hidden_tokens_apart() -> None:
    gain = backbone(AgreementAggregation).trace((Z.real.contiguous(), Z.imag.contiguous()))[0].gain.mean(-1)
    assert gain[WANTED].mean() > 1.5
    assert gain[~WANTED].mean() < 0.6


def test_one_mean_ends_lower_at_any_depth() -> None:
    assert all(0.65 <= found <= 0.78 for found in recovery(backbone(MeanAggregation, n_layers=3)))


def test_adding_the_mean_to_all_tokens_gains_nothing_by_depth() -> None:
    # without gate, cardioid and channel mixing only the interference in |z + c| is left
    model = backbone(MeanAggregation, n_layers=3, agreement_gain=0.0)
    with torch.no_grad():
        for block in model.blocks:
            block.interaction_act.phi.cosines.zero_()
            block.mixing_scale.gamma.zero_()
    first, *deeper = recovery(model)
    assert 0.70 <= first <= 0.82
    assert all(abs(found - first) < 0.02 for found in deeper)
