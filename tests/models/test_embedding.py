from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from cvkan.models.embedding import (
    ConvStem,
    IdentityEmbedding,
    LinearEmbedding,
    PatchEmbedding,
    RFFTPatchEmbedding,
    TokenEmbedding,
)
from cvkan.spec import Spec


def image(channels: int, height: int, width: int) -> Spec:
    return Spec((channels, height, width), "classes", 10)


def test_identity_hands_on_the_planes_and_the_mask() -> None:
    z, mask = torch.randn(2, 5, 3, dtype=torch.complex64), torch.ones(2, 5)
    embedding = IdentityEmbedding(Spec((5, 3), "token_mask", 1, is_complex=True), 3)
    (re, im), same_mask = embedding(z, mask)
    assert torch.equal(torch.complex(re, im), z)
    assert same_mask is mask
    assert embedding.grid == (5,)


@pytest.mark.parametrize(
    "spec",
    [
        Spec((5, 3), "token_mask", 1, is_complex=False),
        Spec((5, 4), "token_mask", 1, is_complex=True),
        Spec((5, 3, 3), "classes", 2, is_complex=True),
    ],
)
def test_identity_refuses_what_is_no_complex_token(spec: Spec) -> None:
    with pytest.raises(ValueError, match=r"embedding=identity needs complex tokens .*d_complex=3.*set model.d_complex"):
        IdentityEmbedding(spec, 3)


def test_patch_tokens_are_a_linear_map_of_their_own_patch_row_by_row() -> None:
    torch.manual_seed(0)
    embedding = PatchEmbedding(image(2, 4, 6), 3, patch_size=2)
    x = torch.randn(1, 2, 4, 6)
    (re, im), _ = embedding(x)
    assert embedding.grid == (2, 3)
    patch = x[0, :, 2:4, 2:4]  # second row, second column: token 4
    both = (embedding.project.weight * patch).sum(dim=(1, 2, 3)) + embedding.project.bias
    expected = both.view(2, 3)
    torch.testing.assert_close(torch.stack([re[0, 4], im[0, 4]]), expected)


def test_patches_that_do_not_tile_are_refused() -> None:
    with pytest.raises(ValueError, match=r"patches of 4 pixels do not tile images of 8 x 6; set embedding\.patch_size"):
        PatchEmbedding(image(1, 8, 6), 3, patch_size=4)


@pytest.mark.parametrize(
    ("size", "max_tokens", "n_layers", "grid"),
    [((8, 8), 64, 2, (8, 8)), ((8, 8), 16, 2, (4, 4)), ((9, 7), 20, 1, (5, 4)), ((32, 32), 64, 3, (8, 8))],
)
def test_conv_stem_knows_its_layout_before_any_data(
    size: tuple[int, int], max_tokens: int, n_layers: int, grid: tuple[int, int]
) -> None:
    stem = ConvStem(image(1, *size), 4, n_layers=n_layers, max_tokens=max_tokens)
    (re, im), _ = stem(torch.randn(2, 1, *size))
    assert stem.grid == grid
    assert re.shape == im.shape == (2, grid[0] * grid[1], 4)


def test_conv_stem_that_cannot_reach_max_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"raise embedding\.n_layers or embedding\.max_tokens"):
        ConvStem(image(1, 9, 7), 4, n_layers=1, max_tokens=16)


def test_conv_stem_gives_phases_of_all_quadrants() -> None:
    torch.manual_seed(0)
    (re, im), _ = ConvStem(image(3, 8, 8), 16, n_layers=2, max_tokens=64)(torch.randn(4, 3, 8, 8))
    quadrant = 2 * (re > 0).long() + (im > 0).long()
    assert F.one_hot(quadrant.flatten(), 4).float().mean(0).min() > 0.15


@pytest.mark.parametrize("build", [ConvStem, PatchEmbedding])
def test_only_images_are_taken(build: type[ConvStem] | type[PatchEmbedding]) -> None:
    options = {"n_layers": 2, "max_tokens": 64} if build is ConvStem else {"patch_size": 2}
    with pytest.raises(ValueError, match=r"needs images \(channels, height, width\), got samples of shape \(16000,\)"):
        build(Spec((16000,), "classes", 10), 4, **options)


@pytest.mark.parametrize("is_complex", [False, True])
def test_linear_tokens_are_a_matrix_product_and_keep_the_mean_power(is_complex: bool) -> None:
    torch.manual_seed(0)
    embedding = LinearEmbedding(Spec((5, 400), "classes", 2, is_complex=is_complex), 300)
    x = torch.randn(4, 5, 400, dtype=torch.complex64 if is_complex else torch.float32)
    (re, im), _ = embedding(x)
    weight = torch.complex(embedding.project.weight_re, embedding.project.weight_im)
    torch.testing.assert_close(torch.complex(re, im), x.to(weight.dtype) @ weight.T, rtol=1e-4, atol=1e-4)
    assert (re.square() + im.square()).mean().item() == pytest.approx(1.0, rel=0.05)
    assert embedding.grid == (5,)


def test_padding_of_linear_tokens_may_hold_anything() -> None:
    embedding = LinearEmbedding(Spec((3, 2), "classes", 2), 4)
    mask = torch.tensor([[True, True, False]])
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [torch.nan, torch.inf]]])
    (re, im), _ = embedding(x, mask)
    (re + im).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in embedding.parameters())


def test_token_embedding_looks_words_up_and_drops_whole_complex_numbers() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(Spec((6,), "classes", 2, vocabulary=tuple(map(str, range(50)))), 32, dropout=0.5)
    x = torch.randint(50, (3, 6))
    re, im = embedding.eval()(x)[0]
    torch.testing.assert_close(torch.cat([re, im], dim=-1), embedding.table.weight[x], rtol=0, atol=0)
    re, im = embedding.train()(x)[0]
    assert torch.equal(re == 0, im == 0)
    assert 0.4 < (re == 0).float().mean() < 0.6
    assert embedding.table.weight.square().mean().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("n_channels", [None, 3])
def test_rfft_patches_are_spectra_of_overlapping_windows(n_channels: int | None) -> None:
    torch.manual_seed(0)
    shape = (20,) if n_channels is None else (20, n_channels)
    embedding = RFFTPatchEmbedding(Spec(shape, "classes", 2), 5, patch_size=8, stride=4)
    assert embedding.grid == (4,)
    x = torch.randn(2, *shape)
    (re, im), _ = embedding(x)
    window = x[1, 8:16].reshape(8, -1)  # token 2
    spectrum = torch.stack([torch.fft.fft(column)[:5] for column in window.T]).flatten() / 8**0.5
    weight = torch.complex(embedding.project.weight_re, embedding.project.weight_im)
    torch.testing.assert_close(torch.complex(re, im)[1, 2], weight @ spectrum)


def test_rfft_patches_are_valid_where_any_sample_is_and_ignore_the_others() -> None:
    embedding = RFFTPatchEmbedding(Spec((12,), "classes", 2), 2, patch_size=4, stride=4)
    mask = torch.arange(12)[None] < 5
    x = torch.randn(1, 12)
    planes, tokens = embedding(x, mask)
    dirty, _ = embedding(torch.where(mask, x, torch.nan), mask)
    assert tokens.tolist() == [[True, True, False]]
    assert all(torch.equal(a, b) for a, b in zip(planes, dirty, strict=True))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearEmbedding(Spec((8,), "classes", 2), 4), r"embedding=linear needs tokens .*\(8,\)"),
        (lambda: TokenEmbedding(Spec((8,), "classes", 2), 4, 0.0), "embedding=token needs ids of words"),
        (lambda: RFFTPatchEmbedding(Spec((8,), "classes", 2), 4, 16, 8), "patches of 16 samples .* series of 8"),
        (lambda: RFFTPatchEmbedding(image(1, 8, 8), 4, 2, 2), "embedding=rfft_patch needs a real series"),
    ],
)
def test_embeddings_refuse_other_kinds_of_data(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
