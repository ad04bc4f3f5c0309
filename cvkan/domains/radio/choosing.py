"""Which of the modulations and SNRs that are there a person wants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cvkan.errors import UserError


def chosen_classes(wanted: Sequence[str] | None, there: Collection[str]) -> Sequence[str]:
    """The modulations that ``data.classes`` names; all that are there for None.

    Raises:
        UserError: it is no list, or names one that is not there.
    """
    refuse_bare(wanted, "data.classes")
    if wanted is None:
        return sorted(there)
    for name in wanted:
        if name not in there:
            raise UserError(f"no class {name!r} in the data", "data.classes", f"It holds {listed(sorted(there))}.")
    return wanted


def chosen_levels(wanted: Sequence[float] | Mapping[str, float] | None, there: Collection[float]) -> Sequence[float]:
    """The SNRs in dB that ``data.snr_db`` names, as a list or as ``{min: 0, max: 30}``; all that are there for None.

    Raises:
        UserError: it is neither, or names a level that is not there, or a range without any.
    """
    refuse_bare(wanted, "data.snr_db")
    if wanted is None:
        return sorted(there)
    if isinstance(wanted, Mapping):
        if set(wanted) != {"min", "max"} or not all(isinstance(end, (int, float)) for end in wanted.values()):
            what = f"a range of the SNR has min and max, got {dict(wanted)}"
            raise UserError(what, "data.snr_db", "Set two numbers.")
        low, high = wanted["min"], wanted["max"]
        wanted = [level for level in sorted(there) if low <= level <= high]
        missing = [] if wanted else [f"{low:g} to {high:g}"]
    else:
        missing = [f"{level}" for level in wanted if level not in there]
    if missing:
        levels = listed([f"{value:g}" for value in sorted(there)])
        raise UserError(f"no SNR of {missing[0]} dB in the data", "data.snr_db", f"It holds {levels}.")
    return wanted


def refuse_bare(value: object, key: str) -> None:
    """Refuse a name or a number where a list of them is expected: the letters of a name would be taken for names.

    Args:
        value: what was set.
        key: where it was set.

    Raises:
        UserError: it is a name or a number.
    """
    if isinstance(value, (str, int, float)):
        raise UserError(f"{value!r} is no list", key, f"Write '{key}=[{value}]'.")


def listed(names: Sequence[str]) -> str:
    """The first of some names, for messages."""
    return ", ".join(names[:24]) + (", ..." if len(names) > 24 else "") or "none"
