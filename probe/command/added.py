"""Words that add to the configuration, `+key=value`: what nothing would read is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from probe.command.explaining import choice
from probe.core.errors import InputError
from probe.core.files import CONF

OPEN = ("hydra", "reads", "features.dtypes")
"""Mappings that take names of their own."""


def check(words: Iterable[str], folders: Sequence[Path] = (CONF,)) -> None:
    """Refuses keys that are none of the configuration's.

    A key that another word or a yaml of the user's refers to, as in `+rate=2 head.C='${rate}'`, is read by that one,
    and one that names a group or what lies in it is checked by what it is given to.

    Raises:
        InputError: A key that nothing reads.
    """
    words = list(words)
    config = OmegaConf.load(CONF / "config.yaml")
    assert isinstance(config, DictConfig)
    groups = {entry.partition("@")[2] or entry for default in config.pop("defaults") for entry in map(str, default)}
    groups |= {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()} | {
        "ood"
    }
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        if not re.fullmatch(r"\++[\w.]+=.*", word, re.DOTALL) or any(f"${{{key}" in other for other in words):
            continue
        if key.split(".")[0] not in groups and not any(f"{key}.".startswith(f"{name}.") for name in OPEN):
            _check_key(key, config, groups)


def _check_key(key: str, config: Any, groups: Iterable[str]) -> None:
    above: list[str] = []
    for name in key.split("."):
        if not isinstance(config, DictConfig):
            return
        known = [str(other) for other in config if other != "hydra"]
        if name not in known:
            place, known = (".".join(above), known) if above else ("the configuration", [*sorted(groups), *known])
            raise InputError(f"{place} has no {name}, and nothing would read it: {choice(name, known)}")
        config, above = config[name], [*above, name]
