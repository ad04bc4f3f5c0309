"""With a causal aggregation no token hears of a later one, in no part of a stack or a model, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from cases import AGGREGATIONS, CAUSAL, N_TOKENS, D, gaussian, make_block, perturbed
from cases import ragged_mask as ragged
from torch import Tensor, nn

from cvkan.core.backbone import PolarBackbone
from cvkan.core.centering import NoCentering, SampleCentering, TokenCentering
from cvkan.core.heads import EmergentHeads, FactoredHeads, OffsetHeads
from cvkan.core.norm import NoNorm, Norm, PreRMSNorm, StreamLogLayerNorm, StreamRMSNorm
from cvkan.core.polarizing import PolarBlock
from cvkan.core.pooling import NoPooling, Readout
from cvkan.core.position import NoPosition
from cvkan.models.cvkan import CVKAN
from cvkan.models.embedding import IdentityEmbedding
from cvkan.spec import Spec

NORMS = [NoNorm, PreRMSNorm]
CENTERINGS = [NoCentering, TokenCentering, SampleCentering]
HEADS = [EmergentHeads, OffsetHeads, FactoredHeads]
MASKS = [None, ragged()]


class OverTokensNorm(NoNorm):
    causal = False


def stack(aggregation: str, **options: object) -> PolarBackbone:
    block = partial(PolarBlock, aggregations={"only": AGGREGATIONS[aggregation]}, **options)
    return perturbed(PolarBackbone(D, 3, 2, (N_TOKENS,), block), std=0.2).float()


def network(aggregation: str, **options: object) -> CVKAN:
    model = CVKAN(
        Spec((N_TOKENS, D), "token_mask", 1, is_complex=True),
        d_complex=D,
        n_layers=3,
        n_heads=2,
        embedding=IdentityEmbedding,
        position=NoPosition,
        block=partial(PolarBlock, aggregations={"only": AGGREGATIONS[aggregation]}, **options),
        pooling=NoPooling,
        readout=Readout("all"),
        dropout=0.0,
    )
    return perturbed(model, std=0.2).float()


def changes(run: Callable[[Tensor, Tensor | None], Tensor], mask: Tensor | None, cuts: tuple[int, ...]) -> Tensor:
    """(cuts, N) bool: does an exchange of all tokens from a cut on change output t of a valid token in any sample."""
    z, other = (gaussian(3, N_TOKENS, D, seed=seed).to(torch.complex64) for seed in (0, 5))
    valid = torch.ones(3, N_TOKENS, dtype=torch.bool) if mask is None else mask
    before, found = run(z, mask), []
    for cut in cuts:
        exchanged = torch.where(torch.arange(N_TOKENS)[:, None] >= cut, 3 * other, z)
        found.append(((run(exchanged, mask) != before).any(dim=2) & valid).any(dim=0))
    return torch.stack(found)


def assert_no_token_hears_a_later_one(
    run: Callable[[Tensor, Tensor | None], Tensor], cuts: tuple[int, ...] = (3,)
) -> None:
    for mask in MASKS:
        found = changes(run, mask, cuts)
        expected = torch.arange(N_TOKENS) >= torch.tensor(cuts)[:, None]  # the exchanged tokens themselves do change
        assert torch.equal(found, expected), found.int().tolist()


@pytest.mark.parametrize("aggregation", CAUSAL)
def test_at_every_cut_earlier_tokens_stay_and_later_ones_change(aggregation: str) -> None:
    for build in (stack, network):
        assert_no_token_hears_a_later_one(build(aggregation), cuts=tuple(range(N_TOKENS)))


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("aggregation", CAUSAL)
def test_later_tokens_change_nothing_in_a_stack(aggregation: str, heads: type[nn.Module], per_token: bool) -> None:
    for norm, centering in product(NORMS, CENTERINGS):
        backbone = stack(aggregation, norm=norm, centering=centering, heads=heads, per_token=per_token)
        assert backbone.causal
        assert_no_token_hears_a_later_one(backbone)


@pytest.mark.parametrize("norm", [StreamRMSNorm, StreamLogLayerNorm])
@pytest.mark.parametrize("aggregation", CAUSAL)
def test_later_tokens_change_nothing_under_norms_of_the_stream(aggregation: str, norm: type[Norm]) -> None:
    for build in (stack, network):
        assert_no_token_hears_a_later_one(build(aggregation, norm=norm, centering=SampleCentering))


@pytest.mark.parametrize("centering", CENTERINGS)
@pytest.mark.parametrize("aggregation", CAUSAL)
def test_later_tokens_change_nothing_in_a_model_with_one_output_a_token(
    aggregation: str, centering: type[nn.Module]
) -> None:
    for heads, norm in product(HEADS, NORMS):
        assert_no_token_hears_a_later_one(network(aggregation, centering=centering, heads=heads, norm=norm))


@pytest.mark.parametrize("aggregation", CAUSAL)
def test_what_later_tokens_count_as_changes_nothing(aggregation: str) -> None:
    # also the mask is of no interest before its time
    model, z = network(aggregation, centering=TokenCentering), gaussian(2, N_TOKENS, D).to(torch.complex64)
    for n_valid in range(1, N_TOKENS):
        mask = torch.arange(N_TOKENS).expand(2, -1) < n_valid
        everything = torch.ones_like(mask)
        assert torch.equal(model(z, mask)[:, :n_valid], model(z, everything)[:, :n_valid])


@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS.keys() - CAUSAL.keys()))
def test_later_tokens_change_earlier_ones_where_the_aggregation_is_not_causal(aggregation: str) -> None:
    for build in (stack, network):
        assert changes(build(aggregation), None, (3,))[0, 2]  # token 2 hears token 3


@pytest.mark.parametrize("aggregation", CAUSAL)
def test_causal_stacks_take_other_lengths(aggregation: str) -> None:
    backbone, z = stack(aggregation, centering=SampleCentering), gaussian(2, 9, D).to(torch.complex64)
    whole = backbone(z)
    for n_tokens in (1, 4, 7):
        torch.testing.assert_close(backbone(z[:, :n_tokens]), whole[:, :n_tokens], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregation", CAUSAL)
def test_a_norm_over_tokens_is_refused_with_a_causal_aggregation(aggregation: str) -> None:
    norm: type[Norm] = OverTokensNorm
    with pytest.raises(ValueError, match=r"this norm averages over tokens.*choose norm=pre_rms or another aggregation"):
        make_block(aggregation, norm=norm)
    assert not make_block("mean", norm=norm).causal  # elsewhere it is taken


def test_a_sum_of_causal_parts_is_causal_and_a_mixed_one_is_refused() -> None:
    parts = {name: CAUSAL[name] for name in ("causal", "causal_filter", "phase_attention_causal")}
    assert make_block(aggregations=parts).causal
    with pytest.raises(ValueError, match="some are causal and some are not, so their sum would not be"):
        make_block(aggregations={**parts, "mean": AGGREGATIONS["mean"]})
