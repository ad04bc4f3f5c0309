"""The config tree: every yaml fits its class, every choice composes, and what is chosen is what is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from cvkan import build
from cvkan.cli import resolvers
from cvkan.core.local import LocalAggregation
from cvkan.core.norm import PreRMSNorm
from cvkan.core.pooling import AttentionPooling
from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError
from cvkan.models.cvkan import CVKAN
from cvkan.tasks.base import Task

CONF = Path(__file__).parents[1] / "conf"
YAMLS = sorted(CONF.rglob("*.yaml"))
CHOICES = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in sorted(CONF.iterdir())
    if any(group.glob("*.yaml"))
}
# What is handed to a constructor when it is called; everything else stands in its yaml.
SUPPLIED = {
    "aggregation": {"d_complex", "n_heads", "grid"},
    "block": {"d_complex", "n_layers", "n_heads", "grid"},
    "centering": {"causal"},
    "decoder": {"spec"},
    "embedding": {"spec", "d_complex"},
    "heads": {"d_complex", "n_heads"},
    "linear": {"d_in", "d_out"},
    "memory": {"d_hidden", "d_states"},
    "model": {"spec"},
    "norm": {"d_complex"},
    "optimizer": {"params"},
    "task_head": {"n_features", "spec"},
    "pooling": {"d_complex", "n_heads"},
    "position": {"d_complex", "grid"},
    "psi": {"d_complex"},
    "scheduler": {"optimizer", "total_steps"},
    "skip": {"spec"},
    "task": {"spec", "model", "loss", "optimizer", "scheduler", "augment", "regularizers"},
}
# Groups that one domain alone has.
OWN_GROUPS = {
    "poetry": {"code", "curriculum", "memory", "teacher_forcing"},
    "radio": {"snr_curriculum"},
    "timeseries": {"mode", "normalization"},
}
# Where classes are that Hydra knows under another name.
PLUGINS = {"hydra_plugins.cvkan.OptunaSweeper": "cvkan.hpo.plugin.OptunaSweeper"}
# Keys that are read beside the constructor.
READ_BY_BUILD = {"model": {"compile"}}
TINY = {
    "audio": ["data.n_train=16", "data.n_val=16", "data.n_test=16", "data.n_speakers=10"],
    "image": ["data.limit_train=16"],
    "poetry": ["data.limit_train=16"],
    "radio": [
        *("data.classes=[BPSK,QPSK]", "data.snr_db=[0,10]", "data.generator.n_samples=128"),
        *("data.n_train=16", "data.n_val=8", "data.n_test=8"),
    ],
    "synthetic": ["data.n_train=16", "data.n_val=8", "data.n_test=8"],
    "text": ["data.n_train=64", "data.n_val=32", "data.n_test=32"],
    "timeseries": ["data.n_rows=1500"],
}


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("train", overrides=list(overrides))


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every section with a ``_target_``, at any depth."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.fixture(scope="module")
def tiny_data() -> Callable[[str], DataModule]:
    """A domain's embedded data, cut down and loaded once."""
    loaded: dict[str, DataModule] = {}

    def load(domain: str) -> DataModule:
        if domain not in loaded:
            torch.manual_seed(0)
            loaded[domain] = build.build_data(composed(f"domain={domain}", "data.batch_size=8", *TINY[domain]))
            loaded[domain].setup()
        return loaded[domain]

    return load


def one_step(task: Task, data: DataModule) -> None:
    """A training step as the trainer takes it; the loss is finite and every weight that has a gradient moves."""
    before = {name: parameter.clone() for name, parameter in task.model.named_parameters()}
    batch = data.preprocess(next(iter(data.train_dataloader())))
    task.train()
    loss, _ = task.loss_and_logits(batch if task.augment is None else task.augment(batch))
    loss.backward()
    assert torch.isfinite(loss)
    optimizer = task.make_optimizer(task.model.parameters(), lr=0.1)
    optimizer.step()
    moved = [name for name, parameter in task.model.named_parameters() if not torch.equal(parameter, before[name])]
    assert any(".head." in f".{name}" for name in moved)
    assert all(torch.isfinite(parameter).all() for parameter in task.model.parameters())


def arguments(target: Callable[..., Any], is_own: bool) -> tuple[set[str], set[str], bool]:
    """Names that a constructor takes, those without a default, and whether it swallows any other.

    A ``**loading: Unpack[Loading]`` of cvkan stands for the keys of that TypedDict.
    """
    parameters = inspect.signature(target).parameters
    names = {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    required = {name for name in names if parameters[name].default is inspect.Parameter.empty}
    for name in parameters.keys() - names:
        unpacked = get_args(get_type_hints(target.__init__).get(name)) if is_own else ()
        if not unpacked:
            return names, required, True
        keys = get_type_hints(unpacked[0], include_extras=True)
        names |= keys.keys()
        required |= {key for key, hint in keys.items() if get_origin(hint) is not NotRequired}
    return names, required, False


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_yaml_fits_its_class(path: Path) -> None:
    group = path.parent.name
    node = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    for section in targets(node):
        target = get_object(PLUGINS.get(section["_target_"], section["_target_"]))
        is_own = target.__module__.startswith("cvkan.")
        keys = {key for key in section if not key.startswith("_")}
        if section is node:
            keys -= READ_BY_BUILD.get(group, set())
        names, required, takes_any = arguments(target, is_own)
        assert not takes_any or not is_own, f"{target} swallows options"
        assert takes_any or keys <= names, f"unknown to {target}: {keys - names}"
        if is_own:
            supplied = SUPPLIED.get(group, set())
            assert not keys & supplied, f"set by cvkan itself: {keys & supplied}"
            # What a section within another is built with later is the business of the class that it is handed to.
            complete = section is node or not section.get("_partial_")
            assert not complete or required - supplied <= keys, f"not in the yaml: {required - supplied - keys}"


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_yaml_is_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    # The table of contents explains itself and holds hydra's own section.
    assert len(lines) <= (70 if path.name == "train.yaml" else 40)


@pytest.mark.parametrize("domain", CHOICES["domain"])
def test_every_choice_composes(domain: str) -> None:
    elsewhere = {"domain", "experiment", "suite", "layout", "method"}
    elsewhere |= {group for other, own in OWN_GROUPS.items() if other != domain for group in own}
    groups = {group: CHOICES[group] for group in CHOICES.keys() - elsewhere}
    for k in range(max(map(len, groups.values()))):
        chosen = {group: choices[k % len(choices)] for group, choices in groups.items()}
        cfg = composed(f"domain={domain}", *(f"{group}={choice}" for group, choice in chosen.items()))
        assert cfg.domain.name == domain
        assert list(cfg.aggregation) == [chosen["aggregation"]]
        for group in ("data", "model", "embedding", "pooling", "norm", "optimizer"):
            assert cfg[group]["_target_"] == OmegaConf.load(CONF / group / f"{chosen[group]}.yaml")["_target_"]


@pytest.mark.parametrize("name", CHOICES.get("experiment", []))
def test_experiments_build_and_train(name: str) -> None:
    lines = (CONF / f"experiment/{name}.yaml").read_text().splitlines()
    typed = next(line for line in lines if line.startswith("# cvkan-train ")).split()
    typed = [word for word in typed if "=" in word and not word.startswith("data.root=")]
    cfg = composed(*typed)
    embedded = {"image": "digits", "audio": "audio_synth", "timeseries": "series_synth"}.get(cfg.domain.name)
    if "root" in cfg.data and embedded is not None:  # a data set that is not here
        cfg = composed(*typed, f"data={embedded}", "model.d_complex=16")
    OmegaConf.update(cfg, "data.limit_train", 16)
    data = build.build_data(cfg)
    data.setup()
    one_step(build.build_task(cfg, data), data)


@pytest.mark.parametrize("domain", CHOICES["domain"])
@pytest.mark.parametrize("norm", CHOICES["norm"])
@pytest.mark.parametrize("pooling", CHOICES["pooling"])
def test_every_domain_trains_with_every_pooling_and_norm(
    domain: str, pooling: str, norm: str, tiny_data: Callable[[str], DataModule]
) -> None:
    data = tiny_data(domain)
    per_token = data.spec.per_token
    codes = ["code=token"] if per_token is None and pooling == "none" else []
    cfg = composed(f"domain={domain}", "model=cvkan", f"pooling={pooling}", f"norm={norm}", *codes)
    if per_token is not None and (pooling == "none") != per_token:
        with pytest.raises(UserError, match="pooling="):
            build.build_task(cfg, data)
        return
    one_step(build.build_task(cfg, data), data)


@pytest.mark.parametrize(
    ("domain", "overrides"),
    [
        *(("synthetic", [f"aggregation={name}"]) for name in ("mean", "magnitude", "agreement", "local")),
        ("audio", ["aggregation=[mean,local]"]),
        ("image", ["aggregation=agreement"]),
        *(("image", [f"psi={name}"]) for name in ("poly", "rbf")),
        *(("image", ["block=classic", f"psi={name}"]) for name in ("mlp", "shared")),
        ("image", ["block=classic", "interaction=broadcast"]),
        ("image", ["interaction=broadcast"]),
        ("image", ["block=polar_edge"]),
        *(("image", [f"position={name}"]) for name in CHOICES["position"]),
        *(("image", [f"heads={name}"]) for name in CHOICES["heads"]),
        ("image", ["linear=free"]),
        *(("image", [f"centering={name}"]) for name in CHOICES["centering"]),
        *(("image", [f"regularizer={name}"]) for name in CHOICES["regularizer"]),
        *(("synthetic", [f"optimizer={name}"]) for name in CHOICES["optimizer"]),
        *(("synthetic", [f"scheduler={name}"]) for name in CHOICES["scheduler"]),
        ("image", ["embedding=patch"]),
        ("audio", ["embedding=rfft_patch", "embedding.patch_size=200", "embedding.stride=200"]),
        ("synthetic", ["embedding=linear", "model.d_complex=8"]),
        ("image", ["model=convnet"]),
        ("image", ["data.augment=null"]),
    ],
    ids=str,
)
def test_further_choices_train(domain: str, overrides: list[str], tiny_data: Callable[[str], DataModule]) -> None:
    data = tiny_data(domain)
    one_step(build.build_task(composed(f"domain={domain}", *overrides), data), data)


def test_a_domain_picks_its_defaults_and_the_command_line_wins() -> None:
    audio = composed("domain=audio")
    assert audio.data["_target_"] == "cvkan.domains.audio.synth.AudioSynth"
    assert audio.embedding["_target_"] == "cvkan.domains.audio.embedding.STFTEmbedding"
    assert list(audio.aggregation) == ["agreement", "local"]
    assert audio.trainer.max_epochs == 15

    # Before or after the domain, it makes no difference.
    for overrides in (["domain=audio", "pooling=attention"], ["pooling=attention", "domain=audio"]):
        assert composed(*overrides).pooling["_target_"].endswith("AttentionPooling")
    chosen = composed("domain=audio", "trainer.max_epochs=1", "model.d_complex=64", "aggregation=mean")
    assert chosen.trainer.max_epochs == 1
    assert chosen.model.d_complex == 64
    assert list(chosen.aggregation) == ["mean"]


def network(*overrides: str) -> CVKAN:
    cfg = composed(*overrides)
    model = build.build_model(cfg, build.build_data(cfg).spec)
    assert isinstance(model, CVKAN)
    return model


@pytest.mark.parametrize(
    ("override", "look", "expected"),
    [
        ("model.d_complex=8", lambda model: model.head.in_features, 24),
        ("model.n_layers=3", lambda model: len(model.backbone.blocks), 3),
        ("readout=mag", lambda model: model.head.in_features, 32),
        ("model.dropout=0", lambda model: model.dropout.p, 0),
        ("pooling=attention", lambda model: type(model.pooling), AttentionPooling),
        ("norm=none", lambda model: count(model, PreRMSNorm), 0),
        ("embedding.max_tokens=16", lambda model: model.embedding.grid, (4, 4)),
        ("embedding.n_layers=3", lambda model: count(model.embedding, torch.nn.Conv2d), 3),
        ("aggregation=mean", lambda model: count(model, LocalAggregation), 0),
    ],
)
def test_an_option_changes_what_is_built(override: str, look: Callable[[CVKAN], Any], expected: Any) -> None:
    assert look(network(override)) == expected
    assert look(network()) != expected


def count(model: torch.nn.Module, kind: type) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def test_options_of_data_optimizer_and_scheduler_arrive() -> None:
    cfg = composed("data.batch_size=7", "data.augment.pad=3", "seed=5", "optimizer.lr=0.125", "loss.label_smoothing=0")
    data = build.build_data(cfg)
    task = build.build_task(cfg, data)
    assert (data.batch_size, data.seed, task.augment.pad) == (7, 5, 3)
    assert task.make_optimizer(task.model.parameters()).defaults["lr"] == 0.125
    assert task.loss.label_smoothing == 0


def test_callbacks_and_loggers_are_built(tmp_path: Path) -> None:
    names = [type(callback).__name__ for callback in build.build_callbacks(composed("callbacks=ema"))]
    assert names == ["LearningRateMonitor", "EarlyStopping", "PolarizationMonitor", "WeightAverage"]
    assert build.build_loggers(composed()) == []
    (logger,) = build.build_loggers(composed("logger=tensorboard", f"output_dir={tmp_path}"))
    assert Path(logger.log_dir) == tmp_path / "tensorboard"
