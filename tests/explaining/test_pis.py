"""The perturbation impact score of networks whose answers are known, on images, on I/Q frames and on PNG files."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.base import RadioData, RadioSplit, radio_spec
from cvkan.domains.radio.layout import LayoutOptions
from cvkan.domains.radio.png_tree import ConstellationImages
from cvkan.errors import UserError
from cvkan.explaining.blackout import BlackoutWriter
from cvkan.explaining.method import Explanation
from cvkan.explaining.pis import PerturbationImpact
from cvkan.explaining.trained import Trained, taken_renderer
from cvkan.models.baselines.convnet import ConvNet
from cvkan.models.heads import LinearHead
from cvkan.radio.images import Histogram
from cvkan.spec import Batch, Spec

LOADING: dict[str, Any] = {"batch_size": 7, "num_workers": 0, "seed": 0, "limit_train": None}
SIZE = 12


class Samples(RadioSplit):
    """Samples in memory, in any order."""

    def __init__(self, x: Tensor, labels: Tensor, order: Tensor) -> None:
        self.x, self.labels, self.ids = x[order], labels[order], order

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices)
        return {"x": self.x[rows], "y": self.labels[rows], "id": self.ids[rows]}


class InMemory(RadioData):
    """Two modulations at two SNRs, all of it the test part; nothing is trained."""

    snr_definition = "es_n0"

    def __init__(self, x: Tensor, labels: Tensor, order: Tensor | None = None, **loading: Any) -> None:
        super().__init__(normalization="none", **{**LOADING, **loading})
        self.spec = radio_spec(["A", "B"], [0.0, 10.0], tuple(x.shape[1:]), x.is_complex())
        self.split = Samples(x, labels, torch.arange(len(x)) if order is None else order)

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        labels = torch.cartesian_prod(torch.arange(2), torch.arange(2))
        unused = Samples(self.split.x[:1].repeat_interleave(4, dim=0), labels, torch.arange(4))
        return {"train": unused, "val": unused, "test": self.split}

    def check_cells(self, part: str, labels: Tensor) -> None:
        """A test may ask about frames of one modulation alone."""


class Peak(nn.Module):
    """Says modulation B if any element is above 1/2, and always the lower SNR."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        peak = x.abs().flatten(1).amax(dim=1)
        zero = torch.zeros_like(peak)
        return torch.stack([zero + 0.5, peak, zero + 1, zero], dim=1)


def trained(model: nn.Module, data: RadioData) -> Trained:
    data.setup()
    return Trained(model.eval(), taken_renderer(model), data, torch.device("cpu"), Path("best.ckpt"))


def score(model: nn.Module, data: RadioData, **options: Any) -> Explanation:
    arguments = {"levels": [1, 5], "seed": 0, "limit": None, "write_png": None, **options}
    with torch.inference_mode():
        return PerturbationImpact(**arguments).explain(trained(model, data))


def with_a_peak(n: int = 20) -> tuple[Tensor, Tensor]:
    """Images of 144 pixels: one of 1, 99 of 1/4, the others black. All are of modulation B, half of them at 0 dB."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.zeros(n, SIZE * SIZE)
    for row in pixels:
        places = torch.randperm(SIZE * SIZE, generator=generator)
        row[places[:100]] = 0.25
        row[places[0]] = 1.0
    labels = torch.stack([torch.ones(n, dtype=torch.long), torch.arange(n) % 2], dim=1)
    return pixels.view(n, 1, SIZE, SIZE), labels


def row_of(results: Any, mask: str, level: int) -> dict[str, Any]:
    (found,) = [row for row in results["rows"] if (row["mask"], row["level"]) == (mask, level)]
    return found


def test_scores_of_a_network_that_looks_at_the_peak_alone() -> None:
    results = score(Peak(), InMemory(*with_a_peak())).results
    assert results["clean_accuracy"] == {"modulation": 1.0, "snr": 0.5, "combined": 0.5}
    assert (results["count"], results["unit"], results["snr_definition"]) == (20, "pixels", "es_n0")
    top = row_of(results, "top", 1)
    assert top["removed_mean"] == 1
    assert top["accuracy"] == {"modulation": 0.0, "snr": 0.5, "combined": 0.0}
    assert top["drop"] == {"modulation": 1.0, "snr": 0.0, "combined": 0.5}
    assert top["drop_standard_error"]["modulation"] == 0
    # One of 100 lit pixels, one of all 144, and 1 of an intensity of 1 + 99/4.
    for share, expected in {"nominal": 0.01, "area": 1 / 144, "intensity": 1 / 25.75}.items():
        assert top["share"][share] == pytest.approx(expected)
        assert top["pis"][share]["modulation"] == pytest.approx(1 / expected)
        assert top["pis"][share]["snr"] == 0
        assert top["pis"][share]["combined"] == pytest.approx(0.5 / expected)
    bottom = row_of(results, "bottom", 5)
    assert bottom["removed_mean"] == 5
    assert bottom["share"]["intensity"] == pytest.approx(1.25 / 25.75)
    assert bottom["drop"] == {"modulation": 0.0, "snr": 0.0, "combined": 0.0}
    random, top = row_of(results, "random", 5), row_of(results, "top", 5)
    assert random["pis_minus_random"]["nominal"]["modulation"] == 0
    expected = top["pis"]["area"]["modulation"] - random["pis"]["area"]["modulation"]
    assert top["pis_minus_random"]["area"]["modulation"] == pytest.approx(expected)


def test_scores_by_snr_count_the_frames_of_that_snr() -> None:
    x, labels = with_a_peak()
    labels[:, 1] = (torch.arange(20) < 5).long()  # 15 at 0 dB
    records = score(Peak(), InMemory(x, labels), levels=[1]).results["per_snr"]
    top = [record for record in records if record["mask"] == "top"]
    assert [(record["snr_db"], record["count"]) for record in top] == [(0.0, 15), (10.0, 5)]
    assert [record["clean_accuracy"]["combined"] for record in top] == [1.0, 0.0]
    assert [record["accuracy"]["modulation"] for record in top] == [0.0, 0.0]
    assert [record["accuracy"]["snr"] for record in top] == [1.0, 0.0]


class Moody(nn.Module):
    """A fixed network whose answer to an image depends on every pixel."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(SIZE * SIZE, 4, generator=torch.Generator().manual_seed(1))
        self.register_buffer("weights", weights - weights.mean(dim=0))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x.flatten(1) @ self.weights


def mixed(n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand(n, 1, SIZE, SIZE, generator=generator) * 4).floor() / 4
    return x, torch.randint(2, (n, 2), generator=generator)


def test_frames_are_paired_by_id_whatever_order_and_batch_they_come_in() -> None:
    x, labels = mixed()
    turned = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    expected = score(Moody(), InMemory(x, labels), levels=[5, 40]).results
    found = score(Moody(), InMemory(x, labels, turned, batch_size=11), levels=[5, 40]).results
    assert found == expected
    assert any(row["drop"]["modulation"] for row in expected["rows"])
    assert any(row["drop_standard_error"]["modulation"] > 0.05 for row in expected["rows"])


def test_seeds_draw_other_pixels_of_the_same_frames() -> None:
    x, labels = mixed()
    first, again, other = (
        score(Moody(), InMemory(x, labels), levels=[40], limit=25, seed=seed).results for seed in (0, 0, 1)
    )
    assert first == again
    assert first["count"] == 25
    assert first["clean_accuracy"] == other["clean_accuracy"]
    assert row_of(first, "random", 40)["share"] != row_of(other, "random", 40)["share"]


def test_black_images_have_no_score_by_what_was_removed() -> None:
    _, labels = with_a_peak(4)
    row = row_of(score(Peak(), InMemory(torch.zeros(4, 1, SIZE, SIZE), labels)).results, "top", 5)
    assert row["removed_mean"] == 0
    assert row["pis"]["nominal"]["modulation"] == 0
    assert np.isnan(row["pis"]["area"]["modulation"])


def test_networks_of_iq_frames_lose_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    phase = torch.exp(1j * torch.rand(8, 100, generator=generator) * 6.28)
    x = (0.3 * phase).to(torch.complex64)
    x[torch.arange(8), torch.arange(8) * 5] *= 3  # one sample of magnitude 0.9
    labels = torch.tensor([[1, 0]] * 8)
    results = score(Peak(), InMemory(x, labels)).results
    assert results["unit"] == "samples"
    assert row_of(results, "top", 1)["pis"]["nominal"]["modulation"] == pytest.approx(100)
    assert row_of(results, "top", 1)["share"]["intensity"] == pytest.approx(0.81 / (0.81 + 99 * 0.09))
    assert row_of(results, "bottom", 5)["drop"]["modulation"] == 0


def test_network_for_images_is_asked_about_the_images_it_draws() -> None:
    torch.manual_seed(0)
    frames = torch.randn(12, 64, dtype=torch.complex64)
    labels = torch.tensor([[0, 0], [1, 1]] * 6)
    picture = Histogram(size=SIZE, limit=3.0, reference=8)
    sizes = {"d_model": 8, "n_layers": 1, "stem_stride": 1, "kernel_size": 3, "expansion": 2.0, "dropout": 0.0}
    drawn, stored = InMemory(frames, labels), InMemory(picture(frames), labels)
    model = ConvNet(drawn.spec, **sizes, image=picture, head=LinearHead).eval()
    for_files = ConvNet(stored.spec, **sizes, image=picture, head=LinearHead).eval()
    for_files.load_state_dict(model.state_dict())
    logits = model(frames)
    draw = taken_renderer(model)
    torch.testing.assert_close(model(draw(frames)), logits)
    model.image.draw = draw
    found, expected = score(model, drawn, levels=[40]).results, score(for_files, stored, levels=[40]).results
    assert found["unit"] == "pixels"
    assert found["rows"] == expected["rows"]


def test_table_and_picture_show_the_scores() -> None:
    found = score(Peak(), InMemory(*with_a_peak()))
    figure = found.pictures["pis"]
    figure.savefig(io.BytesIO(), format="png")
    accuracy, scores = figure.axes[0], figure.axes[3]
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[0, 100], [1, 0], [5, 0]])  # top
    np.testing.assert_allclose(scores.lines[0].get_xydata(), [[1, 100], [5, 20]])
    assert list(found.table.columns[0].cells)[:2] == ["nothing", "top 1 %"]
    assert list(found.table.columns[2].cells)[:2] == ["", "100.000"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": []}, "set ascending integers"),
        ({"levels": [5, 1]}, "set ascending integers"),
        ({"levels": [1, 1]}, "set ascending integers"),
        ({"levels": [0]}, "of 1 to 100 percent"),
        ({"levels": [101]}, "of 1 to 100 percent"),
        ({"levels": [0.5]}, "ascending integers"),
        ({"limit": 0}, "limit is 0; set 1 frame or more, or null"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerturbationImpact(**{"levels": [1], "seed": 0, "limit": None, "write_png": None, **options})


def png_tree(root: Path, n: int = 20, n_channels: int = 1) -> ConstellationImages:
    """A tree of two modulations at two SNRs, and the source on it."""
    generator = np.random.default_rng(0)
    kind = {1: "grayscale", 3: "three_channel"}[n_channels]
    for name in ("A", "B"):
        for level in ("SNR_0", "SNR_10"):
            folder = root / name / level
            folder.mkdir(parents=True)
            for k in range(n):
                pixels = generator.integers(0, 4, (SIZE, SIZE, 3), dtype=np.uint8) * 50
                pixels = pixels[..., 0] if n_channels == 1 else pixels
                Image.fromarray(pixels).save(folder / f"{kind}_{name}_{level}_sample_{k}.png")
    return tree_source(root, kind)


def tree_source(root: Path, kind: str, variant: str | None = None) -> ConstellationImages:
    data = ConstellationImages(
        root=str(root),
        kind=kind,
        size=SIZE,
        variant=variant,
        layout=LayoutOptions(["A", "B"], [0.0, 10.0], 20),
        threads=2,
        **{"classes": None, "snr_db": None, "val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 42},
        **{"split_file": None, "normalization": "none", **LOADING},
    )
    data.setup()
    return data


def images_of(data: ConstellationImages) -> dict[int, Tensor]:
    split = data.splits["test"]
    batch = data.preprocess(split.__getitems__(list(range(len(split)))))  # type: ignore[attr-defined, arg-type]
    return dict(zip(batch["id"].tolist(), batch["x"], strict=True))


@pytest.mark.parametrize("n_channels", [1, 3])
def test_written_copies_are_the_images_that_were_scored(n_channels: int, tmp_path: Path) -> None:
    data = png_tree(tmp_path / "tree", n_channels=n_channels)
    kind = "grayscale" if n_channels == 1 else "three_channel"
    weights = torch.randn(n_channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1))

    class Weighing(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            side = ((x - 0.3) * weights).sum(dim=(1, 2, 3))
            return torch.stack([side, -side, side, -side], dim=1)

    results = score(Weighing(), data, levels=[5, 10], write_png=str(tmp_path / "tree")).results
    assert len(list((tmp_path / "tree").rglob("*_blackout.png"))) == 16 * 6
    clean = images_of(data)
    for order in ("top", "bottom", "random"):
        copies = tree_source(tmp_path / "tree", kind, variant=f"{order}10")
        found = images_of(copies)
        assert found.keys() == clean.keys()
        for number, image in clean.items():
            lit = image.amax(dim=0) > 0
            gone = lit & (found[number].amax(dim=0) == 0)
            assert gone.sum() == max(1, round(0.1 * int(lit.sum())))
            assert torch.equal(found[number], image.masked_fill(gone, 0))
        accuracy = score(Weighing(), copies, levels=[1]).results["clean_accuracy"]
        assert accuracy == row_of(results, order, 10)["accuracy"]


def test_copies_go_to_another_folder_with_the_layout_of_the_tree(tmp_path: Path) -> None:
    data = png_tree(tmp_path / "tree")
    score(Peak(), data, levels=[5], limit=3, write_png=str(tmp_path / "other"))
    names = sorted(str(path.relative_to(tmp_path / "other")) for path in (tmp_path / "other").rglob("*.png"))
    assert len(names) == 9
    assert not list((tmp_path / "tree").rglob("*_blackout.png"))
    originals = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*.png")}
    stems = {name.removesuffix("_blackout.png").rpartition("_")[0] + ".png" for name in names}
    assert len(stems) == 3
    assert stems < originals
    assert {name.split("_")[-2] for name in names} == {"top5", "bottom5", "random5"}


def test_copies_of_another_seed_or_other_images_are_refused(tmp_path: Path) -> None:
    facts = {"kind": "grayscale", "normalization": "power"}
    png_tree(tmp_path / "tree")
    to = tmp_path / "copies"

    def write(seed: int, **changed: str) -> None:
        (tmp_path / "tree/constellations.json").write_text(json.dumps({**facts, **changed}))
        data = tree_source(tmp_path / "tree", "grayscale")
        score(Peak(), data, levels=[5], limit=3, seed=seed, write_png=str(to))

    write(1)
    assert json.loads((to / "blackouts.json").read_text()) == {"seed": 1, "images": facts}
    content = {path: path.read_bytes() for path in to.rglob("*.png")}
    write(1)
    with pytest.raises(UserError, match=r"holds copies of seed 1 .*method\.write_png=DIR"):
        write(2)
    with pytest.raises(UserError, match="holds copies of other images"):
        write(1, normalization="none")
    (to / "blackouts.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be read"):
        write(1)
    (to / "blackouts.json").unlink()
    with pytest.raises(UserError, match=r"copies that no blackouts\.json describes"):
        write(1)
    assert {path: path.read_bytes() for path in to.rglob("*.png")} == content


def test_only_clean_images_of_a_tree_can_be_copied(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only the images of a PNG tree"):
        score(Peak(), InMemory(*with_a_peak()), write_png=str(tmp_path))
    score(Peak(), png_tree(tmp_path / "tree"), levels=[5], write_png=str(tmp_path / "tree"))
    with pytest.raises(UserError, match=r"data\.variant=null"):
        BlackoutWriter(tree_source(tmp_path / "tree", "grayscale", "top5"), str(tmp_path), 0)


def test_other_data_than_radio_is_refused() -> None:
    data = DataModule(**LOADING)
    data.spec = Spec((1, SIZE, SIZE), "classes", 2)
    with pytest.raises(UserError, match=r"the data has targets of kind 'classes' \(best.ckpt\)"):
        PerturbationImpact(levels=[1], seed=0, limit=None, write_png=None).check(data, "best.ckpt")
