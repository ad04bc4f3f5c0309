"""Whether W&B has a key on this machine; it is never sent anywhere from here."""

from __future__ import annotations

import netrc
import os
from pathlib import Path


def has_api_key() -> bool:
    """A key in the environment or in the netrc file that ``wandb login`` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return any("wandb" in host for host in netrc.netrc(str(path)).hosts)
    except (OSError, netrc.NetrcParseError):
        return False
