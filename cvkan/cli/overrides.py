"""Overrides a person typed: types checked against the yaml's defaults, mistakes explained in one line."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from cvkan.cli.kinds import check_kind
from cvkan.errors import UserError

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

# Groups that only some sections refer to, and the section that is blamed where none does; None: the root.
# The task judges `regularizer` itself, by the model that was built.
PARTS = {
    **dict.fromkeys(("embedding", "position", "block", "psi", "linear", "aggregation", "interaction", "heads")),
    **dict.fromkeys(("norm", "centering", "readout", "pooling", "image", "task_head", "skip")),
    "snr_loss": "loss",
    **dict.fromkeys(("decoder", "teacher_forcing"), "task"),
    "memory": "decoder",
}

# Choices that come with packages of an extra.
EXTRAS = {
    "hydra/launcher=joblib": "parallel",
    **dict.fromkeys(("hydra/launcher=submitit_local", "hydra/launcher=submitit_slurm"), "slurm"),
}


def check(cfg: DictConfig, config_name: str, typed: list[str], root: str) -> None:
    """Refuse a value of another type than the yaml's default, and added keys that nothing reads.

    The default of a key states its type; ``null`` and strings take anything. So every yaml is its own schema.

    Args:
        cfg: the composed config.
        config_name: primary config, to compose the defaults.
        typed: overrides as typed, e.g. ``["domain=audio", "optimizer.lr=abc"]``.
        root: the section that refers to the building blocks it is made of, ``model`` or ``suite``.

    Raises:
        UserError: a value of the wrong type, a key added at the top level, or a choice that has no effect.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(typed)
    groups = [item for item in parsed if _is_group(item.key_or_group)]
    defaults = _compose(config_name, [item.input_line for item in groups if item.input_line])
    for item in parsed:
        key = item.key_or_group
        if item in groups:
            continue
        if item.is_add() and "." not in key and key not in defaults:
            raise UserError(
                f"+{key} adds a key that nothing reads",
                "command line",
                f"Known keys: {_near(key, defaults)}.",
            )
        default, value = _value(defaults, key), _value(cfg, key)
        if value is not None:
            check_kind(key, value, default)
    for item in parsed:
        _check_used(cfg, item.key_or_group, root)


def check_flags(arguments: list[str], command: str) -> None:
    """Refuse ``--key value`` and the like in one line, where Hydra's parser would print its usage.

    Raises:
        UserError: a flag that Hydra does not know, or a wrong value of one that it does.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UserError(message, "command line", f"Keys are set as key=value; see {command} --help.")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


def with_config_of_run(arguments: list[str]) -> list[str]:
    """``ckpt=RUN/checkpoints/NAME.ckpt`` without any choice of a config means that run, so its own config is taken.

    Args:
        arguments: as typed.

    Returns:
        The arguments for Hydra, with ``--config-dir RUN --config-name config`` in front if so.
    """
    ckpts = [argument.removeprefix("ckpt=") for argument in arguments if argument.startswith("ckpt=")]
    chooses = any(
        argument.startswith("-") or _is_group(argument.split("=", 1)[0].lstrip("+~")) for argument in arguments
    )
    if len(ckpts) != 1 or chooses:
        return arguments
    run = Path(ckpts[0]).resolve().parent.parent
    if not (run / "config.yaml").is_file():
        return arguments
    return ["--config-dir", str(run), "--config-name", "config", *arguments]


def explain(error: Exception, config_name: str, typed: list[str]) -> UserError:
    """What Hydra or OmegaConf refused, as one line with the closest choice."""
    from hydra.errors import OverrideParseException

    text = str(error)
    options = getattr(error, "options", None)
    missing = getattr(error, "missing_cfg_file", None)
    group, _, choice = str(missing).removesuffix(".yaml").rpartition("/")
    if missing and (extra := EXTRAS.get(f"{group}={choice}")):
        return UserError(f"{group}={choice} is not installed", group, f"Install it: pip install 'cvkan[{extra}]'.")
    if missing and group:
        options = options or _choices(group)
        near = difflib.get_close_matches(choice, options, 1, 0.5)
        hint = f"Did you mean {group}={near[0]}? " if near else ""
        return UserError(f"{group}={choice} does not exist", group, f"{hint}Choices: {', '.join(options) or 'none'}.")
    if isinstance(error, OverrideParseException) and "=" in error.override:
        key, _, value = error.override.partition("=")
        quoted = shlex.quote(f'{key}="{value}"')
        fix = "Lists are written [a, b]." if value.startswith("(") else f"Quote the value: {quoted}."
        return UserError(f"{error.override} cannot be read", "command line", fix)
    if merged := re.search(r"Error merging override '?([^'=\s]+)=", text):
        key = merged.group(1)
        default = _value(_compose(config_name, _groups(typed)), key)
        return UserError(f"{key} takes no section with keys", "command line", f"The default is {key}={default}.")
    match = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if match and "Interpolation" not in type(error).__name__:
        key = match.group(1)
        defaults = _compose(config_name, _groups(typed))
        return UserError(f"no such key {key}", "command line", f"Closest known: {_near(key, defaults)}.")
    first = [line.strip() for line in text.splitlines() if line.strip()]
    return UserError("; ".join(first[:2]) or type(error).__name__, "config", "See --help.")


def _groups(typed: list[str]) -> list[str]:
    """The overrides that choose something of a group."""
    return [line for line in typed if _is_group(line.split("=", 1)[0].lstrip("+~"))]


def _near(key: str, defaults: DictConfig) -> str:
    """The up to three known keys closest to ``key``: by the last part in its section, anywhere, then as a whole."""
    known = list(_keys(OmegaConf.to_container(defaults, resolve=False)))
    section, _, name = key.rpartition(".")

    def by_name(keys: list[str], cutoff: float) -> list[str]:
        names = difflib.get_close_matches(name, {other.rpartition(".")[2] for other in keys}, 3, cutoff)
        return [other for match in names for other in keys if other.rpartition(".")[2] == match][:3]

    siblings = [other for other in known if other.rpartition(".")[0] == section]
    near = by_name(siblings, 0.3 if section else 0.7) or by_name(known, 0.7)
    return ", ".join(near or difflib.get_close_matches(key, known, 3, 0.0))


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if not str(key).startswith("_"):
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from _keys(value, f"{prefix}{key}.")


def _is_group(key: str) -> bool:
    """A config group is a folder of the config search path, e.g. ``domain`` or ``hydra/launcher``."""
    from hydra.core.global_hydra import GlobalHydra

    name = key.split("@")[0]
    if not GlobalHydra.instance().is_initialized():
        from importlib.resources import files

        return "/" in name or files("cvkan.conf").joinpath(name).is_dir()
    repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    return "." not in name and repository.group_exists(name)


def _choices(group: str) -> list[str]:
    """The choices of a group that come with cvkan."""
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_module("cvkan.conf", version_base="1.3"):
        return GlobalHydra.instance().config_loader().get_group_options(group)


def _compose(config_name: str, overrides: list[str]) -> DictConfig:
    """The config with these overrides alone; inside a job with its search path, outside with cvkan's own."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException

    if GlobalHydra.instance().is_initialized():
        loader = GlobalHydra.instance().config_loader()
        name = HydraConfig.get().job.config_name or config_name
        return _composed(loader, name, tuple(overrides))
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        try:
            return compose(config_name, overrides=overrides)
        except HydraException:
            return compose(config_name)


@lru_cache(maxsize=8)
def _composed(loader: ConfigLoader, name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Kept, for jobs of a sweep that differ in a seed have the same defaults; to be read alone."""
    from hydra.types import RunMode

    return loader.load_configuration(name, overrides=list(overrides), run_mode=RunMode.RUN)


def _value(cfg: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(cfg, key)
    except Exception:  # an interpolation that only the run itself can resolve
        return None


def _check_used(cfg: DictConfig, typed_key: str, root: str) -> None:
    """One of the :data:`PARTS` that nothing refers to, at any depth, cannot take effect: refuse its choice."""
    key = typed_key.lstrip("+~")
    group = re.split(r"[.@]", key)[0]
    if group == "domain" and key.count(".") > 1:
        _check_read(cfg, key, root)
    if group not in PARTS:
        return
    blamed = PARTS[group] or root
    used: set[str] = set()
    todo = [name for name in {blamed, "task"} if name in cfg]  # the task holds networks too, such as a decoder
    while todo:
        text = OmegaConf.to_yaml(cfg[todo.pop()], resolve=False)
        found = {name for name in re.findall(r"\$\{(\w+)", text) if name in cfg} - used
        used |= found
        todo += [name for name in found if isinstance(cfg[name], DictConfig)]
    if group not in used:
        target = str(cfg[blamed]["_target_"]).rpartition(".")[2]
        raise UserError(
            f"{typed_key} has no effect on this {blamed} ({target})",
            "command line",
            f"Remove it or choose another {blamed}.",
        )


def _check_read(cfg: DictConfig, key: str, root: str) -> None:
    """A size that the domain has for one network, such as ``domain.recurrent.d_hidden``, is refused beside another."""
    others = (str(OmegaConf.to_yaml(cfg[name], resolve=False)) for name in cfg if OmegaConf.is_config(cfg[name]))
    if not any(re.search(rf"\$\{{{re.escape(key)}\b", text) for text in others):
        target = str(cfg[root]["_target_"]).rpartition(".")[2]
        fix = f"Remove it or choose another {root}."
        raise UserError(f"{key} has no effect on this {root} ({target})", "command line", fix)
