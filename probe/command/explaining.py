"""What Hydra raises, as one sentence with a way out that exists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException


def explained(error: BaseException) -> str:
    """The sentence of an override that cannot be composed."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"there is no {group}={name}: {_choice(name, error.options)}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    parent = getattr(cause, "parent_node", None)
    # Hydra tells to put a + before the key, which makes the error another one.
    if str(error).startswith("Could not override") and isinstance(parent, DictConfig):
        above, _, key = str(getattr(cause, "full_key", "")).rpartition(".")
        keys = [str(name) for name in parent if not str(name).startswith(("_", "hydra"))]
        if not keys:
            return f"{above} holds nothing yet: add to it with +{above}.{key}=…"
        return f"{above or 'the configuration'} has no {key}: {_choice(key, keys)}"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _choice(name: str, options: Iterable[str]) -> str:
    found = {option.lower(): option for option in options}
    near = difflib.get_close_matches(name.lower(), found, n=1)
    return (f"did you mean {found[near[0]]}? There are " if near else "choose one of ") + ", ".join(found.values())
