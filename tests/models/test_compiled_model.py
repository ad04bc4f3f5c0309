"""model.compile=true: one graph for batches of any size, the numbers of eager mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from cvkan import build
from cvkan.cli import resolvers
from cvkan.spec import Spec

TINY = ["domain.cvkan.d_complex=4", "domain.cvkan.n_layers=1", "domain.cvkan.n_heads=2"]


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    torch.compiler.reset()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield
    torch.compiler.reset()


def model_of(spec: Spec, *overrides: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build.build_model(compose("train", overrides=[*TINY, *overrides]), spec)


def gradients(model: torch.nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    logits = model(x, mask)
    return [logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()), allow_unused=True)]


@pytest.mark.slow
def test_sequences_of_other_lengths_cost_one_compilation_and_then_no_more() -> None:
    spec = Spec((12, 4), "classes", 3, is_complex=True)
    eager, compiled = (model_of(spec, "embedding=identity", "model.dropout=0") for _ in range(2))
    counter = CompileCounterWithBackend("aot_eager")
    build.compile_in_place(compiled, backend=counter)
    for n_batch, n_tokens in ((4, 12), (5, 12), (3, 9), (7, 5)):
        x = torch.randn(n_batch, n_tokens, 4, dtype=torch.complex64)
        mask = torch.arange(n_tokens).expand(n_batch, -1) <= torch.arange(n_batch)[:, None]
        for got, expected in zip(gradients(compiled, x, mask), gradients(eager, x, mask), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert counter.frame_count == 1 if n_tokens == 12 else counter.frame_count <= 2


@pytest.mark.slow
def test_images_are_one_graph_for_any_number_of_samples() -> None:
    spec = Spec((1, 8, 8), "classes", 3)
    eager, compiled = (model_of(spec, "model.dropout=0") for _ in range(2))
    counter = CompileCounterWithBackend("aot_eager")
    build.compile_in_place(compiled, backend=counter)
    for n_batch in (4, 7, 3):
        x = torch.randn(n_batch, 1, 8, 8)
        for got, expected in zip(gradients(compiled, x, None), gradients(eager, x, None), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


def test_the_switch_compiles_the_model_it_builds() -> None:
    spec = Spec((6, 4), "classes", 3, is_complex=True)
    assert model_of(spec, "embedding=identity")._compiled_call_impl is None
    assert model_of(spec, "embedding=identity", "model.compile=true")._compiled_call_impl is not None
