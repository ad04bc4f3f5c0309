"""Parts, windows and scales of time series, on tables whose every value says where it stands."""

from __future__ import annotations

import csv
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cvkan.domains.datamodule import collate
from cvkan.domains.timeseries.base import TimeSeries
from cvkan.domains.timeseries.ett import ETT
from cvkan.domains.timeseries.synth import DAY, SeriesSynth, generate
from cvkan.domains.timeseries.user_table import CsvSeries
from cvkan.errors import DataUnavailableError, UserError

RUN = {"batch_size": 16, "num_workers": 0, "seed": 0, "limit_train": None}
WINDOW = {"lookback": 8, "pred_len": 4, "quantiles": [], "period": 6}
SHARED = Path(__file__).parents[3] / "shared/data/ett"
START = datetime(2024, 1, 1)
ETT_NAMES = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """A table of hours."""
    n = len(next(iter(columns.values())))
    dates = [START + i * timedelta(hours=1) for i in range(n)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["date", *columns])
        writer.writerows(zip(dates, *columns.values(), strict=True))
    return path


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    """100 rows: one column counts them, the other ten times as much and less 7."""
    count = np.arange(100)
    return write(tmp_path / "counted.csv", {"count": count, "tens": 10 * count - 7})


def table(path: Path, **options: Any) -> CsvSeries:
    choices = {"date_column": "date", "date_format": None, "decimal": "point", "columns": None, "allow_gaps": False}
    parts = {"val_fraction": 0.15, "test_fraction": 0.25, "val_from": None, "test_from": None}
    return CsvSeries(path=str(path), **{**RUN, **WINDOW, **choices, **parts, **options})


def rows_of(data: TimeSeries, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers that past and future of all windows of a part hold, told by the column ``count``."""
    split = data.splits[name]
    (batch,) = DataLoader(split, batch_size=len(split), collate_fn=collate)  # type: ignore[arg-type]
    counts = [(batch[key][..., 0] * data.std[0] + data.mean[0]).round().long() for key in ("x", "y")]
    return counts[0], counts[1]


def test_windows_start_at_every_row_and_only_pasts_reach_into_the_part_before(counted: Path) -> None:
    data = table(counted)
    data.setup()
    for name, first, end in (("train", 8, 60), ("val", 60, 75), ("test", 75, 100)):
        x, y = rows_of(data, name)
        futures = torch.arange(first, end).unfold(0, 4, 1)
        torch.testing.assert_close(y, futures)
        torch.testing.assert_close(x, futures[:, :1] + torch.arange(-8, 0))


def test_columns_are_standardised_by_training_rows_alone(counted: Path) -> None:
    data = table(counted)
    data.setup()
    count = np.arange(60)
    np.testing.assert_allclose(data.mean, [count.mean(), (10 * count - 7).mean()])
    np.testing.assert_allclose(data.std, [count.std(), 10 * count.std()])
    batch = data.splits["test"][3]  # type: ignore[index]
    assert (batch["x"].shape, batch["y"].shape, batch["x"].dtype) == ((8, 2), (4, 2), torch.float32)
    torch.testing.assert_close(batch["y"][0, 0].item(), (78 - count.mean()) / count.std())
    torch.testing.assert_close(batch["x"][:, 0], batch["x"][:, 1])  # one is a line of the other


def test_the_spec_tells_windows_at_once_and_columns_when_they_are_read(counted: Path) -> None:
    data = table(counted, quantiles=[0.1, 0.5, 0.9])
    assert (data.spec.input_shape, data.spec.target, data.spec.n_outputs) == ((8,), "forecast", 12)
    data.setup()
    assert (data.spec.channels, data.spec.quantiles) == (("count", "tens"), (0.1, 0.5, 0.9))


def test_dates_take_the_place_of_fractions(counted: Path) -> None:
    data = table(counted, val_from="2024-01-03", test_from="2024-01-04T12:00")
    data.setup()
    assert rows_of(data, "val")[1][[0, -1]].tolist() == [[48, 49, 50, 51], [80, 81, 82, 83]]
    assert rows_of(data, "test")[1][0].tolist() == [84, 85, 86, 87]


def test_a_month_or_a_year_is_its_first_day(tmp_path: Path) -> None:
    path = tmp_path / "years.csv"
    path.write_text("date,up\n" + "".join(f"{1950 + i},{i}\n" for i in range(70)))
    for dates in ((1990, 2000), ("1990-01", "2000-01"), ("1990", "2000-01-01")):
        data = table(path, date_format="%Y", val_from=dates[0], test_from=dates[1])
        data.setup()
        assert [len(data.windows(name)) for name in ("train", "val", "test")] == [40 - 11, 10 - 3, 20 - 3]
    with pytest.raises(
        UserError, match=r"no date: soon \(data.val_from, data.test_from\)\. Write 2017-07-01, 2017-07 or"
    ):
        table(path, val_from=1990, test_from="soon")


def test_evaluation_drops_no_batch_and_training_order_is_the_seeds(counted: Path) -> None:
    data = table(counted, batch_size=5)
    data.setup()
    assert sum(len(batch["x"]) for batch in data.test_dataloader()) == 25 - 4 + 1
    first, again = (torch.cat([batch["x"] for batch in data.train_dataloader()]) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[:, 0, 0], first[:, 0, 0].sort().values)


def test_limit_train_keeps_some_windows_for_training_and_for_the_fit(counted: Path) -> None:
    data, whole = table(counted, limit_train=20), table(counted)
    data.setup()
    whole.setup()
    assert (len(data.splits["train"]), len(whole.splits["train"])) == (20, 49)  # type: ignore[arg-type]
    x, _ = rows_of(data, "train")
    assert data.windows("train").starts.tolist() == x[:, 0].tolist()
    assert data.fingerprint() != whole.fingerprint()
    np.testing.assert_array_equal(data.mean, whole.mean)


def test_the_fingerprint_follows_values_and_windows(counted: Path, tmp_path: Path) -> None:
    def fingerprint(path: Path, **options: Any) -> str:
        data = table(path, **options)
        data.setup()
        return data.fingerprint()

    count = np.arange(100.0)
    count[50] += 1e-6
    other = write(tmp_path / "other.csv", {"count": count, "tens": 10 * np.arange(100) - 7})
    same = fingerprint(counted)
    assert same == fingerprint(counted, seed=3)
    assert (
        len({same, fingerprint(other), fingerprint(counted, pred_len=5), fingerprint(counted, columns=["count"])}) == 4
    )


def test_a_column_that_is_constant_in_training_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = np.arange(100)
    constant = np.full(100, 0.1)  # its std in floating point is not 0
    late = np.where(count < 80, 5.0, 7.0)  # constant in the training rows alone
    path = write(tmp_path / "t.csv", {"still": constant, "count": count, "late": late, "tens": 10 * count - 7})
    data, plain = table(path), table(path, columns=["count", "tens"])
    data.setup()
    assert "left out, as they are constant in the 60 training rows: still, late" in caplog.text
    plain.setup()
    assert data.spec.channels == data.series.names == ("count", "tens")
    assert data.fingerprint() == plain.fingerprint()
    assert data.baselines() == plain.baselines()  # easy zeros would make the mean errors less


def test_a_constant_column_that_was_asked_for_is_refused(tmp_path: Path) -> None:
    count = np.arange(100)
    path = write(tmp_path / "t.csv", {"still": np.full(100, 0.1), "count": count})
    with pytest.raises(UserError, match=r"constant in the 60 training rows: still \(data\.columns\)\. Take it out"):
        table(path, columns=["count", "still"]).setup()


def test_a_table_of_nothing_but_constants_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", {"still": np.full(100, 3.0), "late": np.where(np.arange(100) < 80, 5.0, 7.0)})
    with pytest.raises(UserError, match="every column is constant in the 60 training rows: still, late"):
        table(path).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lookback": 90, "pred_len": 11},
            r"the train part has 60 of the 100 rows, at least 101 are needed "
            r"\(domain.lookback=90 and domain.pred_len=11\) \(data\)\. Lower both, to 60 in sum, "
            r"or give the part more rows \(data.val_fraction, data.test_fraction\), or take a longer series\.",
        ),
        ({"lookback": 50, "pred_len": 11}, "the train part has 60 of the 100 rows, at least 61 are needed"),
        (
            {"pred_len": 16},
            r"the val part has 15 of the 100 rows, at least 16 are needed \(domain.pred_len=16; .*"
            r"Lower domain.pred_len, to 15, or give the part more rows",
        ),
        (
            {"val_from": "2024-01-03", "test_from": "2024-01-09"},
            r"the test part has 0 of the 100 rows.* Give the part more rows \(data.val_from, data.test_from\), or take",
        ),
        ({"val_from": "2023-01-03", "test_from": "2024-01-03"}, "the train part has 0 of the 100 rows"),
        (
            {"period": 76},
            r"a season of 76 rows is longer than the 75 rows before the test part \(data.period\)\. Set 75 at most",
        ),
    ],
)
def test_a_series_too_short_for_a_window_is_refused(counted: Path, options: dict[str, Any], message: str) -> None:
    data = table(counted, **options)
    with pytest.raises(UserError, match=message):
        data.setup()


def test_the_season_follows_the_dates_unless_it_is_given(counted: Path, caplog: pytest.LogCaptureFixture) -> None:
    given, known = table(counted), table(counted, period=None)
    with caplog.at_level(logging.INFO):
        given.setup()
        assert not caplog.text
        known.setup()
    assert (given.season, known.season) == (6, 24)
    assert "rows are 1:00:00 apart: a season is taken to be 24 of them (data.period)" in caplog.text
    error = np.mean([24 / known.std[0], 240 / known.std[1]])  # columns that rise by 1 and by 10 a row
    assert known.baselines()["baseline/seasonal_naive_mae"] == pytest.approx(error, rel=1e-4)


def test_a_series_without_a_whole_day_has_a_shorter_season(tmp_path: Path) -> None:
    minutes = np.datetime64("2024-01-01T00:00") + np.arange(200)
    path = tmp_path / "minutes.csv"
    path.write_text("date,x\n" + "".join(f"{date},{i % 7}\n" for i, date in enumerate(minutes)))
    data = table(path, period=None)
    data.setup()
    assert data.season == 60


def test_the_shortest_series_has_one_window_a_part(counted: Path) -> None:
    data = table(counted, lookback=45, pred_len=15)
    data.setup()
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [1, 1, 11]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lookback": 1}, "lookback must be a whole number, at least 2, got 1"),
        ({"pred_len": 0}, "pred_len must be a whole number, at least 1, got 0"),
        ({"period": 0}, "period must be a whole number, at least 1, got 0"),
        ({"period": "day"}, "period must be a whole number, at least 1, got 'day'"),
        ({"quantiles": [0.1, 0.9]}, r"name the median 0.5, got \[0.1, 0.9\]"),
        ({"quantiles": [0.5, 0.1]}, "quantiles must rise"),
        ({"quantiles": [0.5, 1.0]}, "quantiles must rise from 0 to 1"),
        ({"val_fraction": 0.0}, "shares that leave rows for training"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "shares that leave rows for training"),
        ({"val_from": "2024-01-03"}, "only one of the two dates is given"),
        ({"val_from": "2024-01-04", "test_from": "2024-01-03"}, "not before test"),
        ({"val_from": "soon", "test_from": "later"}, r"no date: soon \(data\.val_from"),
    ],
)
def test_wrong_arguments_are_refused_at_once(counted: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        table(counted, **options)


def test_a_missing_table_is_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match="there is no such table"):
        table(tmp_path / "none.csv").prepare_data()


def ett(root: Path | None, **options: Any) -> ETT:
    window = {"lookback": 96, "pred_len": 96, "quantiles": [], "period": 24}
    choices = {"root": None if root is None else str(root), "file": "ETTh1.csv", "rows_per_day": 24, "columns": None}
    return ETT(**{**RUN, **window, **choices, **options})


def test_ett_says_where_its_file_comes_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder of ETTh1.csv is given \(data.root\).*ETDataset"):
        ett(None)
    with pytest.raises(DataUnavailableError, match=r"ETTh1\.csv is not there"):
        ett(tmp_path).prepare_data()
    write(tmp_path / "ETTh1.csv", {"OT": np.arange(200)})
    with pytest.raises(UserError, match="the table has 200 rows, the published parts take 14400"):
        ett(tmp_path).setup()


@pytest.mark.parametrize(("rows_per_day", "sizes"), [(24, (8449, 2785, 2785)), (96, (34369, 11425, 11425))])
def test_ett_parts_are_twelve_four_and_four_months(
    tmp_path: Path, rows_per_day: int, sizes: tuple[int, int, int]
) -> None:
    write(tmp_path / "ETT.csv", {"count": np.arange(605 * rows_per_day)})
    data = ett(tmp_path, file="ETT.csv", rows_per_day=rows_per_day)
    data.setup()
    assert tuple(len(data.splits[name]) for name in ("train", "val", "test")) == sizes  # type: ignore[arg-type]
    last = data.splits["test"][sizes[2] - 1]["y"][-1, 0].item() * data.std[0] + data.mean[0]  # type: ignore[index]
    assert round(last) == 600 * rows_per_day - 1  # later rows are not used


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is absent")
def test_etth1_gives_the_known_windows_and_baselines() -> None:
    data = ett(SHARED)
    data.setup()
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [8449, 2785, 2785]  # type: ignore[arg-type]
    assert data.spec.channels == ETT_NAMES
    figures = data.baselines()
    known = {
        "last_value": (1.294, 0.713),  # of a correct pipeline; any other split or scale gives other figures
        "linear": (0.381, 0.393),
        "seasonal_naive": (0.512, 0.433),
        "linear_centered": (0.383, 0.392),
    }
    for name, errors in known.items():
        found = (figures[f"baseline/{name}_mse"], figures[f"baseline/{name}_mae"])
        assert found == pytest.approx(errors, abs=6e-4), name


def synth(**options: Any) -> SeriesSynth:
    choices = {"n_rows": 3000, "regime_rows": 500.0, "noise_std": 0.3, "val_fraction": 0.2, "test_fraction": 0.2}
    return SeriesSynth(**{**RUN, **WINDOW, **choices, "data_seed": 0, **options})


def test_generated_series_follow_the_data_seed_alone() -> None:
    prints = []
    for options in ({}, {"seed": 4}, {"data_seed": 1}):
        data = synth(**options)
        data.setup()
        prints.append(data.fingerprint())
    assert prints[0] == prints[1] != prints[2]
    assert len(data.spec.channels) == 7
    assert np.unique(np.diff(data.series.dates)).tolist() == [timedelta(hours=1)]


def test_generated_days_and_weeks_repeat_and_weekends_are_weaker() -> None:
    values = generate(24 * 7 * 20, 1e9, 0.0, np.random.default_rng(0))  # one regime, no noise
    slope = (values[-168] - values[0]) / (len(values) - 168)  # hours of equal weekday and clock
    values = values - slope * np.arange(len(values))[:, None]
    spectrum = np.abs(np.fft.rfft(values - values.mean(0), axis=0)) ** 2  # line k: k periods in 20 weeks
    at_lines = spectrum[20::20].sum(0) / spectrum.sum(0)
    assert at_lines.min() > 0.99  # a week's harmonics, those of the day among them
    days = values.reshape(-1, 7, DAY, 7).std(axis=2).mean(axis=0)  # (weekday, C)
    assert (days[5:].max(axis=0) < 0.75 * days[:5].min(axis=0)).all()


def test_generated_noise_is_autoregressive_and_regimes_move_the_level() -> None:
    generator = np.random.default_rng(3)
    noisy = generate(20000, 1e9, 0.5, generator) - generate(20000, 1e9, 0.0, np.random.default_rng(3))
    assert noisy.std(axis=0) == pytest.approx([0.5] * 7, abs=0.05)
    lags = [[np.corrcoef(c[:-k], c[k:])[0, 1] for c in noisy.T] for k in (1, 3)]
    assert all(0.65 < rho < 0.97 for rho in lags[0])
    assert lags[1] == pytest.approx(np.array(lags[0]) ** 3, abs=0.05)  # order one
    levels = generate(20000, 300, 0.0, np.random.default_rng(0)).reshape(-1, 200, 7).mean(axis=1)  # (100, C)
    assert (levels.std(axis=0) > 0.3).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 0}, "n_rows must be at least 1"),
        ({"regime_rows": 0.5}, "regime_rows must be at least 1"),
        ({"noise_std": -0.1}, "noise_std must be at least 0"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave rows for training"),
    ],
)
def test_wrong_sizes_of_generated_series_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        synth(**options)


def test_no_linear_forecast_is_exact_on_generated_series() -> None:
    data = synth(lookback=96, pred_len=24, period=24, noise_std=0.0)
    data.setup()
    figures = data.baselines()
    assert 0.05 < figures["baseline/linear_centered_mse"] < figures["baseline/last_value_mse"]
