"""Archives of published data sets: fetched once, checked, unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cvkan.errors import DataUnavailableError

TIMEOUT_S = 60  # without an answer or a further piece
PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Archive:
    """A data set on the network.

    Attributes:
        url: of a zip or tar.gz file.
        sha256: of this file, in hexadecimal digits.
        folder: the one folder that it holds.
    """

    url: str
    sha256: str
    folder: str

    def fetch(self, root: Path) -> None:
        """Put the folder into ``root``.

        Everything happens in a folder aside, which is renamed when it is whole: an interrupted download must not pass
        for the data.

        Raises:
            DataUnavailableError: it could not be fetched or unpacked, or is not the file that was expected.
        """
        name = self.url.rpartition("/")[2]
        staging = root / f"{self.folder}.part"
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            found = _download(self.url, staging / name)
            if found != self.sha256:
                raise DataUnavailableError(
                    f"{name} is not the expected file: its SHA-256 is {found}, not {self.sha256}",
                    self.url,
                    "Try again, or put the data there by hand.",
                )
            unpacked = staging / "unpacked"
            if name.endswith(".zip"):
                shutil.unpack_archive(staging / name, unpacked)
            else:
                shutil.unpack_archive(staging / name, unpacked, filter="data")
            os.replace(unpacked / self.folder, root / self.folder)
        except (OSError, EOFError, tarfile.TarError) as error:  # URLError and shutil.ReadError are OSErrors
            raise DataUnavailableError(
                f"could not fetch {name}: {error}", self.url, "Check the network and the free space."
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _download(url: str, path: Path) -> str:
    """Write what is at ``url`` to a file, and give its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
        while piece := response.read(PIECE):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
