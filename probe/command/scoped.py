"""Settings of one choice among several: `probe -m head=linear,moment_probing head.moment_probing.epochs=2`.

The name of the choice stands between its group and the setting. A job that has the choice gets the setting as it would
be written for it alone, `head.epochs=2`; the others do not. So no job knows of the others, and its record is that of
the same run by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.command.help import choices
from probe.core.errors import InputError

GROUPS = ("backbone", "dataset", "head", "protocol", "tracker")
WORD = re.compile(rf"(\+{{0,2}})({'|'.join(GROUPS)})\.(\w+)\.([\w.]+)=(.*)", re.DOTALL)
UNKNOWN = re.compile(r"(experiment=|.*=.*\b(glob|choice)\()")


@dataclass(frozen=True)
class Scoped:
    """A setting for the jobs of one choice.

    Attributes:
        word: As it was written.
        group, choice: Such as head and lda.
        setting: The override of a job.
    """

    word: str
    group: str
    choice: str
    setting: str

    def suits(self, job: Sequence[str]) -> bool:
        """Whether a job has the choice."""
        chosen = [word.partition("=")[2] for word in job if word.partition("=")[0] == self.group]
        return bool(chosen) and chosen[-1].strip("'\"") == self.choice

    def values(self) -> list[str]:
        """The setting once for each value that is swept."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        (override,) = OverridesParser.create().parse_overrides([self.setting])
        if not override.is_sweep_override():
            return [self.setting]
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def split(words: Sequence[str], folders: Sequence[Path]) -> tuple[list[str], list[Scoped]]:
    """Words without the settings of single choices, and these; `folders` hold the yamls."""
    plain, found = [], []
    for word in words:
        parts = WORD.fullmatch(word)
        if parts and parts[3] in choices(parts[2], folders):
            more, group, choice, key, value = parts.groups()
            found.append(Scoped(word, group, choice, f"{more}{group}.{key}={value}"))
        else:
            plain.append(word)
    return plain, found


def check(words: Sequence[str], found: Sequence[Scoped]) -> None:
    """Refuses settings of choices that no word names, as far as words tell.

    Raises:
        InputError: There is one.
    """
    if any(UNKNOWN.match(word) for word in words):
        return
    for one in found:
        named = [word for word in words if word.partition("=")[0] == one.group]
        if not any(one.choice in re.split(r"[=,\[\]'\" ]+", word) for word in named):
            raise InputError(unused(one))


def unused(one: Scoped) -> str:
    """What is said of a setting that no job has."""
    return f"{one.word} is a setting of {one.group}={one.choice}, which no job has: add it to {one.group}=…"


def applied(words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The words of a single run, each setting as for its choice alone."""
    plain, found = split(words, folders)
    check(plain, found)
    return [*plain, *(one.setting for one in found if one.suits(plain))]


def spread(jobs: Sequence[list[str]], found: Sequence[Scoped]) -> list[list[str]]:
    """Jobs with the settings of their choices; a job for each value that one sweeps.

    Raises:
        InputError: No job has the choice of a setting.
    """
    if idle := [one for one in found if not any(one.suits(job) for job in jobs)]:
        raise InputError(unused(idle[0]))
    more = []
    for job in jobs:
        own = [one.values() for one in found if one.suits(job)]
        more += [[*job, *settings] for settings in itertools.product(*own)]
    return more
