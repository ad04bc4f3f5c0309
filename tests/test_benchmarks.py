"""The benchmarks measure what they say: same equations, same parameters, ratios the right way round."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cvkan.benchmarks import rows
from cvkan.benchmarks.complex_reference import ComplexPolarBlock
from cvkan.benchmarks.core import CoreSuite, count, transformer_layer
from cvkan.benchmarks.startup import seconds_of
from cvkan.benchmarks.timing import interleaved, one_thread
from cvkan.core.aggregation import AgreementAggregation, MagnitudeAggregation
from cvkan.core.local import LocalAggregation
from cvkan.core.polarizing import PolarBlock
from cvkan.errors import UserError

DEFAULT = {"magnitude": MagnitudeAggregation, "local": LocalAggregation}


def drawn_block(grid: tuple[int, ...], **options: object) -> PolarBlock:
    """A float64 block none of whose parameters is at its start, so that no term is zero by chance."""
    generator = torch.Generator().manual_seed(0)
    block = PolarBlock(8, 1, 2, grid, **{"aggregations": DEFAULT, **options}).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return block


@pytest.mark.parametrize("grid", [(12,), (3, 4)])
def test_complex_reference_has_the_values_and_gradients_of_the_block(grid: tuple[int, ...]) -> None:
    block = drawn_block(grid)
    reference = ComplexPolarBlock(block)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2, 12, 8, dtype=torch.complex128, generator=generator)
    direction = torch.randn(2, 12, 8, dtype=torch.complex128, generator=generator)

    def value_and_gradient(module: torch.nn.Module) -> tuple[Tensor, Tensor]:
        x = z.clone().requires_grad_()
        y = module(x)
        (y * direction.conj()).real.sum().backward()
        assert x.grad is not None
        return y.detach(), x.grad

    torch.testing.assert_close(value_and_gradient(block), value_and_gradient(reference))
    for name in ("value", "mixing.linear_in", "mixing.linear_out"):
        own = block.get_submodule(name)
        grad = torch.complex(own.weight_re.grad, own.weight_im.grad)
        torch.testing.assert_close(grad, reference.get_submodule(name.replace(".linear", "")).weight.grad)
    for act, twin in ((block.interaction_act, reference.interaction_act), (block.mixing.act, reference.mixing_act)):
        torch.testing.assert_close(act.psi_rot.coefficients.grad, twin.psi_rot.coefficients.grad)


@pytest.mark.parametrize("part", [{"aggregations": {"agreement": AgreementAggregation}}, {"dropout": 0.1}])
def test_complex_reference_refuses_what_it_would_compute_differently(part: dict[str, object]) -> None:
    with pytest.raises(UserError, match="complex reference"):
        ComplexPolarBlock(drawn_block((12,), **part))


def test_equal_transformer_layer_has_as_many_parameters_as_the_block() -> None:
    block = drawn_block((12,))
    layer = transformer_layer(8, 2, n_parameters=count(block))
    assert abs(count(layer) - count(block)) <= 8 + 1


def test_ratio_is_the_others_cost_over_our_own_round_by_round() -> None:
    row = rows.compared("case", "cost", [2.0, 1.0, 4.0], "ms", "other", [6.0, 2.0, 2.0], scale=1e3)
    assert (row.value, row.ratio, row.ratio_min, row.ratio_max) == (2000.0, 2.0, 0.5, 3.0)


def test_rows_are_written_beside_their_table(tmp_path: Path) -> None:
    row = rows.compared("case", "cost", [2.0], "ms", "other", [6.0])
    path = rows.write([row], tmp_path / "benchmark", "core")
    assert json.loads(path.read_text()) == [
        {"case": "case", "metric": "cost", "value": 2.0, "unit": "ms", "against": "other"}
        | {"ratio": 3.0, "ratio_min": 3.0, "ratio_max": 3.0}
    ]
    assert "| case | cost   | 2     | ms   | other   | 3.00  | 3.00 | 3.00 |" in path.with_suffix(".md").read_text()


def test_candidates_take_turns_and_torch_gets_its_threads_back() -> None:
    calls: list[str] = []
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, min_seconds=0.0)
    assert "".join(calls) == "aabb" + "ab" + "ba" + "ab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert torch.get_num_threads() == before


def test_core_suite_hands_out_every_comparison() -> None:
    line = {"d_complex": 8, "n_tokens": [4, 8], "tokens": 16}
    settings = {"shapes": [[2, 6, 8]], "compiled": False, "line": line}
    budgets = {"tiny": {**settings, "repetitions": 2, "min_seconds": 0.0}}
    suite = CoreSuite("tiny", budgets, partial(PolarBlock, aggregations=DEFAULT), n_heads=2, seed=0)
    state = torch.get_rng_state()
    measured = list(suite.run())
    # Peak memory is told by Linux only, and only where it is more than nothing.
    assert [row.metric for row in measured if row.metric != "peak_memory"] == [
        *["eager"] * 6,
        "eager_a_token",
        "time_a_token_max_over_min",
    ]
    assert all(0 < row.ratio_min <= row.ratio <= row.ratio_max for row in measured)
    assert measured[-1].value >= 1 >= measured[-1].ratio
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_budget_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="Choose one of: a, b"):
        CoreSuite("c", {"b": {}, "a": {}}, PolarBlock, n_heads=1, seed=0)


def test_seconds_of_a_process_tell_waiting_from_work(tmp_path: Path) -> None:
    wall, cpu = seconds_of([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"], str(tmp_path))
    assert wall >= 0.5 > cpu > 0


def test_failed_process_is_not_a_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="because"):
        seconds_of([sys.executable, "-S", "-c", "raise SystemExit('because')"], str(tmp_path))


def bench(*overrides: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cvkan.cli.bench", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_command_writes_the_rows_of_the_suite(tmp_path: Path) -> None:
    smoke = "suite.budgets.smoke"
    tiny = (f"{smoke}.shapes=[[1,8,8]]", f"{smoke}.line.n_tokens=[8,16]", f"{smoke}.line.tokens=16")
    done = bench(*tiny, f"{smoke}.repetitions=1", f"{smoke}.min_seconds=0.0", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "benchmark" / "core.json").read_text())
    assert [row["ratio"] > 0 for row in measured if row["metric"] != "peak_memory"] == [True] * 8
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["benchmark", "core.json", "core.md"]
    assert str(Path("benchmark/core.json")) in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["budget=huge"], "error: this suite has no budget 'huge' (budget). Choose one of: cpu, smoke.\n"),
        (["suite=startup", "aggregation=mean"], "error: aggregation has no effect on this suite (StartupSuite)"),
        (["aggregation=[agreement]"], "error: the complex reference does not know AgreementAggregation"),
    ],
)
def test_command_refuses_what_it_cannot_measure(overrides: list[str], message: str, tmp_path: Path) -> None:
    done = bench(*overrides, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert not list(tmp_path.rglob("*.json"))
