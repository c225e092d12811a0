"""What a caller from Python gives for the parts of a run, as a configuration and as objects."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from probe.command import config as building
from probe.command.live import Part, live_part
from probe.command.plain import plain
from probe.core.errors import InputError
from probe.datasets.shared.in_memory import PARTITIONS

GROUPS = ("backbone", "dataset", "head", "protocol")
SETTINGS = (
    "control", "test_on", "ood", "metric", "tracker", "trust", "conformal_level", "save_logits", "save_rows", "reads",
    "views", "standardize", "neural_collapse", "features", "search",
)  # fmt: skip
"""Beside the parts, what a run can be told and has no parameter of its own for."""
LOADERS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".npz": "npz", ".npy": "features", ".safetensors": "features",
    ".tar": "webdataset",
}  # fmt: skip
"""Which loader reads a file, by its suffix."""
Tell = Callable[[str], None]


def part_of(group: str, given: Any, tell: Tell) -> Part | None:
    """What was given for a part: a name, a pair of a name and parameters, a path, or an object; None for the default.

    Args:
        group: One of `GROUPS`, or `tracker`.
        given: By the caller.
        tell: Says what a text was taken for.
    """
    if given is None:
        return None
    value, options = given, None
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        value, options = given
    if isinstance(value, str) and value not in names(group):
        value = _path(group, value, tell)
    if isinstance(value, str):
        return Part(repr(given), value, options or {})
    if group == "dataset" and isinstance(value, Path):
        return Part(repr(str(value)), loader_of(value), {"path": str(value), **(options or {})})
    return live_part(group, value, options)


@functools.cache
def names(group: str) -> tuple[str, ...]:
    """The yamls of a group."""
    return tuple(sorted(path.stem for path in (building.CONF / group).glob("*.yaml")))


def _path(group: str, text: str, tell: Tell) -> Path:
    """A text that is no name, as a path where it may be one."""
    path = Path(text).expanduser()
    if group != "dataset" or not (path.exists() or os.sep in text or (os.altsep or os.sep) in text):
        or_path = ", or a path that exists" if group == "dataset" else ""
        raise InputError(f"{group} {text!r} is unknown, expected one of {', '.join(names(group))}{or_path}: use one")
    tell(f"dataset {text!r} is no name of a dataset, it is read as a path by dataset={loader_of(path)}")
    return path


def loader_of(path: Path) -> str:
    """The dataset that reads a path: by the suffix of a file, of a folder by that of its files that name `train`.

    A folder without such files is one of images by class.
    """
    path = path.expanduser()
    if path.is_dir():
        files = [file for place in (path, path / "data") if place.is_dir() for file in sorted(place.iterdir())]
        found = {LOADERS.get(file.suffix.lower()) for file in files if "train" in file.stem and file.is_file()} - {None}
        found = {"features" if loader == "npz" else loader for loader in found}
        if len(found) > 1:
            raise InputError(f"{path} may be read by {' or by '.join(sorted(map(str, found)))}: say which, as in "
                             f'dataset=("{min(map(str, found))}", {{"path": "{path}"}})')  # fmt: skip
        return str(found.pop()) if found else "folder"
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: give one, or the name of a dataset")
    if path.suffix.lower() not in LOADERS:
        raise InputError(f"{path} is a file of no kind that is known by its suffix ({', '.join(LOADERS)}): say what "
                         'reads it, as in dataset=("csv", {"path": …})')  # fmt: skip
    return LOADERS[path.suffix.lower()]


def configured(
    parts: Mapping[str, Part | None], common: Mapping[str, Any], settings: Mapping[str, Any], tell: Tell
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of a run as the command composes it, and the objects that it does not say.

    Args:
        parts: By group.
        common: Settings that have a name in the configuration and one value: seed, device, ….
        settings: Those of `SETTINGS` that were given.
        tell: As in `part_of`.
    """
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise InputError(
            f"there is no setting {', '.join(unknown)}: choose among {', '.join(SETTINGS)}, and give the parameters of "
            'a part beside its name, as in head=("linear", {"Cs": [0.1, 1]})'
        )
    shifted = settings.get("test_on") if are_several(settings.get("test_on")) else None
    given = {**parts, "test_on": None if shifted else part_of("dataset", settings.get("test_on"), tell)}
    tracker = part_of("tracker", settings.get("tracker"), tell) if settings.get("tracker") else None
    several = {"ood": settings.get("ood"), "test_on": shifted}
    sets = {group: sets_of_rows(group, value, tell) for group, value in several.items()}
    config = building.compose(_overrides({**given, "tracker": tracker}))
    config |= {group: {name: _node(part) for name, part in found.items()} for group, found in sets.items() if found}
    for group, part in {**given, "tracker": tracker}.items():
        if part is not None and part.node is not None:
            config[group] = dict(part.node)
        elif part is not None:
            set_parameters(config[group], part.parameters, f"{group} {part.name}")
    for name, value in {**common, **settings}.items():
        if name in ("reads", "views", "features"):
            set_parameters(config[name], value, name)
        elif name not in ("test_on", "tracker", "ood"):
            config[name] = plain(value, name)
    if given["backbone"] is None and (given["dataset"] is None or given["dataset"].live is None):
        config = building.readable(config, [], say=lambda line: tell(line.removeprefix("probe: ")))
    live = {group: part.live for group, part in given.items() if part is not None and part.live is not None}
    for group, members in sets.items():
        if found := {name: part.live for name, part in members.items() if part.live is not None}:
            live[group] = found
    return config, live


def are_several(given: Any) -> bool:
    """Whether `test_on` is a list, or a mapping of datasets by name and not of the partitions of one."""
    return isinstance(given, list) or (isinstance(given, Mapping) and not set(given) <= set(PARTITIONS))


def sets_of_rows(group: str, given: Any, tell: Tell) -> dict[str, Part]:
    """What `ood` or `test_on` names: a mapping of datasets by name, or a list of names of datasets, or one of these."""
    if given is None:
        return {}
    if isinstance(given, list | str):
        given = {str(one): one for one in ([given] if isinstance(given, str) else given)}
    if not isinstance(given, Mapping) or any(one is None for one in given.values()):
        raise InputError(f"{group} is {given!r}, expected datasets by name, or a list of names of datasets: give one")
    found = {str(name): part_of("dataset", value, tell) for name, value in given.items()}
    return {name: part for name, part in found.items() if part is not None}


def _node(part: Part) -> dict[str, Any]:
    """What the configuration holds of a dataset."""
    if part.node is not None:
        return dict(part.node)
    node = building.compose([f"dataset={part.name}"])["dataset"]
    set_parameters(node, part.parameters, f"dataset {part.name}")
    return dict(node)


def _overrides(parts: Mapping[str, Part | None]) -> list[str]:
    """What selects the yamls; rows of numbers that are given as they are go with `backbone=identity`, as by yaml."""
    chosen = [
        f"{'dataset@test_on' if group == 'test_on' else group}={part.name}"
        for group, part in parts.items()
        if part is not None and part.name is not None
    ]
    dataset = parts["dataset"]
    if parts["backbone"] is None and dataset is not None and getattr(dataset.live, "rows", None) == "vectors":
        chosen.append("backbone=identity")
    return chosen


def set_parameters(node: dict[str, Any], given: Mapping[str, Any], what: str) -> None:
    """Sets parameters that a node of the configuration has.

    Raises:
        InputError: It has none of this name, or the value is an object.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{what} is {given!r}, expected a mapping of parameters: write {{name: value}}")
    known = [name for name in node if name != "_target_"]
    if unknown := [str(name) for name in given if name not in known]:
        raise InputError(f"{what} has no parameter {', '.join(unknown)}: choose among {', '.join(known) or 'none'}")
    node.update({name: plain(value, f"{what}.{name}") for name, value in given.items()})
