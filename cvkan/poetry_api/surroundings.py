"""A run inside somebody's own program or notebook: what it says is seen, and what it changes is put back."""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra

from cvkan.training import quiet_lightning

OURS = logging.getLogger("cvkan")  # above those of all modules
SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")


@contextmanager
def left_as_found() -> Iterator[None]:
    """Put back what Lightning and a run change for the whole process.

    These are the levels of loggers, the filters of warnings, the states of the global random generators, and the seed
    in the environment.
    """
    seeds = {name: os.environ.get(name) for name in SEED_VARIABLES}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002, nothing is drawn
    cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all()
    loggers = [item for item in logging.root.manager.loggerDict.values() if isinstance(item, logging.Logger)]
    levels = {logger: logger.level for logger in loggers}
    try:
        with warnings.catch_warnings():
            quiet_lightning()
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)
        for name, value in seeds.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def told() -> Iterator[None]:
    """Show what cvkan logs as plain lines on stdout, unless the program shows it already."""
    if OURS.isEnabledFor(logging.INFO) and OURS.hasHandlers():
        yield
        return
    level, propagate = OURS.level, OURS.propagate
    handler = logging.StreamHandler(sys.stdout)
    OURS.addHandler(handler)
    OURS.setLevel(logging.INFO)
    OURS.propagate = False
    try:
        yield
    finally:
        OURS.removeHandler(handler)
        OURS.setLevel(level)
        OURS.propagate = propagate


@contextmanager
def hushed() -> Iterator[None]:
    """Show errors alone of what cvkan logs: all else has been said."""
    level = OURS.level
    OURS.setLevel(logging.ERROR)
    try:
        yield
    finally:
        OURS.setLevel(level)


@contextmanager
def hydra_aside() -> Iterator[None]:
    """Compose configs beside whatever Hydra does around: its app keeps its state."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer
