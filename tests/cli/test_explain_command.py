"""``cvkan-explain``: what it writes about a checkpoint, and every fault of a person's input in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import Result
from hydra import compose, initialize_config_module
from PIL import Image

from cvkan import build
from cvkan.cli import resolvers
from cvkan.data_facts import data_facts
from cvkan.resuming import repeatable

Explain = Callable[..., Result]
CKPT = "ckpt=run/checkpoints/best.ckpt"
FEW = ("method.levels=[5,20]", "method.limit=6")
IMAGES = ("model=convnet", "model.d_model=8", "model.n_layers=1", "image.size=16")
RADIO = (
    *("domain=radio", "data.classes=[BPSK,QPSK]", "data.snr_db=[0,10]", "data.generator.n_samples=64"),
    *("data.n_train=8", "data.n_val=4", "data.n_test=12"),
)


def write_run(folder: Path, *overrides: str) -> None:
    """A run directory as far as cvkan-explain reads it, of a network that has not been trained."""
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        cfg = compose("train", overrides=[*overrides, f"output_dir={folder}"])
        data = build.build_data(cfg)
        torch.manual_seed(0)
        task = build.build_task(cfg, data)
        config = repeatable(cfg)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    header = {"version": "0", "domain": cfg.domain.name, "config": config, "data": data_facts(data, task)}
    torch.save({"state_dict": task.state_dict(), "cvkan": header}, folder / "checkpoints/best.ckpt")


@pytest.fixture
def explain_here(command_here: Explain) -> Explain:
    """``cvkan-explain`` in this process, in the empty folder ``tmp_path``."""
    from cvkan.cli import explain

    return partial(command_here, explain)


def results(folder: str = "run") -> dict[str, object]:
    return json.loads(Path(folder, "explain/pis.json").read_text())


def test_files_lie_in_the_run_and_say_what_was_done(explain_here: Explain) -> None:
    write_run(Path("run"), *RADIO, *IMAGES)
    before = {path for path in Path().rglob("*") if path.is_file()}
    result = explain_here(CKPT, *FEW, "method.seed=3")
    assert result.code == 0, result.err
    written = {path for path in Path().rglob("*") if path.is_file()} - before
    assert sorted(map(str, written)) == ["run/explain/pis.json", "run/explain/pis.png"]
    found = results()
    about = {"method": "pis", "checkpoint": CKPT.removeprefix("ckpt="), "seed": 3, "limit": 6, "count": 6}
    about |= {"snr_definition": "es_n0", "unit": "pixels", "levels": [5, 20], "normalization": "power", "part": "test"}
    about |= {"data_source": "cvkan.domains.radio.synth.RadioSynth"}
    assert about.items() <= found.items()
    assert [(row["mask"], row["level"]) for row in found["rows"]] == [
        (mask, level) for mask in ("top", "bottom", "random") for level in (5, 20)
    ]
    with Image.open("run/explain/pis.png") as image:
        assert image.width > 500
    for text in ("6 test frames, pixels removed", "top 5 %", "random 20 %", "run/explain/pis.json"):
        assert text in result.out


def test_output_and_a_lone_checkpoint_lie_anywhere(explain_here: Explain, tmp_path: Path) -> None:
    write_run(Path("run"), *RADIO, "model=pet_cgdnn")
    Path("run/checkpoints/best.ckpt").rename("lone.ckpt")
    assert explain_here("ckpt=lone.ckpt", *FEW, "output=there").code == 0
    assert results("there")["unit"] == "samples"
    assert explain_here("ckpt=lone.ckpt", *FEW, f"output={tmp_path}/here").code == 0
    assert results("here") == results("there")
    assert not Path("run/explain").exists()


def test_data_of_the_run_may_be_changed(explain_here: Explain) -> None:
    write_run(Path("run"), *RADIO, "model=pet_cgdnn")
    assert explain_here(CKPT, *FEW, "data.n_test=4", "data.batch_size=3").code == 0
    assert results()["count"] == 4


TREE = ("data=constellation_png", "data.root=tree", "data.size=16", "data.num_workers=0")


def write_tree() -> None:
    """Images of the classes and SNRs of ``RADIO``."""
    from cvkan.domains.radio.png_files import image_prefix

    for name in ("BPSK", "QPSK"):
        for level in ("SNR_0", "SNR_10"):
            folder = Path("tree", name, level)
            folder.mkdir(parents=True)
            for k in range(10):
                pixels = torch.randint(2, (16, 16), dtype=torch.uint8) * 200
                Image.fromarray(pixels.numpy()).save(folder / f"{image_prefix('grayscale', name, level)}{k}.png")


def test_stored_images_take_the_place_of_drawn_ones_and_are_copied(explain_here: Explain) -> None:
    write_run(Path("run"), *RADIO, *IMAGES)
    write_tree()
    result = explain_here(CKPT, *TREE, "method.levels=[5]", "method.write_png=tree")
    assert result.code == 0, result.err
    found = results()
    assert (found["count"], found["snr_definition"]) == (4, None)
    assert len(list(Path("tree").rglob("*_top5_blackout.png"))) == 4
    assert explain_here(CKPT, *TREE, "data.variant=top5", "method.levels=[5]", "output=again").code == 0
    assert results("again")["clean_accuracy"] == found["rows"][0]["accuracy"]


def test_images_that_are_drawn_otherwise_than_the_run_drew_them_are_refused(explain_here: Explain) -> None:
    write_run(Path("run"), *RADIO, *IMAGES)
    write_tree()
    drawn = {"image": "Histogram", "size": 16, "limit": 3.0, "reference": 32, "normalization": "power"}
    facts = {"kind": "grayscale", "snr_definition": "es_n0", **drawn}
    for name, value in {"limit": 2.0, "reference": 8, "image": "Splat", "normalization": "max"}.items():
        Path("tree/constellations.json").write_text(json.dumps({**facts, name: value}))
        result = explain_here(CKPT, *TREE, *FEW)
        assert result.code == 2
        assert f"{name} of the images is {drawn[name]} in it and {value} here" in result.err
    Path("tree/constellations.json").write_text(json.dumps({**facts, "snr_definition": "sample"}))
    assert "snr_definition is es_n0 in it and sample here" in explain_here(CKPT, *TREE, *FEW).err
    Path("tree/constellations.json").write_text(json.dumps(facts))
    result = explain_here(CKPT, *TREE, "method.levels=[5]")
    assert result.code == 0, result.err


def test_a_checkpoint_without_facts_about_its_data_is_refused(explain_here: Explain) -> None:
    write_run(Path("run"), *RADIO, "model=pet_cgdnn")
    path = Path("run/checkpoints/best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["cvkan"]["data"]
    torch.save(checkpoint, path)
    result = explain_here(CKPT, *FEW)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "does not say which classes it knows" in result.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param([], ["no checkpoint is given", "Set ckpt="], id="none"),
        pytest.param(["ckpt=nowhere.ckpt"], ["no checkpoint nowhere.ckpt"], id="missing"),
        pytest.param(["ckpt=text.ckpt"], ["text.ckpt is damaged or not a checkpoint"], id="damaged"),
        pytest.param([CKPT, "method=foo"], ["method=foo does not exist", "Choices: pis"], id="method"),
        pytest.param([CKPT, "method.lvels=[1]"], ["no such key method.lvels", "method.levels"], id="key"),
        pytest.param([CKPT, "method.seed=x"], ["method.seed must be an integer"], id="type"),
        pytest.param([CKPT, "method.levels=[200]"], ["levels are [200]", "1 to 100"], id="range"),
        pytest.param([CKPT, "data.classes=[BPSK]"], ["[1] is QPSK in it", "missing here"], id="fewer classes"),
        pytest.param([CKPT, "data.classes=[BPSK,8PSK]"], ["class_names[0] is BPSK in it and 8PSK"], id="other classes"),
        pytest.param([CKPT, "data.snr_db=[0,20]"], ["snr_db[1] is 10.0 in it and 20.0 here"], id="other SNRs"),
        pytest.param([CKPT, "data.generator.n_samples=32"], ["the weights do not fit"], id="other size"),
        pytest.param(
            [CKPT, "data.generator.snr_definition=sample"],
            ["snr_definition is es_n0 in it and sample here"],
            id="other meaning of the SNR",
        ),
        pytest.param([CKPT, "data=rml2018", "data.root=nowhere"], ["no such folder", "nowhere"], id="no data"),
        pytest.param([CKPT, "method.write_png=there"], ["only the images of a PNG tree"], id="no tree"),
        pytest.param([CKPT, "trainer.accelerator=abacus"], ["accelerator=abacus cannot be used"], id="accelerator"),
        pytest.param([CKPT, "output=text.ckpt", *FEW], ["cannot make text.ckpt/explain"], id="output"),
        pytest.param(["ckpt=other/checkpoints/best.ckpt"], ["targets of kind 'classes'", "domain=radio"], id="images"),
        pytest.param(["ckpt=other/checkpoints/best.ckpt"], ["targets of kind 'vectors'", "domain=radio"], id="poems"),
    ],
)
def test_fault_is_named_in_one_line(explain_here: Explain, typed: list[str], said: list[str]) -> None:
    write_run(Path("run"), *RADIO, "model=pet_cgdnn")
    if "'classes'" in said[0]:
        write_run(Path("other"), "domain=image", "model=convnet", "model.d_model=8")
    if "'vectors'" in said[0]:
        write_run(Path("other"), "domain=poetry", "model.d_complex=8")
    Path("text.ckpt").write_text("no checkpoint")
    before = set(Path().rglob("*"))
    result = explain_here(*typed)
    assert result.code == 2, result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for text in said:
        assert text in result.err
    assert set(Path().rglob("*")) == before


def test_checkpoint_may_name_only_classes_of_cvkan_and_those_the_user_names(
    explain_here: Explain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_run(Path("run"), *RADIO, "model=pet_cgdnn")
    Path("own_network.py").write_text("from cvkan.models.baselines.pet_cgdnn import PETCGDNN as Own")
    monkeypatch.syspath_prepend(tmp_path)
    path = Path("run/checkpoints/best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["cvkan"]["config"]["model"]["_target_"] = "own_network.Own"
    torch.save(checkpoint, path)
    for typed in ([], ["model._target_=cvkan.models.baselines.pet_cgdnn.PETCGDNN"]):
        result = explain_here(CKPT, *FEW, *typed)
        assert result.code == 2
        assert "the checkpoint's config names own_network.Own" in result.err
    assert "own_network" not in sys.modules
    result = explain_here(CKPT, *FEW, "model._target_=own_network.Own")
    assert result.code == 0, result.err


@pytest.mark.parametrize("code", ["launch('--help')", "launch('--cfg', 'job')", "launch('method=x')"])
def test_help_and_config_need_no_torch(code: str, tmp_path: Path) -> None:
    script = f"""
import sys
def launch(*arguments):
    from cvkan.cli import explain
    sys.argv = ["cvkan-explain", *arguments]
    explain.run()
{code}
heavy = {{"torch", "lightning", "numpy", "h5py"}} & sys.modules.keys()
sys.exit(f"loaded {{heavy}}" if heavy else 0)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_trained_run_is_explained_by_the_command(tmp_path: Path) -> None:
    def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", f"cvkan.cli.{module}", *arguments]
        return subprocess.run(line, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=240)

    trained = command("train", *RADIO, *IMAGES, "trainer.max_epochs=1", "output_dir=run")
    assert trained.returncode == 0, trained.stderr
    explained = command("explain", CKPT, "method.levels=[10]", "-m", "method.seed=0,1", "output=seed${method.seed}")
    assert explained.returncode == 0, explained.stderr
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    for seed in (0, 1):
        found = json.loads((tmp_path / f"seed{seed}/explain/pis.json").read_text())
        assert (found["seed"], found["count"]) == (seed, 12)
        for name, accuracy in found["clean_accuracy"].items():
            assert accuracy == pytest.approx(metrics[f"test/{name}_accuracy"])
