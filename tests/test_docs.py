"""docs/ tell the truth: every choice is in core.md or radio.md, formulas count parameters right, snippets run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Result
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cvkan import build
from cvkan.analysis.polarization import token_magnitude, topk_recovery
from cvkan.cli import resolvers
from cvkan.core.aggregation import AgreementAggregation, MeanAggregation
from cvkan.core.backbone import PolarBackbone
from cvkan.core.classic import ClassicBlock
from cvkan.core.norm import StreamLogLayerNorm, StreamRMSNorm
from cvkan.core.polarizing import PolarBlock
from cvkan.radio import load_bound
from cvkan.spec import Spec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/core.md").read_text()
RADIO_PAGE = (ROOT / "docs/radio.md").read_text()
CONF = ROOT / "conf"
D, H, N, C, P = 12, 3, 64, 3, 4  # the letters of the page; C image channels, P edge of a patch
COUNTED = ("parameters", "parameters, without aggregation", "parameters more")
LETTERS = {
    **{"D": D, "H": H, "N": N, "C": C, "p": P},
    **{"degree": 4, "K": 8, "k": 7, "h": 32, "d": 32, "levels": 2},
    **{"f": 5, "w": 11, "P": 16, "c": 2},  # features of a token, words, samples of a patch, series
}


def tables(page: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Name and rows of every table whose first column is a config group, ``group=``, or keys of one, ``group.``."""
    for block in re.findall(r"(?:^\|.*\|\n)+", page, flags=re.MULTILINE):
        head, _, *body = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines())
        if match := re.fullmatch(r"`([\w.]+)[=.]`|(table|key)", head[0]):
            yield match[1] or match[2], [dict(zip(["choices", *head[1:]], row, strict=True)) for row in body]


SPECS = {
    "identity": Spec((N, D), "classes", 2, is_complex=True),
    "linear": Spec((N, LETTERS["f"]), "classes", 2),
    "rfft_patch": Spec((96, LETTERS["c"]), "classes", 2),
    "token": Spec((N,), "classes", 2, vocabulary=("word",) * LETTERS["w"]),
    "iq": Spec((1024,), "classes", 2, is_complex=True),
    "constellation": Spec((1024,), "classes", 2, is_complex=True),
}
TABLES = dict(tables(PAGE))
RADIO_TABLES = dict(tables(RADIO_PAGE))
FORMULAS = [
    (group, choice, column, row[column].strip("`"))
    for group, rows in TABLES.items()
    for row in rows
    for choice in re.findall(r"`(\w+)`", row["choices"])
    for column in COUNTED
    if row.get(column)
]


def evaluated(formula: str) -> float:
    """``2 k^2 D`` is a product: a space between factors, ^ for powers, letters of more than one sign as they are."""
    text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", formula).replace("^", "**")
    return eval(text, {"__builtins__": {}}, LETTERS)


@pytest.fixture
def conf() -> Iterator[None]:
    GlobalHydra.instance().clear()
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def built(group: str, choice: str, *further: str) -> nn.Module:
    """The module of a choice, at the sizes of the letters."""
    grid = (8, N // 8) if choice == "rotary2d" else (N,)
    if group in ("block", "interaction", "heads"):
        block = compose("train", overrides=[f"{group}={choice}", *further]).block
        return instantiate(block)(d_complex=D, n_layers=1, n_heads=H, grid=grid)
    supplied: dict[str, dict[str, Any]] = {
        "linear": {"d_in": D, "d_out": D},
        "norm": {"d_complex": D},
        "psi": {"d_complex": D},
        "centering": {},
        "position": {"d_complex": D, "grid": grid},
        "pooling": {"d_complex": D, "n_heads": H},
        "aggregation": {"d_complex": D, "n_heads": H, "grid": grid},
        "embedding": {"spec": SPECS.get(choice, Spec((C, 8, 8), "classes", 2)), "d_complex": D},
    }
    node = compose("train", overrides=[f"{group}={choice}"])[group]
    return instantiate(node[choice] if group == "aggregation" else node)(**supplied[group])


@pytest.mark.parametrize("group", sorted(TABLES))
def test_table_of_a_group_names_exactly_its_choices(group: str) -> None:
    named = [choice for row in TABLES[group] for choice in re.findall(r"`(\w+)`", row["choices"])]
    existing = {path.stem for path in CONF.glob(f"{group}/*.yaml")}
    assert len(named) == len(set(named))
    assert existing - set(named) <= {"none"}  # `regularizer=none` is no regularizer
    assert set(named) <= existing


def test_every_group_of_the_core_has_a_table() -> None:
    groups = {"psi", "linear", "block", "interaction", "heads", "aggregation", "norm", "centering", "embedding"}
    assert groups | {"position", "readout", "pooling", "regularizer", "optimizer", "scheduler"} == TABLES.keys()


def test_defaults_are_those_of_the_config() -> None:
    chosen = {
        group: choice
        for entry in OmegaConf.load(CONF / "train.yaml").defaults
        if isinstance(entry, DictConfig)
        for group, choice in entry.items()
    }
    for group, rows in TABLES.items():
        bold = [choice for row in rows for choice in re.findall(r"\*\*`(\w+)`\*\*", row["choices"])]
        if group not in ("aggregation", "regularizer"):  # named in the text, as a list and as nothing
            assert bold == [chosen[group]], group
    assert chosen["aggregation"] == ["magnitude", "local"]
    assert "**`[magnitude, local]`**" in PAGE


@pytest.mark.parametrize(
    ("group", "choice", "column", "formula"), FORMULAS, ids=[f"{case[0]}={case[1]}" for case in FORMULAS]
)
def test_formula_counts_the_parameters(group: str, choice: str, column: str, formula: str, conf: None) -> None:
    if column == "parameters more":
        default = next(re.findall(r"\*\*`(\w+)`", row["choices"])[0] for row in TABLES[group] if "**" in row["choices"])
        found = count(built(group, choice)) - count(built(group, default))
    else:
        found = count(built(group, choice, *(["aggregation=mean"] if group == "block" else [])))
    assert found == pytest.approx(evaluated(formula))  # a quotient is rounded


def test_formulas_in_the_text_count_the_parameters(conf: None) -> None:
    cases = {
        "2 D^2 + 7 D": count(built("block", "polar")) - count(built("block", "polar", "block.mixing.expansion=1.0")),
        "11 h + 3 + D": count(built("block", "classic", "psi=shared", "aggregation=mean")),
        "2 k^2 D": count(instantiate(compose("train", ["aggregation=local"]).aggregation.local)(D, H, (8, 8))),
    }
    for formula, found in cases.items():
        assert f"`{formula}`" in PAGE
        assert found == evaluated(formula)


def listings(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_snippets_do_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for snippet in listings("python")[:2]:
        exec(snippet, names)

    assert names["loss"] < 0.01
    (edge,) = names["best"]
    assert (edge.i, edge.j, round(edge.share, 2)) == (2, 1, 1.0)
    assert edge.score == pytest.approx(1.02, abs=0.02)
    assert names["layer"].n_edges == 5
    gain = names["found"].gain.mean(dim=0)  # (L, N)
    assert gain[:, :6].mean(dim=1).tolist() == pytest.approx([1.9, 1.9], abs=0.08)
    assert gain[:, 6:].mean(dim=1).tolist() == pytest.approx([0.4, 0.7], abs=0.08)
    for picture in ("edge_functions.png", "polarization.png", "polarization_layers.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


@pytest.mark.slow
def test_a_part_of_your_own_trains(
    train_here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_conf/aggregation").mkdir(parents=True)
    (tmp_path / "my_core.py").write_text(listings("python")[2])
    (tmp_path / "my_conf/aggregation/loudest.yaml").write_text(*listings("yaml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (command,) = [line for block in listings("") for line in block.splitlines() if "--config-dir" in line]
    small = ("data.n_train=64", "data.n_val=16", "data.n_test=16", "trainer.max_epochs=1", "domain=synthetic")
    ended = train_here(*shlex.split(command)[2:], *small)
    assert ended.code == 0, ended.err


def test_commands_of_the_page_compose(conf: None) -> None:
    typed = re.findall(r"`(cvkan-train [^`]*)`", PAGE)
    assert len(typed) >= 2
    for line in typed:
        words = [word for word in shlex.split(line)[1:] if word != "-m"]
        assert compose("train", overrides=words)


def test_combinations_that_the_page_calls_refused_are_refused(conf: None) -> None:
    for refused in (
        ("aggregation=[causal,mean]",),
        ("aggregation=causal", "norm=batch"),
        ("block=classic", "psi=poly"),
        ("psi=mlp",),
    ):
        with pytest.raises(Exception, match=r"choose|set psi"):
            instantiate(compose("train", overrides=list(refused)).block)(D, 1, H, (N,))
    with pytest.raises(Exception, match="layout"):
        instantiate(compose("train", overrides=["aggregation=causal_filter"]).block)(D, 1, H, (8, 8))


def test_files_that_the_page_names_exist() -> None:
    for name in re.findall(r"`([\w/]+\.(?:py|yaml|md))`", PAGE):
        if not name.startswith("my_"):
            assert (ROOT / name).exists() or (ROOT / "cvkan/core" / name).exists(), name
    for target in re.findall(r"\]\(([\w/.-]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_table_of_the_domains_is_what_they_set(conf: None) -> None:
    page = (ROOT / "docs/domains.md").read_text()
    body = page[page.index("| domain | embedding |") :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in body]
    assert {row[0] for row in rows} == {path.stem for path in CONF.glob("domain/*.yaml")}
    for domain, *choices, sizes, epochs in rows:
        groups = dict(zip(("embedding", "position", "aggregation", "pooling"), choices, strict=True))
        typed = compose("train", overrides=[f"domain={domain}", *(f"{group}={name}" for group, name in groups.items())])
        assert compose("train", overrides=[f"domain={domain}"]) == typed
        assert ", ".join(str(typed.domain.cvkan[size]) for size in ("d_complex", "n_layers", "n_heads")) == sizes
        assert str(typed.trainer.max_epochs) == epochs


def test_page_of_the_architecture_names_every_group() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    section = page[page.index("## The config tree") :].partition("\n## ")[0]
    groups = {path.parent.name for path in CONF.glob("*/*.yaml")}
    assert groups <= set(re.findall(r"`(\w+)`", section)), groups - set(re.findall(r"`(\w+)`", section))


RADIO_CLASSES = {"data": "cvkan.domains.radio.", "loss": "cvkan.losses."}  # other groups are of radio as a whole
# Parts of autoencoders, forecasters, networks for sentences.
NO_RADIO = {"recurrent", "code", "autoregressive", "dlinear", "lstm", "patchtst", "tcn"}
NO_RADIO |= {"bilstm", "dan", "text_transformer", "textcnn"}
NETWORKS = {row["choices"].strip("*`"): row["parameters"] for row in RADIO_TABLES["model"]}


@pytest.mark.parametrize("group", ["data", "layout", "image", "model", "task_head", "loss", "snr_loss", "method"])
def test_table_of_radio_names_exactly_its_choices(group: str, conf: None) -> None:
    classes = {path.stem: OmegaConf.load(path)["_target_"] for path in CONF.glob(f"{group}/*.yaml")}
    existing = {name for name, path in classes.items() if path.startswith(RADIO_CLASSES.get(group, ""))} - NO_RADIO
    choices = [row["choices"] for row in RADIO_TABLES[group]]
    assert sorted(choice.strip("*`") for choice in choices) == sorted(existing)

    command = {"layout": "data_convert", "method": "explain"}.get(group, "train")
    chosen = [entry[group] for entry in OmegaConf.load(CONF / f"{command}.yaml").defaults if group in entry]
    if command == "train":
        chosen = [compose("train", ["domain=radio"], return_hydra_config=True).hydra.runtime.choices[group]]
    assert [choice.strip("*`") for choice in choices if "**" in choice] == chosen


@pytest.mark.parametrize("model", NETWORKS)
def test_table_of_radio_counts_the_parameters(model: str, conf: None) -> None:
    cfg = compose("train", overrides=["domain=radio", "experiment=radio17", f"model={model}"])
    spec = build.build_data(cfg).spec
    with torch.device("meta"):  # sizes alone
        assert f"{count(build.build_model(cfg, spec)):,}" == NETWORKS[model]


def test_table_of_the_generator_is_its_yaml() -> None:
    options = OmegaConf.to_container(OmegaConf.load(CONF / "data/radio_synth.yaml").generator)
    stated = {row["choices"].strip("`"): row["default"].strip("`") for row in RADIO_TABLES["data.generator"]}
    assert {name: OmegaConf.create(f"value: {text}").value for name, text in stated.items()} == {
        name: value for name, value in options.items() if not name.startswith("_")
    }


def test_table_of_the_limits_is_the_means_of_the_tables() -> None:
    columns = ("mean of -20 .. 30 dB: modulation, SNR, combined", "0 .. 30 dB")
    for row in RADIO_TABLES["table"]:
        best = load_bound(row["choices"].strip("`")).blind
        for column, first in zip(columns, (0, best.snr_db.index(0.0)), strict=True):
            means = [score[first:].mean().item() for score in (best.modulation, best.snr, best.combined)]
            assert [float(cell) for cell in row[column].split(",")] == pytest.approx(means, abs=6e-4)


def test_commands_of_the_radio_page_compose(conf: None) -> None:
    typed = [shlex.split(line) for block in listings("", RADIO_PAGE) for line in block.splitlines() if "cvkan-" in line]
    assert {words[0] for words in typed} == {"cvkan-train", "cvkan-data", "cvkan-explain"}
    for command, *words in typed:
        if command == "cvkan-train":
            assert compose("train", overrides=words)
        if command == "cvkan-data":
            assert compose(f"data_{words[0]}", overrides=words[1:])


def test_snippet_of_the_limits_does_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    (snippet,) = listings("python", RADIO_PAGE)
    exec(snippet, names)
    assert names["limit"].modulation.tolist() == pytest.approx([0.82, 1.0, 1.0], abs=0.006)
    assert names["limit"].standard_error(names["limit"].modulation).tolist() == pytest.approx([0.007, 0, 0], abs=5e-4)
    assert eval(snippet.splitlines()[-1], names) == pytest.approx(0.5)


@pytest.mark.slow
def test_run_writes_what_the_radio_page_lists(train_here: Callable[..., Result], tmp_path: Path) -> None:
    small = [f"data.n_{part}=12" for part in ("train", "val", "test")]
    ended = train_here("domain=radio", "data.snr_db=[0,20]", *small, "trainer.max_epochs=1", "output_dir=run")
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {row["choices"].strip("`") for row in RADIO_TABLES["key"]} == metrics.keys()
    pictures = RADIO_PAGE.partition("`plots/` has ")[2].partition("\n\n")[0]
    drawn = {path.stem for path in tmp_path.glob("run/plots/*.png")}
    assert set(re.findall(r"`(\w+)`", pictures)) == drawn - {"polarization", "polarization_layers"}


def test_files_that_the_radio_page_names_exist() -> None:
    for target in re.findall(r"\]\(([\w/.-]+)\)", RADIO_PAGE):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"`(?:python )?((?:cvkan|scripts)/[\w/]+\.\w+)", RADIO_PAGE):
        assert (ROOT / name).exists(), name


@torch.no_grad()
def recovery(block: Callable[..., nn.Module], aggregation: Callable[..., nn.Module], **options: Any) -> list[float]:
    """Share of 6 hidden tokens in phase among the 6 loudest of 64 after each of 3 untrained layers."""
    torch.manual_seed(0)
    backbone = PolarBackbone(16, 3, 1, (64,), partial(block, aggregations={"only": aggregation}, **options))
    theta = 2 * torch.pi * torch.rand(400, 64, 16)
    theta[:, :6] = 2 * torch.pi * torch.rand(400, 1, 16) + 0.5 * torch.randn(400, 6, 16)
    wanted = (torch.arange(64) < 6).float().expand(400, -1)
    layers = backbone.trace((theta.cos(), theta.sin()))
    return [topk_recovery(token_magnitude(layer.z), wanted).mean().item() for layer in layers]


def test_table_of_the_untrained_stack_is_what_it_does() -> None:
    block = PAGE[PAGE.index("| untrained |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in block.splitlines()[2:]]
    found = [
        [recovery(PolarBlock, AgreementAggregation)],
        [recovery(PolarBlock, partial(AgreementAggregation, n_passes=1))],
        [recovery(PolarBlock, MeanAggregation)],
        [recovery(PolarBlock, AgreementAggregation, norm=norm) for norm in (StreamRMSNorm, StreamLogLayerNorm)],
        [recovery(ClassicBlock, AgreementAggregation)],
    ]
    for row, measured in zip(rows, found, strict=True):
        for layer, cell in enumerate(row):
            stated = [float(number) for number in cell.split(",")]
            assert [one[layer] for one in measured] == pytest.approx(stated, abs=0.05)


@pytest.mark.slow
def test_script_behind_the_costs_measures_an_option() -> None:
    script = [sys.executable, str(ROOT / "scripts/option_costs.py"), "--shape", "2", "8", "4", "--heads", "2"]
    quick = ["--repetitions", "1", "--min-seconds", "0", "--only", "norm=batch", "pooling=max"]
    ended = subprocess.run([*script, *quick], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    _, _, usual, batch, pooling = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in ended.stdout.splitlines()
    )
    assert (usual[0], batch[0], pooling[0]) == ("(the default)", "norm=batch", "pooling=max")
    assert int(batch[1]) - int(usual[1]) == 8 * 4  # two norms of 5 D in the place of two of D
    assert int(pooling[1]) == 0
    assert (usual[4], float(batch[4]) > 1) == ("1.00", True)
    assert float(batch[2]) > 0
