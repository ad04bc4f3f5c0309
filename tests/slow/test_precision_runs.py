"""``cvkan-train`` in half precision: every domain trains, resumes bit for bit, and stops where nothing helps."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import COMMAND

from cvkan.checkpointing import read_checkpoint

DOMAINS = {
    "image": ("data.limit_train=128", "data.batch_size=32"),
    "audio": ("data.n_train=320", "data.n_val=32", "data.n_test=32", "data.batch_size=16"),
    "synthetic": ("data.n_train=320", "data.n_val=32", "data.n_test=32", "data.batch_size=16"),
}
CPU = "trainer.accelerator=cpu"


def scaler_state(run: Path) -> dict[str, float]:
    return read_checkpoint(run / "checkpoints/last.ckpt")["MixedPrecision"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("domain", "precision"),
    [("audio", "bf16-mixed"), ("image", "16-mixed"), ("synthetic", "bf16-mixed"), ("synthetic", "16-mixed")],
)
def test_domain_trains_in_half_precision(train_here: Callable, tmp_path: Path, domain: str, precision: str) -> None:
    arguments = (f"domain={domain}", *DOMAINS[domain], f"trainer.precision={precision}", CPU)
    ended = train_here(*arguments, "trainer.max_epochs=1", "output_dir=run")
    assert ended.code == 0, ended.err
    assert "Warning" not in ended.err
    figures = json.loads((tmp_path / "run/metrics.json").read_text())
    assert all(math.isfinite(value) for value in figures.values() if isinstance(value, float))
    assert json.loads((tmp_path / "run/run.json").read_text())["precision"] == precision
    checkpoint = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    # Only float16 has a scale. It starts at 65536 and halves with each step that overflows, which is how it is meant to
    # find its size: the convolutions of an embedding may take a step or two.
    scale = checkpoint.get("MixedPrecision", {}).get("scale")
    assert scale is None if precision == "bf16-mixed" else scale in (65536.0, 32768.0, 16384.0)


@pytest.mark.slow
def test_interrupted_float16_run_resumes_bit_for_bit_with_its_loss_scale(train_here: Callable, tmp_path: Path) -> None:
    arguments = ("domain=synthetic", *DOMAINS["synthetic"], "trainer.precision=16-mixed", CPU, "scheduler=constant")
    arguments = (*arguments, "trainer.max_epochs=3")
    last = tmp_path / "part/checkpoints/last.ckpt"
    process = subprocess.Popen([str(COMMAND), *arguments, "output_dir=part"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    n_steps = read_checkpoint(last)["global_step"]
    assert scaler_state(tmp_path / "part")["_growth_tracker"] == n_steps < 60  # steps since the scale last changed
    for name, further in (("whole", ()), ("resumed", (f"ckpt={last}",))):
        ended = train_here(*arguments, *further, f"output_dir={name}")
        assert ended.code == 0, ended.err
    assert scaler_state(tmp_path / "resumed") == scaler_state(tmp_path / "whole")
    assert scaler_state(tmp_path / "resumed")["_growth_tracker"] == 60
    expected, got = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("whole", "resumed"))
    for name, value in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], value), name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_true_divergence_ends_a_half_precision_run_with_code_3(train_here: Callable, precision: str) -> None:
    # Plain gradient descent at an absurd rate: weights, and with them the loss, leave every range.
    extreme = ("optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant", "trainer.gradient_clip_val=null")
    arguments = ("domain=synthetic", *DOMAINS["synthetic"], f"trainer.precision={precision}", CPU, *extreme)
    ended = train_here(*arguments, "trainer.max_epochs=2", "output_dir=run")
    assert ended.code == 3, ended.err
    assert "training diverged at step" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_block_compiled_to_machine_code_has_the_gradients_of_the_eager_one(half: torch.dtype | None) -> None:
    from cvkan.core.aggregation import AgreementAggregation
    from cvkan.core.polarizing import PolarBlock

    torch.compiler.reset()
    torch.manual_seed(0)
    block = PolarBlock(8, 1, 2, (6,), {"only": AgreementAggregation})
    compiled = torch.compile(block, fullgraph=True, dynamic=True)
    for n_batch, n_tokens in ((3, 6), (2, 9)):
        planes = torch.randn(2, n_batch, n_tokens, 8)
        results = []
        for function in (block, compiled):
            z = tuple(plane.clone().requires_grad_() for plane in planes)
            block.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half is not None):
                out = function(z)
            sum(x.float().square().sum() for x in out).backward()
            results.append([*out, *(p.grad for p in (*z, *block.parameters()))])
        for got, expected in zip(results[1], results[0], strict=True):
            # A compiler keeps float32 between fused operations where eager mode rounds to bfloat16 twice.
            share = 1e-4 if half is None else 5e-2
            assert (got - expected).abs().max() <= share * expected.abs().max() + share * 1e-2
