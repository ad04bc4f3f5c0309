"""What makes a job the job it is: the hash of its resolved config."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

# Where a run lives and what it shows on the way. The same fixed values for all, for other values are derived of them.
ELSEWHERE = {"output_dir": "RUN", "ckpt": None, "debug": False, "logger": None, "sweep": None}
# How fast data are read, at any depth. Where they lie counts: a sweep may go over folders.
CIRCUMSTANCES = {"num_workers", "download", "max_memory_gb"}


def config_hash(cfg: DictConfig) -> str:
    """SHA-256 of the resolved config, in hexadecimal, without what does not change the result.

    Args:
        cfg: the composed config of ``conf/train.yaml``, with or without Hydra's own section.

    Raises:
        OmegaConfBaseException: an interpolation cannot be resolved.
    """
    copy = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    for key, value in ELSEWHERE.items():
        copy[key] = value
    plain = _essential(OmegaConf.to_container(copy, resolve=True))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _essential(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _essential(item) for key, item in value.items() if key not in CIRCUMSTANCES}
    if isinstance(value, list):
        return [_essential(item) for item in value]
    return value
