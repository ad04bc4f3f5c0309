"""Kinds of values: a default in a yaml says what may stand in its place."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, ListConfig

from cvkan.errors import UserError

NAMES = {bool: "true or false", int: "an integer", float: "a number", DictConfig: "a section with keys of its own"}


def check_kind(key: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default. In place of ``null`` and of strings anything may stand.

    Args:
        key: where the value stands, for the message.
        value: as composed, not None.
        default: of the yaml.

    Raises:
        UserError: it is of another kind, or an element of a list is.
    """
    if isinstance(default, ListConfig):
        check_list(key, value, default)
    elif type(default) in NAMES and not fits(value, default):
        raise UserError(
            f"{key} must be {NAMES[type(default)]}, got {value!r}", "command line", f"The default is {key}={default}."
        )


def check_list(key: str, value: Any, default: ListConfig) -> None:
    """The same in place of a list. Where all elements are numbers, so must be those of the value; null is one of each.

    Raises:
        UserError: it is none, or an element is no number.
    """
    if not isinstance(value, ListConfig):
        raise UserError(f"{key} must be a list, got {value!r}", "command line", f"Write {key}=[{value}].")
    known = [element for element in default if element is not None]
    if known and all(is_number(element) for element in known):
        wrong = [element for element in value if element is not None and not is_number(element)]
        if wrong:
            raise UserError(
                f"{key} must be a list of numbers, got {wrong[0]!r}", "command line", f"The default is {key}={default}."
            )


def fits(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of the default: an integer is a number too, true and false are none."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, int):
        return isinstance(value, int)
    return isinstance(value, DictConfig)


def is_number(value: Any) -> bool:
    """Whether an element of a list is an integer or a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
