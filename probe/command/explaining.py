"""What Hydra raises, as one sentence with a way out that exists."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from contextlib import suppress

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from probe.core import own_modules
from probe.core.escaping import one_line
from probe.core.files import CONF

N_TOLD = 4


def explained(error: BaseException) -> str:
    """The sentence of an override that cannot be composed."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, name = _asked(error.missing_cfg_file)
        return f"there is no {group}={name}: {_meant(group, name) or choice(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read: write key=value, with brackets and quotation marks closed and the "
            "whole in quotation marks for the shell"
        )
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    parent = getattr(cause, "parent_node", None)
    # Hydra tells to put a + before the key, which makes the error another one.
    if str(error).startswith("Could not override") and isinstance(parent, DictConfig):
        above, _, key = str(getattr(cause, "full_key", "")).rpartition(".")
        keys = [str(name) for name in parent if not str(name).startswith(("_", "hydra"))]
        if not keys:
            return f"{above} holds nothing yet: add to it with +{above}.{key}=…"
        others = [] if _near(key, keys) else _with_key(above, key)
        elsewhere = (
            f"it is a setting of {' and of '.join(f'{above}={name}' for name in others[:N_TOLD])}; " if others else ""
        )
        return f"{above or 'the configuration'} has no {key}: {elsewhere}{choice(key, keys)}"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def not_there(target: str) -> str:
    """Why a `_target_` leads to nothing."""
    module, _, name = target.rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a module raises while it is imported
        why = f"{type(error).__name__}: {one_line(error)}{own_modules.shadowed(module)}"
        return f"{target} cannot be imported ({why}): mend the module, install what it needs, or change _target_"
    own = [key for key, value in vars(found).items() if getattr(value, "__module__", None) == module and key[0] != "_"]
    told = choice(name, own) if own else "change _target_"
    return f"{target} is not there, {module} has no {name}{own_modules.shadowed(module)}: {told}"


def _asked(path: str) -> tuple[str, str]:
    """Group and name of a yaml that is not there; a name may hold slashes, as those of hubs do."""
    group, _, name = path.partition("/")
    if not (CONF / group).is_dir() or ((CONF / group / name).parent.is_dir() and "/" in name):
        group, _, name = path.rpartition("/")
    return group, name


def choice(name: str, options: Iterable[str]) -> str:
    """The options, led by the one that is spelled most like a name."""
    found = list(dict.fromkeys(options))
    near = _near(name, found)
    return (f"did you mean {near}? There are " if near else "choose one of ") + ", ".join(found)


def _near(name: str, options: Iterable[str]) -> str | None:
    """The option that is spelled most like a name, if one is."""
    found = {option.lower(): option for option in options}
    near = difflib.get_close_matches(name.lower(), found, n=1)
    return found[near[0]] if near else None


def _meant(group: str, name: str) -> str:
    """How a name is spelled that is none of a choice, but of something that a choice reads; empty where none does.

    A module of a plug-in that has `spelled` is asked: `probe.backbones.timm` knows resnet18.
    """
    paths = {path.stem: path for path in sorted((CONF / group).glob("*.yaml"))}
    if not paths or _near(name, paths):
        return ""
    for choice, path in paths.items():
        target = re.search(r"^_target_: (probe\.[\w.]+)\.\w+$", path.read_text("utf-8"), re.MULTILINE)
        with suppress(Exception):  # a package that is not installed, or cannot be imported, knows no names
            spelled = getattr(importlib.import_module(target[1]), "spelled", None) if target else None
            if spelled and (settings := spelled(name)):
                told = " ".join(f"{group}.{key}={value}" for key, value in settings.items())
                return f"write {group}={choice} {told}"
    return ""


def _with_key(group: str, key: str) -> list[str]:
    """The choices of a group that have a setting."""
    there = re.compile(rf"^{re.escape(key)}:", re.MULTILINE)
    paths = sorted((CONF / group).glob("*.yaml")) if group else []
    return [path.stem for path in paths if there.search(path.read_text("utf-8"))]
