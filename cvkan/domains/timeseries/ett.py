"""``data=etth1|etth2|ettm1``: electricity transformers, hourly or by quarters of an hour, under the published protocol.

Source: H. Zhou et al., "Informer: beyond efficient transformer for long sequence time-series forecasting", AAAI 2021;
files: github.com/zhouhaoyi/ETDataset, folder ETT-small.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from cvkan.domains.timeseries.base import TimeSeries, Windowing
from cvkan.domains.timeseries.table import Layout, Series, read_table
from cvkan.errors import DataUnavailableError, UserError

PART_DAYS = (360, 120, 120)  # twelve, four and four months of 30 days; later rows are not used
FETCH = "Get it from github.com/zhouhaoyi/ETDataset, folder ETT-small, and set data.root=DIR; or use data=series_synth."


class ETT(TimeSeries):
    """One of the ETT files: the first 360 days for training, 120 for validation, 120 for test.

    Args:
        root: folder of the file.
        file: its name.
        rows_per_day: 24 (hourly) or 96.
        columns: series to use; None for all seven.
        windowing: see :class:`~cvkan.domains.timeseries.base.Windowing`.

    Raises:
        UserError: no folder is given, or the file is no such table.
        DataUnavailableError: the file is not there.
    """

    def __init__(
        self,
        *,
        root: str | None,
        file: str,
        rows_per_day: int,
        columns: Sequence[str] | None,
        **windowing: Unpack[Windowing],
    ) -> None:
        super().__init__(**windowing)
        if root is None:
            raise UserError(f"no folder of {file} is given", "data.root", FETCH)
        self.path = Path(root).expanduser() / file
        self.names_columns = columns is not None
        # The protocol counts rows, whatever their dates.
        self.layout = Layout("date", date_format=None, decimal="point", columns=columns, allow_gaps=True)
        self.n_rows = tuple(days * rows_per_day for days in PART_DAYS)

    def prepare_data(self) -> None:
        """Look whether the file is there."""
        if not self.path.is_file():
            raise DataUnavailableError(f"{self.path.name} is not there", self.path.parent, FETCH)

    def read_series(self) -> Series:
        return read_table(self.path, self.layout)

    def part_rows(self, dates: np.ndarray) -> tuple[int, int, int]:
        if len(dates) < sum(self.n_rows):
            what = f"the table has {len(dates)} rows, the published parts take {sum(self.n_rows)}"
            raise UserError(what, self.path, "Get the whole file, or use data=csv.")
        n_train, n_val, n_test = self.n_rows
        return n_train, n_val, n_test
