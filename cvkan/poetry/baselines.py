"""What simple codecs reach on the same poems: a constant, principal components, the most frequent word.

All are fitted on the training chunks alone and judged on the tokens of the test chunks, padding left out.

Legend: n chunks, N tokens of the longest, V rows of the table, D numbers of a vector, d numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from cvkan.poetry.nearest import NearestWord
from cvkan.poetry.vectors import Table

FITTED = 4000  # chunks that the components of whole chunks are fitted on, at most: 240 MB at 50 tokens
SCORED = 512  # chunks that are decoded at a time
NEGLIGIBLE = 1e-6  # of the largest: what rounding in float32 leaves of nothing
Codec = Callable[[Tensor], Tensor]  # ids (n, N), 0 = padding, to vectors (n, N, D)


def poetry_baselines(
    train: Sequence[Tensor], test: Sequence[Tensor], table: Table, d_latent: int, code: str, max_length: int
) -> dict[str, float]:
    """Figures ``baseline/…`` for ``metrics.json``.

    ``mean_vector`` gives back one vector for every token, the mean of the training tokens. ``chunk_pca`` describes a
    chunk by d numbers, ``token_pca`` every token by d numbers; ``pca`` is the one of the two whose code is of the kind
    of the network's. ``words_…`` are means over vocabulary words alone, without marks and unknown words; the accuracies
    are shares of these whose nearest candidate (:class:`~cvkan.poetry.vectors.Table`) is the right one.

    Args:
        train: ids (n_i,) of the tokens of each training chunk, without padding.
        test: the same of the test chunks.
        table: vectors of the ids.
        d_latent: numbers d of a code.
        code: ``sequence`` (a code a chunk) or ``token`` (a code a token).
        max_length: tokens of the longest chunk.

    Raises:
        ValueError: a part is empty, or ``code`` is neither.
    """
    if not train or not test:
        raise ValueError(f"baselines need chunks, got {len(train)} to fit and {len(test)} to test; give more poems")
    if code not in ("sequence", "token"):
        raise ValueError(f"code must be sequence or token, got {code!r}; set code=sequence")
    matrix, fitted, tested = table.matrix, padded(train, max_length), padded(test, max_length)
    constant = scores(mean_vector(fitted, matrix), tested, table)
    of_chunk = scores(chunk_pca(fitted, matrix, d_latent), tested, table)
    of_token = scores(token_pca(fitted, matrix, d_latent), tested, table)
    same = of_chunk if code == "sequence" else of_token
    return {
        "baseline/mean_vector_cosine": constant["cosine"],
        "baseline/mean_vector_mse": constant["mse"],
        "baseline/mean_vector_sequence_cosine": constant["sequence_cosine"],
        "baseline/words_mean_vector_cosine": constant["words_cosine"],
        "baseline/chunk_pca_cosine": of_chunk["cosine"],
        "baseline/token_pca_cosine": of_token["cosine"],
        "baseline/pca_cosine": same["cosine"],
        "baseline/pca_word_accuracy": same["word_accuracy"],
        "baseline/words_pca_cosine": same["words_cosine"],
        "baseline/majority_word_accuracy": majority_accuracy(fitted, tested, table),
    }


def padded(chunks: Sequence[Tensor], max_length: int) -> Tensor:
    """Ids (n, N) of chunks (n_i,), 0 behind their ends."""
    ids = pad_sequence([chunk.cpu() for chunk in chunks], batch_first=True)
    return F.pad(ids, (0, max_length - ids.shape[1]))


def scores(codec: Codec, ids: Tensor, table: Table) -> dict[str, float]:
    """How well a codec gives back chunks (n, N): means over their tokens, of the sequence cosine over chunks."""
    nearest = NearestWord(table.matrix[table.candidates])
    tokens, words, chunks = torch.zeros(3), torch.zeros(3), torch.zeros(2)
    for part in ids.split(SCORED):
        valid = part > 0  # (n, N)
        output, target = codec(part), table.matrix[part]  # (n, N, D)
        x, y, wanted = output[valid], target[valid], table.candidate[part[valid]]  # (T, D), (T, D), (T,)
        cosine = F.cosine_similarity(x, y, dim=-1)
        tokens += torch.stack([torch.ones_like(cosine), cosine, (x - y).square().mean(dim=-1)]).sum(dim=1)
        is_word = wanted >= 0
        right = nearest(x[is_word]) == wanted[is_word]
        words += torch.stack([torch.ones_like(cosine[is_word]), cosine[is_word], right.float()]).sum(dim=1)
        pooled = [(vectors * valid[..., None]).sum(dim=1) for vectors in (output, target)]  # (n, D)
        of_chunk = F.cosine_similarity(pooled[0], pooled[1], dim=-1)
        chunks += torch.stack([torch.ones_like(of_chunk), of_chunk]).sum(dim=1)
    return {
        "cosine": float(tokens[1] / tokens[0]),
        "mse": float(tokens[2] / tokens[0]),
        "words_cosine": float(words[1] / words[0]),
        "word_accuracy": float(words[2] / words[0]),
        "sequence_cosine": float(chunks[1] / chunks[0]),
    }


def mean_vector(ids: Tensor, matrix: Tensor) -> Codec:
    """The mean of the tokens (n, N), for every token."""
    mean = token_shares(ids, len(matrix)) @ matrix  # (D,)
    return lambda chunks: mean.expand(*chunks.shape, -1)


def token_pca(ids: Tensor, matrix: Tensor, d_latent: int) -> Codec:
    """The d principal components of the tokens (n, N), each token as often as it occurs."""
    share = token_shares(ids, len(matrix))  # (V,)
    mean = share @ matrix  # (D,)
    centered = matrix - mean  # (V, D)
    _, axes = torch.linalg.eigh((centered.T @ (share[:, None] * centered)).double())  # ascending
    kept = axes[:, -d_latent:].float()  # (D, d)
    decoded = mean + centered @ kept @ kept.T  # (V, D)
    return lambda chunks: decoded[chunks]


def token_shares(ids: Tensor, n_ids: int) -> Tensor:
    """How large a share of the tokens in ids (n, N), 0 = padding, each id has: (V,), summing to 1."""
    count = torch.bincount(ids[ids > 0], minlength=n_ids)  # (V,)
    return (count / count.sum()).float()


def chunk_pca(ids: Tensor, matrix: Tensor, d_latent: int) -> Codec:
    """The d principal components of whole chunks (n, N) as vectors of N D numbers.

    Places behind a chunk's end are missing, not zero: they have no part in the mean of a place, take this mean in the
    components, and a chunk's code is the least-squares fit to the tokens that it has.
    """
    if len(ids) > FITTED:
        ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))[:FITTED]]
    there = (ids > 0).float()  # (n, N)
    x = matrix[ids] * there[..., None]  # (n, N, D)
    count = there.sum(dim=0)[:, None]  # (N, 1)
    anywhere = x.sum(dim=(0, 1)) / count.sum()  # (D,), for places that no training chunk reaches
    mean = torch.where(count > 0, x.sum(dim=0) / count.clamp(min=1), anywhere)  # (N, D)
    axes = components((x - mean).mul_(there[..., None]).flatten(1), d_latent).unflatten(0, mean.shape)
    products = axes.mT @ axes  # (N, d, d), of the components at each place

    def codec(chunks: Tensor) -> Tensor:
        there = (chunks > 0).float()  # (n, N)
        off = (matrix[chunks] - mean) * there[..., None]  # (n, N, D)
        normal = torch.einsum("bn,nij->bij", there, products).double()  # (n, d, d)
        seen = torch.einsum("bnk,nki->bi", off, axes).double()  # (n, d)
        code = torch.linalg.pinv(normal, rtol=NEGLIGIBLE, hermitian=True) @ seen[..., None]  # (n, d, 1)
        return mean + torch.einsum("bi,nki->bnk", code.squeeze(-1).float(), axes)

    return codec


def components(centered: Tensor, d: int) -> Tensor:
    """The first d principal components (F, d) of rows (n, F), as orthonormal columns; n where there are fewer rows."""
    from sklearn.utils.extmath import randomized_svd

    # Only the first of thousands are wanted. Random directions from a fixed seed, and as precise as they need be here.
    _, _, axes = randomized_svd(centered.numpy(), n_components=d, n_iter=7, random_state=0)
    return torch.from_numpy(axes).T.contiguous()


def majority_accuracy(fitted: Tensor, tested: Tensor, table: Table) -> float:
    """Share of the vocabulary words of chunks (n, N) that are the most frequent one of the fitted chunks."""
    found, wanted = (table.candidate[ids[ids > 0]] for ids in (fitted, tested))
    most_frequent = found[found >= 0].bincount().argmax()
    return float((wanted[wanted >= 0] == most_frequent).float().mean())
