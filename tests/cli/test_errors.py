"""Every fault of a person's input: exit code 2, one line that helps, nothing left that looks like a run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import Result

Train = Callable[..., Result]
RADIO = "domain=radio"
AUDIO = ("domain=audio", "data=audio_folder", "data.root=clips")


def assert_refused(result: Result, *said: str) -> None:
    """Code 2 and one line on stderr that says all of ``said``."""
    assert result.code == 2, result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for text in said:
        assert text in result.err
    assert "outputs" not in [path.name for path in Path().iterdir()]


def write_clips(folder: Path) -> None:
    """Twelve noisy wav files of a tenth of a second in two classes."""
    generator = np.random.default_rng(0)
    for name in ("no", "yes"):
        (folder / name).mkdir(parents=True)
        for k in range(12):
            soundfile.write(folder / name / f"{k}.wav", 0.1 * generator.standard_normal(800), 8000)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param(["domain=foo"], ["domain=foo", "audio, image, poetry, radio, synthetic"], id="group choice"),
        pytest.param(["norm=prerms"], ["Did you mean norm=pre_rms?"], id="close group choice"),
        pytest.param(["aggregation=[local,foo]"], ["aggregation=foo", "agreement, causal"], id="choice in a list"),
        pytest.param(["model.d_modell=3"], ["model.d_modell", "model.d_complex"], id="key, closest named"),
        pytest.param(["batch_size=0"], ["no such key batch_size", "data.batch_size"], id="key without its section"),
        pytest.param(["+foo=1"], ["+foo", "nothing reads"], id="added key"),
        pytest.param(["+model.foo=1"], ["foo", "(model)"], id="added argument of a model"),
        pytest.param(["+optimizer.foo=1"], ["foo", "(optimizer)"], id="added argument of a partial"),
        pytest.param(["--lr", "0.1"], ["--lr", "key=value"], id="flag"),
        pytest.param(["model"], ["'model'"], id="no equals sign"),
        pytest.param(["=3"], ["Got int"], id="no key"),
        pytest.param(["optimizer.lr=abc"], ["optimizer.lr must be a number", "'abc'", "0.005"], id="number"),
        pytest.param(["data.batch_size=1.5"], ["data.batch_size must be an integer"], id="integer"),
        pytest.param(["model.compile=1"], ["model.compile must be true or false"], id="boolean"),
        pytest.param(["model.d_complex=64.5"], ["model.d_complex must be an integer"], id="interpolated integer"),
        pytest.param(["data=image_folder"], ["data.root is not set", "Set data.root=VALUE"], id="required value"),
        pytest.param(["~model"], ["model"], id="removed section"),
        pytest.param(["seed=-1"], ["seed", "0 to 4294967295", "-1"], id="negative seed"),
        pytest.param(["data.batch_size=0"], ["data.batch_size", "at least 1"], id="empty batches"),
        pytest.param(["data.limit_train=0"], ["data.limit_train", "at least 1"], id="no training samples"),
        pytest.param(["trainer.max_epochs=0"], ["trainer.max_epochs", "at least 1"], id="no epochs"),
        pytest.param(["trainer.max_epochs=-5"], ["max_epochs", "-5"], id="negative epochs"),
        pytest.param(["trainer.precision=foo"], ["foo", "bf16-mixed"], id="precision"),
        pytest.param(["trainer.precision=bf16-true"], ["bf16-true", "bf16-mixed"], id="precision throughout"),
        pytest.param(["loss=binary_cross_entropy"], ["BCEWithLogitsLoss", "'classes'"], id="loss of another task"),
        pytest.param(["data.split_seed=null"], ["data.split_seed must not be null"], id="null"),
        pytest.param(["block.mixing.expansion=0"], ["expansion must be positive"], id="no channels to mix"),
        pytest.param(["trainer.accelerator=cuda"], ["(trainer)"], id="no GPU"),
        pytest.param(["optimizer.lr=-1"], ["learning rate", "-1", "(optimizer)"], id="negative rate"),
        pytest.param(["scheduler.warmup_fraction=3"], ["3", "(scheduler)"], id="warm-up above 1"),
        pytest.param(["model.dropout=2"], ["dropout", "2", "(model)"], id="dropout above 1"),
        pytest.param(["trainer.max_epochs=-1"], ["trainer.max_epochs", "-1"], id="endless training"),
        pytest.param(["model.n_heads=0"], ["zero", "(model)"], id="no heads"),
        pytest.param(["model=convnet", "model.d_model=-3"], ["negative", "(model)"], id="negative width"),
        pytest.param(["model=convnet", "model.kernel_size=4"], ["kernel_size", "odd"], id="even filters"),
        pytest.param(["embedding.n_layers=0"], ["n_layers", "at least 1"], id="no convolutions"),
        pytest.param(["model.n_heads=5"], ["n_heads=5", "d_complex=32"], id="heads that do not divide"),
        pytest.param(["readout=foo"], ["foo", "cart"], id="readout"),
        pytest.param(
            ["model=convnet", "pooling=mean"], ["pooling has no effect", "ConvNet"], id="choice without effect"
        ),
        pytest.param(
            ["domain=poetry", "domain.recurrent.d_hidden=8"],
            ["domain.recurrent.d_hidden has no effect", "CVKAN"],
            id="size of another network",
        ),
        pytest.param(["model=convnet", "norm.eps=1"], ["norm.eps has no effect"], id="key without effect"),
        pytest.param(["data=synthetic_hard"], ["needs images", "(64, 16)"], id="tokens for an image network"),
        pytest.param(["domain=audio", "data=digits"], ["embedding=stft", "waveform"], id="images for an audio network"),
        pytest.param(["model=convnet", "domain=audio"], ["convnet", "images"], id="audio for an image network"),
        pytest.param(["domain=synthetic", "pooling=mean"], ["pooling=none"], id="pooled token labels"),
        pytest.param(["task=token_selection"], ["TokenSelectionTask", "'token_mask'", "'classes'"], id="task"),
        pytest.param(["data=cifar10"], ["CIFAR-10", "data.download=true", "data=digits"], id="no data"),
        pytest.param(["data=cifar10", "data.download=true"], ["could not be downloaded"], id="no network"),
        pytest.param([*AUDIO[:2], "data.root=nowhere"], ["does not exist", "nowhere"], id="no folder"),
        pytest.param(["ckpt=nowhere.ckpt"], ["nowhere.ckpt"], id="no checkpoint"),
        pytest.param(["--config-dir", "nowhere"], ["nowhere"], id="no config folder"),
        pytest.param(["output_dir=/proc/nowhere"], ["/proc/nowhere", "you may write"], id="unwritable run directory"),
        pytest.param(["output_dir=a(1)"], ["output_dir=a(1) cannot be read", 'output_dir="a(1)"'], id="unquoted path"),
        pytest.param(["optimizer.betas=(0.9,0.99)"], ["cannot be read", "Lists are written [a, b]"], id="tuple"),
        pytest.param([RADIO, "data.classes=QPSK"], ["must be a list, got 'QPSK'", "[QPSK]"], id="word for a list"),
        pytest.param([RADIO, "data.snr_db=[0,a]"], ["data.snr_db must be a list of numbers, got 'a'"], id="elements"),
        pytest.param([RADIO, "data.snr_db={min: 0}"], ["data.snr_db takes no section", "-18"], id="section for a list"),
        pytest.param([RADIO, "data.snr_db=[-1000]"], ["-1000 dB", "from -200 to 200"], id="absurd SNR"),
        pytest.param([RADIO, "data.generator.fading=4"], ["fading is 4", "{k_factor: ...}"], id="number for a section"),
    ],
)
def test_fault_is_named_in_one_line(train_here: Train, typed: list[str], said: list[str]) -> None:
    assert_refused(train_here(*typed), *said)


def test_directory_of_another_run_is_not_written_over(train_here: Train) -> None:
    small = ("trainer.max_epochs=1", "data.limit_train=64", "output_dir=run")
    assert train_here(*small).code == 0
    before = {name: Path("run", name).read_bytes() for name in ("metrics.csv", "metrics.json", "config.yaml")}
    assert_refused(train_here(*small, "seed=1"), "run holds a run", "run/checkpoints/last.ckpt")
    assert {name: Path("run", name).read_bytes() for name in before} == before


def test_empty_audio_folder(train_here: Train) -> None:
    Path("clips").mkdir()
    assert_refused(train_here(*AUDIO), "clips")


def test_truncated_wav_names_the_file(train_here: Train) -> None:
    write_clips(Path("clips"))
    victim = Path("clips/yes/3.wav")
    victim.write_bytes(victim.read_bytes()[:700])
    assert_refused(train_here(*AUDIO), "yes/3.wav", "truncated")


def test_text_called_wav_names_the_file(train_here: Train) -> None:
    write_clips(Path("clips"))
    Path("clips/no/5.wav").write_text("I am no sound.\n" * 50)
    assert_refused(train_here(*AUDIO), "no/5.wav")


def test_corrupt_checkpoint(train_here: Train) -> None:
    Path("bad.ckpt").write_bytes(b"PK\x03\x04" + bytes(1000))
    assert_refused(train_here("ckpt=bad.ckpt"), "bad.ckpt", "damaged")


def test_checkpoint_with_code_in_it_is_not_executed(train_here: Train) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (Path("executed"),)

    torch.save({"state_dict": Payload()}, "evil.ckpt")
    assert_refused(train_here("ckpt=evil.ckpt"), "evil.ckpt")
    assert not Path("executed").exists()


def test_checkpoint_of_another_program(train_here: Train) -> None:
    file = io.BytesIO()
    torch.save({"weights": torch.zeros(2)}, file)
    Path("other.ckpt").write_bytes(file.getvalue())
    assert_refused(train_here("ckpt=other.ckpt"), "other.ckpt", "not a checkpoint of cvkan")


def test_checkpoint_of_another_domain_or_size_or_with_foreign_classes(train_here: Train) -> None:
    small = ("trainer.max_epochs=1", "data.limit_train=64", "model.d_complex=8", "model.n_heads=2")
    assert train_here(*small, "output_dir=run").code == 0
    last = Path("run/checkpoints/last.ckpt")
    Path("run/run.json").unlink()  # no run to go on in: what is refused must make no directory either

    assert_refused(train_here("domain=audio", f"ckpt={last}"), "domain=image", "domain=audio")
    assert_refused(train_here("domain=image", f"ckpt={last}"), "model.d_complex=8 (here 32)", "ckpt=… alone")
    assert_refused(train_here(*small, "seed=1", f"ckpt={last}"), "seed=0 (here 1)")
    assert_refused(train_here(*small, "trainer.max_epochs=2", f"ckpt={last}"), "ends after 1 epochs", "max_epochs")

    checkpoint = torch.load(last, weights_only=True)
    name = "model.head.weight"
    checkpoint["state_dict"][name] = checkpoint["state_dict"][name][:3]
    torch.save(checkpoint, "other.ckpt")
    assert_refused(train_here(*small, "ckpt=other.ckpt"), "another model", "model.head.weight is (3, 24) in it")

    checkpoint = torch.load(last, weights_only=True)
    checkpoint["cvkan"]["config"]["model"]["_target_"] = "os.system"
    torch.save(checkpoint, "foreign.ckpt")
    assert_refused(train_here(*small, "ckpt=foreign.ckpt"), "os.system", "not part of cvkan")


def test_refused_run_leaves_the_files_of_a_chosen_folder_alone(train_here: Train) -> None:
    mine = Path("mine/notes.log")
    mine.parent.mkdir()
    mine.write_text("keep")
    assert_refused(train_here("output_dir=mine", "seed=-1"), "seed")
    assert [path.name for path in mine.parent.iterdir()] == ["notes.log"]
    assert mine.read_text() == "keep"


def test_debug_shows_the_traceback(train_here: Train) -> None:
    result = train_here("seed=-1", "debug=true")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("error: seed must be")


def test_unknown_monitor_lists_the_known_ones(train_here: Train) -> None:
    result = train_here("domain.monitor=val/foo", "trainer.max_epochs=1", "data.limit_train=64", "output_dir=run")
    assert result.code == 2
    assert result.err.startswith("error: no metric 'val/foo'")
    assert "val/accuracy" in result.err
    assert '"failed"' in Path("run/run.json").read_text()


@pytest.mark.slow
def test_real_command_prints_nothing_but_the_line(train_command: Train, tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    (tmp_path / "clips/no/5.wav").write_text("I am no sound.\n" * 50)
    result = train_command(*AUDIO, cwd=tmp_path)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
