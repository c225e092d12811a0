"""Fields of runs by name, filters on them, and the fields that tell runs of one name apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from probe.core.errors import InputError
from probe.leaderboard.records import FOLD, NOT_SETTINGS
from probe.results.reader import read_result

if TYPE_CHECKING:
    import pandas as pd

DIGITS = re.compile(r"([0-9]+)")
HIDDEN = frozenset(
    {
        "control.head",
        "control.backbone",
        "control.architecture",
        "correct",
        "layers",
        "own_metrics",
        "settings",
        "folder",
        "dataset.classes",
        "protocol.parameters",
    }
)
OOD = "ood"
IGNORED = NOT_SETTINGS | {FOLD, "tracker", "force", "experiment", "runs", "hydra", "save_logits", "save_rows"}


def text(value: Any) -> str:
    """A field's value as tables and filters spell it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings under dotted names; lists are leaves."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    parts = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in tree.items()]
    return {name: value for part in parts for name, value in part.items()}


def sets_beside(config: Mapping[str, Any]) -> dict[str, str]:
    """The names of the sets of unknown classes beside a run, as one field."""
    return {OOD: ", ".join(config[OOD])} if config.get(OOD) else {}


def natural(names: Iterable[str]) -> list[str]:
    """Sorted with numbers by size: `5 shots` before `20 shots`."""
    return sorted(names, key=lambda name: [int(p) if i % 2 else p for i, p in enumerate(DIGITS.split(name))])


def joined(frame: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """The values of some fields as one text per run."""
    told = [frame[field].tolist() for field in fields]
    spelled = [values if set(map(type, values)) == {str} else list(map(text, values)) for values in told]
    return spelled[0] if len(spelled) == 1 else [" ".join(values) for values in zip(*spelled, strict=True)]


def as_dicts(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """The lines of a frame; those of `to_dict("records")`, which looks at every value by itself."""
    names = list(frame.columns)
    return [dict(zip(names, line, strict=True)) for line in zip(*(frame[name].tolist() for name in names), strict=True)]


def add_fields(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The frame with a column for each name, taken from the runs' resolved configuration where it is not there yet.

    Raises:
        InputError: No run knows the name.
    """
    missing = [name for name in dict.fromkeys(names) if name not in frame.columns]
    if not missing:
        return frame
    results = [read_result(folder) for folder in frame["folder"]]
    trees = [flatten(result) | flatten(result["config"]) | sets_beside(result["config"]) for result in results]
    for name in missing:
        if not any(name in tree for tree in trees):
            known = sorted((set(frame.columns) - HIDDEN) | set(flatten(results[0]["config"]) if results else ()))
            raise InputError(f"no run has a field {name!r}: choose one of {', '.join(known)}")
        frame = frame.assign(**{name: [text(tree[name]) if name in tree else "" for tree in trees]})
    return frame


def where(frame: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Runs that meet all conditions: `field=value`, `field=a,b` (any of them, `*` as in file names), `field!=value`.

    Raises:
        InputError: A condition cannot be read, names no field, or no run is left.
    """
    for condition in conditions:
        name, equals, wanted = condition.partition("=")
        if not equals or not name.strip("!"):
            raise InputError(f"condition {condition!r} has no '=': write field=value, such as head=linear")
        negated = name.endswith("!")
        name = name.rstrip("!").strip()
        frame = add_fields(frame, [name])
        values = frame[name].map(text)
        # A value may hold commas itself, such as the label `few_shot(k=2, seed=1)`.
        patterns = [wanted] if (values == wanted).any() else [pattern.strip() for pattern in wanted.split(",")]
        hits = values.map(lambda value, p=patterns: any(value == one or fnmatchcase(value, one) for one in p))
        if not (hits ^ negated).any():
            there = sorted(values.unique())
            raise InputError(f"no run has {condition}: {name} is {', '.join(there[:20])}{', …' * (len(there) > 20)}")
        frame = frame[hits ^ negated]
    return frame.reset_index(drop=True)


def differing(frame: pd.DataFrame, parts: Sequence[str] = ()) -> list[str]:
    """Dotted names in the configuration that are not the same in all runs, within the given parts or all."""
    configs = [read_result(folder)["config"] for folder in frame["folder"]]
    trees = [flatten(config) | sets_beside(config) for config in configs]
    names = dict.fromkeys(name for tree in trees for name in tree)
    return [
        name
        for name in names
        if not IGNORED & set(name.split("."))
        and (not parts or name.split(".")[0] in parts)
        # Of a set that some runs do not have, its own name tells them apart; its parameters need not.
        and len({text(tree.get(name)) for tree in trees if name in tree or not name.startswith(f"{OOD}.")}) > 1
    ]
