"""From config to objects: the only module that calls hydra's instantiate.

A ``_target_`` on the command line or in the user's own yaml is the user's choice and may name anything importable.
A config that comes out of a checkpoint is data from outside: :func:`check_targets` admits classes of cvkan alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cvkan.benchmarks.suite import Suite
from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError
from cvkan.spec import Spec
from cvkan.tasks.base import Task

if TYPE_CHECKING:
    from cvkan.domains.radio.convert import LayoutWriter
    from cvkan.explaining.method import Method

ALLOWED_PACKAGE = "cvkan."
# How constructors, of ours and of libraries, say that an argument is wrong: torch says RuntimeError to a negative size,
# and a size of 0 ends in a division by it.
REFUSALS = (
    *(InstantiationException, MisconfigurationException),
    *(ValueError, TypeError, IndexError, ImportError, ArithmeticError, RuntimeError),
)


def build_data(cfg: DictConfig) -> DataModule:
    """The data source ``cfg.data``; its ``spec`` is known, nothing is loaded yet."""
    return _instantiate(cfg, "data")


def build_model(cfg: DictConfig, spec: Spec) -> nn.Module:
    """The network ``cfg.model`` for data of this spec; ``model.compile=true`` compiles it in place."""
    compile_model = cfg.model.compile
    model: nn.Module = _instantiate(cfg, "model", without=("compile",), spec=spec)
    if compile_model:
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            raise UserError(
                "torch cannot compile LSTM and GRU layers into one graph", "model.compile", "Set model.compile=false."
            )
        compile_in_place(model)
    return model


def compile_in_place(model: nn.Module, backend: str = "inductor") -> None:
    """Have calls of a model ``(x, mask)`` compiled, to one graph that takes batches of any size above 1.

    The number of samples is marked as varying, so that last batches cost no compilation of their own (on a CPU one may:
    convolutions choose their kernel at 16 samples). A first batch of another number of tokens costs one, and then any
    number will do. Training, validation and test compile once each. ``dynamic=True`` would mark all sizes: torch 2.11
    fails to compile convolutions of images of unknown size.
    """
    model.compile(fullgraph=True, backend=backend)
    compiled = model._compiled_call_impl
    assert compiled is not None

    def call(x: torch.Tensor, mask: torch.Tensor | None = None, **options: Any) -> Any:
        for tensor in (x, mask):
            if tensor is not None:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return compiled(x, mask, **options)

    model._compiled_call_impl = call


def build_task(cfg: DictConfig, data: DataModule) -> Task:
    """The LightningModule ``cfg.task`` around model, loss, optimizer and scheduler."""
    return _instantiate(
        cfg,
        "task",
        spec=data.spec,
        model=build_model(cfg, data.spec),
        loss=_instantiate(cfg, "loss"),
        augment=data.augment,
        regularizers={name: _instantiate(cfg, f"regularizer.{name}") for name in cfg.regularizer},
        **_optimization(cfg),
    )


def _optimization(cfg: DictConfig) -> dict[str, Any]:
    """Constructors of optimizer and scheduler, called once for show: they refuse wrong values only when called."""
    optimizer, scheduler = _instantiate(cfg, "optimizer"), _instantiate(cfg, "scheduler")
    with _refusals_explained("optimizer"):
        shown = optimizer([nn.Parameter(torch.zeros(()))])
    with _refusals_explained("scheduler"):
        scheduler(shown, total_steps=100)
    return {"optimizer": optimizer, "scheduler": scheduler}


def build_callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """The callbacks of the group ``callbacks``, in the order of the yaml."""
    return [_instantiate(cfg, f"callbacks.{name}") for name in cfg.callbacks]


def build_loggers(cfg: DictConfig) -> list[Any]:
    """The further loggers of the group ``logger``; the CSV logger is not among them, it is always on."""
    return [_instantiate(cfg, f"logger.{name}") for name in cfg.logger]


def build_trainer(cfg: DictConfig, **own: Any) -> pl.Trainer:
    """The Trainer ``cfg.trainer`` with callbacks, loggers and plugins handed in."""
    return _instantiate(cfg, "trainer", **own)


def build_suite(cfg: DictConfig) -> Suite:
    """The benchmark suite ``cfg.suite``."""
    return _instantiate(cfg, "suite")


def build_layout(cfg: DictConfig) -> LayoutWriter:
    """The layout ``cfg.layout`` that ``cvkan-data convert`` writes."""
    return _instantiate(cfg, "layout")


def build_method(cfg: DictConfig) -> Method:
    """The method ``cfg.method`` that ``cvkan-explain`` applies."""
    return _instantiate(cfg, "method")


def _instantiate(cfg: DictConfig, key: str, without: tuple[str, ...] = (), **given: Any) -> Any:
    """Instantiate ``cfg.<key>`` with the ``given`` arguments, which no yaml can hold."""
    node = OmegaConf.select(cfg, key)
    if without:
        # Masked copies lose their place in the tree, and with it their interpolations: resolve those first.
        resolved = OmegaConf.to_container(node, resolve=True)
        assert isinstance(resolved, dict)
        node = OmegaConf.create({name: value for name, value in resolved.items() if name not in without})
    for name in sorted(OmegaConf.missing_keys(node)):
        name = f"{key}.{name.removeprefix(f'{key}.')}"
        raise UserError(f"{name} is not set", key, f"Set {name}=VALUE.")
    _check_nulls(node, key)
    with _refusals_explained(key):
        # Live objects are handed to the constructor itself: hydra would turn a dataclass among them into a dict.
        constructor = instantiate(node, _partial_=True, _convert_="all")
        return constructor if node.get("_partial_") else constructor(**given)


def _check_nulls(node: DictConfig, key: str) -> None:
    """Refuse ``null`` for an argument of a class of cvkan whose annotation does not admit None."""
    if not str(node.get("_target_", "")).startswith(ALLOWED_PACKAGE):
        return
    with _refusals_explained(key):
        parameters = _parameters(get_object(node["_target_"]))
    for name in map(str, node):
        if name in parameters and node[name] is None and "None" not in str(parameters[name].annotation):
            raise UserError(f"{key}.{name} must not be null", key, f"It is of type {parameters[name].annotation}.")


def _parameters(constructor: Any) -> dict[str, inspect.Parameter]:
    """Arguments of a constructor, with those that its ``**`` argument hands on to the base class."""
    found: dict[str, inspect.Parameter] = {}
    for step in inspect.getmro(constructor) if inspect.isclass(constructor) else (constructor,):
        own = inspect.signature(step).parameters
        found = {**own, **found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return found


@contextmanager
def _refusals_explained(key: str) -> Iterator[None]:
    """An argument refused inside the block is the user's error and names ``key``."""
    try:
        yield
    except REFUSALS as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if not isinstance(cause, REFUSALS):
            raise
        text = str(cause) or type(cause).__name__
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("full_key")]
        what, _, fix = " ".join(lines[: 2 if lines[0].endswith(":") else 1]).partition("; ")
        fix = f"{fix[:1].upper()}{fix[1:]}." if fix else f"Check the values of {key}."
        if "ModuleNotFoundError" in what:
            fix = "Install the module, or name its folder in PYTHONPATH."
        raise UserError(what, key, fix) from error


def check_targets(config: Any, where: str, own: Any = None) -> None:
    """Refuse a config out of a checkpoint that names anything but classes of cvkan and those the user names too.

    Args:
        config: plain containers.
        where: the file, for the message.
        own: the user's config (plain containers), whose classes are trusted.

    Raises:
        UserError: a foreign ``_target_``.
    """
    trusted = set(_targets(own))
    for target in _targets(config):
        if target not in trusted and not _is_own(target):
            raise UserError(
                f"the checkpoint's config names {target}, which is not part of cvkan",
                where,
                "Only load checkpoints that cvkan wrote.",
            )


def _is_own(target: str) -> bool:
    """Does a name mean a class or function that a module of cvkan defines?

    What such a module imports can be reached through it as well (``cvkan.x.torch.hub.load``), and could do anything.
    """
    module, _, name = target.rpartition(".")
    if not module.startswith(ALLOWED_PACKAGE):
        return False
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return False
    return callable(found) and found.__module__ == module


def _targets(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _targets(value)
