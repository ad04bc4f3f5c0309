"""Add a finding to docs/research_log.md, on top, checked against the form of the others.

    python scripts/log_finding.py --title "Mean pooling is enough for digits" --category Architecture --status Open \\
        --related conf/pooling/mean.yaml --run multirun/2026-11-20_10-00-00 \\
        --finding "mean pooling gives {test/accuracy} over {runs} seeds." \\
        --impact "none on the default yet." --action "Repeat on CIFAR" --action "[x] Five seeds on digits"

{name} in finding and impact is replaced by that figure of the runs below every --run: mean ± sample standard deviation
of metrics.json if there are several, and what run.json holds. A brace that means itself is written twice.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from cvkan.atomic import write_text
from cvkan.errors import UserError, one_line
from cvkan.sweeping.spread import spread, summary

ROOT = Path(__file__).resolve().parents[1]
LOG = ROOT / "docs/research_log.md"
CATEGORIES = ("Training", "Architecture", "Data", "Tooling", "Performance")
STATUSES = ("Open", "Resolved", "Workaround")
RUN_FOLDERS = ("outputs", "multirun")  # not in git: a log may name runs that a fresh clone does not have
WIDTH = 150
# One entry, as written by :meth:`Entry.text`; a paragraph may go on over several lines.
ENTRY = re.compile(
    r"## (?P<date>\S+) (?P<title>\S.*)\n\n"
    r"\*\*Category\*\*: (?P<category>.+)\n"
    r"\*\*Status\*\*: (?P<status>.+)\n"
    r"\*\*Related\*\*: (?P<related>.+)\n\n"
    r"Finding: (?P<finding>\S(?s:.*?))\n\n"
    r"Impact: (?P<impact>\S(?s:.*?))\n\n"
    r"Action items:\n(?P<actions>(?:- \[[ x]\] \S.*\n(?:  \S.*\n)*)+)"
)
ACTION = re.compile(r"- \[([ x])\] (\S.*\n(?:  \S.*\n)*)")
FORM = "Write it as scripts/log_finding.py does."


@dataclass(frozen=True)
class Entry:
    """A finding. ``actions`` are pairs of done and what to do."""

    date: date
    title: str
    category: str
    status: str
    related: tuple[str, ...]
    finding: str
    impact: str
    actions: tuple[tuple[bool, str], ...]

    def text(self) -> str:
        """The entry in Markdown, ending with a line break."""
        actions = (f"- [{'x' if done else ' '}] {_wrapped(what, '  ')}\n" for done, what in self.actions)
        return (
            f"## {self.date.isoformat()} {self.title}\n\n"
            f"**Category**: {self.category}\n**Status**: {self.status}\n**Related**: {', '.join(self.related)}\n\n"
            f"{_wrapped(f'Finding: {self.finding}')}\n\n{_wrapped(f'Impact: {self.impact}')}\n\n"
            f"Action items:\n{''.join(actions)}"
        )


def read_log(text: str, root: Path, where: str = "research log") -> list[Entry]:
    """Entries of a log, newest first, all of its rules checked.

    Args:
        text: the log in Markdown.
        root: folder that related paths start from.
        where: name of the log, for messages.

    Raises:
        UserError: an entry departs from the form, names a word, date or file that does not exist, stands out of order
            or twice. Names the line.
    """
    entries: list[Entry] = []
    for number, part in _parts(text, where):
        entry = _entry(part, f"{where}, line {number}")
        _check(entry, root, f"{where}, line {number}")
        if any((other.date, other.title) == (entry.date, entry.title) for other in entries):
            raise UserError(
                f"there are two entries {entry.date} {entry.title!r}",
                f"{where}, line {number}",
                "Choose another title.",
            )
        if entries and entry.date > entries[-1].date:
            raise UserError(
                f"the entry of {entry.date} stands below one of {entries[-1].date}",
                f"{where}, line {number}",
                "The newest stands on top.",
            )
        entries.append(entry)
    return entries


def with_entry(text: str, entry: Entry, root: Path, where: str = "research log") -> str:
    """The log with a further entry on top of the others.

    Raises:
        UserError: the log or the entry breaks a rule of :func:`read_log`.
    """
    before = read_log(text, root, where)
    _check(entry, root, "command line")
    if any((other.date, other.title) == (entry.date, entry.title) for other in before):
        raise UserError(f"there is an entry {entry.date} {entry.title!r} already", where, "Choose another title.")
    if before and entry.date < before[0].date:
        raise UserError(
            f"{entry.date} is before the newest entry, of {before[0].date}",
            "--date",
            "New entries go on top; leave --date out for today.",
        )
    head, mark, rest = f"\n{text}".partition("\n## ")
    after = f"{head[1:].rstrip()}\n\n{entry.text()}" + (f"\n{mark[1:]}{rest}" if mark else "")
    if read_log(after, root, where) != [entry, *before]:
        raise UserError("the text cannot be written in the form of the log", "command line", "Use plain sentences.")
    return after


def figures(folders: Sequence[Path]) -> dict[str, str]:
    """Name to text of every figure of the finished runs below the folders, each run counted once.

    Raises:
        UserError: a folder has no finished run.
    """
    if not folders:
        return {}
    paths: dict[Path, None] = {}
    for folder in folders:
        found = sorted(folder.glob("**/metrics.json"))
        if not found:
            raise UserError(f"no metrics.json below {folder}", "--run", "Name a folder of finished runs.")
        paths.update(dict.fromkeys(path.resolve() for path in found))
    metrics = [_read(path) for path in paths]
    records = [_read(path.with_name("run.json")) for path in paths]
    # A mean over some of the runs would pass for one over all.
    common = set.intersection(*({name for name, value in run.items() if value is not None} for run in metrics))
    measured = {name: text for name, text in summary(metrics).items() if name in common}
    return {"runs": str(len(paths)), **_recorded(records), **measured}


def fill(text: str, known: dict[str, str]) -> str:
    """The text with every ``{name}`` replaced by its figure and doubled braces by one.

    Raises:
        UserError: there is no such figure.
    """

    def figure(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match[1] not in known:
            fix = f"Choose one of: {', '.join(sorted(known))}." if known else "Name the runs with --run."
            raise UserError(
                f"no figure {match[0]} common to the runs", "command line", f"{fix} Write {{{{ for a brace."
            )
        return known[match[1]]

    return re.sub(r"\{\{|\}\}|\{([^{}]*)\}", figure, text)


def main() -> int:
    """Write the entry; 2 and one line if something is wrong with it."""
    try:
        arguments = _arguments()
        known = figures(arguments.run)
        entry = Entry(
            date=_date(arguments.date, "--date"),
            title=" ".join(arguments.title.split()),
            category=arguments.category,
            status=arguments.status,
            related=tuple(dict.fromkeys(PurePosixPath(path).as_posix() for path in arguments.related)),
            finding=" ".join(fill(arguments.finding, known).split()),
            impact=" ".join(fill(arguments.impact, known).split()),
            actions=tuple(_action(text) for text in arguments.action),
        )
        for path in entry.related:
            if not _exists(path, ROOT):
                raise UserError(f"{path} does not exist", "--related", f"Name a file, run or pattern below {ROOT}.")
        try:
            text = arguments.log.read_text()
        except OSError as error:
            raise UserError(f"{arguments.log}: {error.strerror}", "--log", "Name the research log.") from error
        write_text(arguments.log, with_entry(text, entry, ROOT, str(arguments.log)))
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    print(entry.text(), end="")
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, "command line", "See --help.")


def _arguments() -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--title", required=True, help="the finding in half a sentence")
    parser.add_argument("--category", required=True, type=str.capitalize, choices=CATEGORIES)
    parser.add_argument("--status", required=True, type=str.capitalize, choices=STATUSES)
    parser.add_argument(
        "--related", required=True, action="append", metavar="PATH", help="file, run or glob; may be repeated"
    )
    parser.add_argument("--finding", required=True, metavar="TEXT", help="what was seen")
    parser.add_argument("--impact", required=True, metavar="TEXT", help="what follows")
    parser.add_argument(
        "--action", required=True, action="append", metavar="TEXT", help="next step, '[x] ...' if done; may be repeated"
    )
    parser.add_argument(
        "--run", action="append", default=[], type=Path, metavar="DIR", help="run or sweep to quote; may be repeated"
    )
    parser.add_argument("--date", default=date.today().isoformat(), metavar="YYYY-MM-DD", help="default: today")
    parser.add_argument("--log", default=LOG, type=Path, metavar="PATH", help="default: docs/research_log.md")
    return parser.parse_args()


def _action(text: str) -> tuple[bool, str]:
    """Done, and what to do, of ``"[x] what"``, ``"[ ] what"`` or ``"what"``."""
    match = re.fullmatch(r"\s*(?:\[([ xX])\])?\s*(.*?)\s*", text, re.DOTALL)
    assert match is not None  # every text fits
    return (match[1] or "").lower() == "x", " ".join(match[2].split())


def _parts(text: str, where: str) -> list[tuple[int, str]]:
    """Line number and text of every entry; the title of the page stands before the first."""
    lines = text.splitlines(keepends=True)
    starts = [k for k, line in enumerate(lines) if line.startswith("## ")]
    head = "".join(lines[: starts[0]] if starts else lines)
    if not re.fullmatch(r"# \S.*\n(?:\n(?:[^#\n].*\n)+)*\n*", head):
        raise UserError("the log does not start with its title", f"{where}, line 1", "Begin with '# Research log'.")
    ends = [*starts[1:], len(lines)]
    return [(start + 1, "".join(lines[start:end])) for start, end in zip(starts, ends, strict=True)]


def _entry(text: str, where: str) -> Entry:
    """Parse one entry.

    Raises:
        UserError: it departs from the form; says where first.
    """
    match = ENTRY.fullmatch(text.rstrip("\n") + "\n")
    if match is None:
        # The names stand in this order; the first one missing is the place to look.
        order = ("**Category**: ", "**Status**: ", "**Related**: ", "Finding: ", "Impact: ", "Action items:\n- [")
        place = 0
        for name in order:
            place = text.find(f"\n{name}", place)
            if place < 0:
                raise UserError(f"the entry has no {name.splitlines()[0].strip()!r} in its place", where, FORM)
        raise UserError("the entry departs from the form of the others", where, FORM)
    actions = [(mark == "x", " ".join(what.split())) for mark, what in ACTION.findall(match["actions"])]
    finding, impact = (" ".join(match[name].split()) for name in ("finding", "impact"))
    return Entry(
        _date(match["date"], where),
        match["title"],
        match["category"],
        match["status"],
        tuple(match["related"].split(", ")),
        finding,
        impact,
        tuple(actions),
    )


def _check(entry: Entry, root: Path, where: str) -> None:
    """Refuse unknown words, empty texts and related files that do not exist."""
    for name, value, known in (("category", entry.category, CATEGORIES), ("status", entry.status, STATUSES)):
        if value not in known:
            raise UserError(f"unknown {name} {value!r}", where, f"Choose one of: {', '.join(known)}.")
    texts = {"title": entry.title, "finding": entry.finding, "impact": entry.impact}
    for name, text in texts.items() | {("action", what) for _, what in entry.actions}:
        if not text:
            raise UserError(f"the {name} is empty", where, "Write a sentence.")
    for path in entry.related:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "," in path or path != path.strip() or not pure.parts:
            raise UserError(f"{path!r} is no path inside the repository", where, "Write it from the repository's root.")
        if pure.parts[0] not in RUN_FOLDERS and not _exists(path, root):
            raise UserError(f"related {path} does not exist", where, "Name a file or a pattern that fits one.")


def _exists(path: str, root: Path) -> bool:
    """Whether a path or pattern below the root names something."""
    try:
        return (root / path).exists() or any(root.glob(path))
    except (ValueError, NotImplementedError):  # no pattern, or one of another root
        return False


def _date(text: str, where: str) -> date:
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{text!r} is no date", where, "Write it as YYYY-MM-DD.") from error


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file.

    Raises:
        UserError: the file holds something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}", "--run", "Name a folder of finished runs.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no figures by name", "--run", "Name a folder of finished runs.")
    return content


def _recorded(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What run.json says of every run: as it stands where all agree, numbers that differ by mean and deviation."""
    found: dict[str, str] = {}
    for name in set.intersection(
        *({name for name, value in record.items() if value is not None} for record in records)
    ):
        values = [record[name] for record in records]
        distinct = list(dict.fromkeys(map(str, values)))
        numbers = all(isinstance(value, (int, float)) for value in values)
        found[name] = spread(values) if numbers and len(distinct) > 1 else ", ".join(distinct)
    return found


def _wrapped(text: str, indent: str = "") -> str:
    """The text in lines of at most ``WIDTH``, none of which Markdown would take for a list, a heading or a quote."""
    kept = re.sub(r" (?=(?:[-+*=#]+|\d+[.)])(?: |$)|>|```|~~~)", "\0", text)
    lines = textwrap.wrap(kept, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


if __name__ == "__main__":
    sys.exit(main())
