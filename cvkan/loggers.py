"""Loggers beside the CSV file that every run writes."""

from __future__ import annotations

import logging
import netrc
import os
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)


def wandb_logger(save_dir: str, project: str, name: str | None, group: str | None, offline: bool | None) -> WandbLogger:
    """A W&B logger that never prompts and never hangs: without an API key it writes an offline run and says so.

    Args:
        save_dir: the run directory; W&B writes below ``save_dir/wandb``.
        project: W&B project.
        name: display name; None for the name of the run directory.
        group: W&B group.
        offline: None decides by the presence of a key.
    """
    if offline is None:
        offline = not has_api_key()
        if offline:
            log.info("wandb: there is no API key, so the run is logged offline")
    if offline:
        log.info("wandb: upload the run later with: wandb sync %s/wandb/offline-run-*", save_dir)
    # Settings are fixed before wandb.init, so that it has nothing to ask.
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_INIT_TIMEOUT", "30")
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        project=project,
        name=name or Path(save_dir).name,
        group=group,
        save_dir=save_dir,
        offline=offline,
        log_model=False,
    )


def has_api_key() -> bool:
    """A key in the environment or in the netrc file that ``wandb login`` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return any("wandb" in host for host in netrc.netrc(str(path)).hosts)
    except (OSError, netrc.NetrcParseError):
        return False
