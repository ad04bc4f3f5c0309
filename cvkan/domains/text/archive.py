"""Archives of published data sets: fetched once, checked, unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from cvkan.errors import DataUnavailableError

TIMEOUT_S = 20  # without an answer or a further piece
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
        """Put the folder into ``root``, out of the archive if that lies there already, else fetched.

        Everything happens in a folder aside, which is renamed when it is whole: an interrupted download must not pass
        for the data.

        Raises:
            DataUnavailableError: it could not be fetched or unpacked, or is not the file that was expected.
        """
        name = self.url.rpartition("/")[2]
        staging, own = root / f"{self.folder}.part", root / name
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            packed = own if own.is_file() else _download(self.url, staging / name)
            with packed.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != self.sha256:
                raise DataUnavailableError(
                    f"{name} is not the expected file: its SHA-256 is {found}, not {self.sha256}",
                    own if packed == own else self.url,
                    f"Get it again, or unpack it in {root} by hand.",
                )
            unpacked = staging / "unpacked"
            if name.endswith(".zip"):
                shutil.unpack_archive(packed, unpacked)
            else:
                shutil.unpack_archive(packed, unpacked, filter="data")
            os.replace(unpacked / self.folder, root / self.folder)
        except (OSError, EOFError, HTTPException, tarfile.TarError) as error:  # shutil.ReadError is an OSError
            raise DataUnavailableError(
                f"could not fetch {name}: {error}",
                self.url,
                f"Check the network and the free space, or put the file into {root} by hand.",
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _download(url: str, path: Path) -> Path:
    """Write what is at ``url`` to a file; its path."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file, PIECE)
    return path
