"""What a sweep has to know of the launcher that runs its jobs; one that asks for something has a file here."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""Name of a launcher that a plugin brings: extra that installs it."""


class Launcher:
    """One that needs nothing, such as Hydra's own; a file of this folder has a subclass `Launcher`.

    Attributes:
        target: End of the `_target_` by which Hydra knows it.
    """

    target = ""

    def before(self, config: Any) -> str:
        """Asked ahead of a sweep: a warning, or nothing, where jobs can be submitted.

        Args:
            config: The node `hydra.launcher`.

        Raises:
            InputError: No job could be submitted.
        """
        return ""

    def ready(self, config: Any, sign: Path) -> str:
        """Asked when the sweep's folder stands, with a file in it: as `before`."""
        return ""

    def left_behind(self, config: Any) -> str:
        """What Ctrl-C does not end, as a part of a sentence; nothing where it ends all."""
        return ""

    def became_of(self, error: BaseException | None) -> str:
        """Why the sweep ended early, by the exception that the launcher raised and Hydra has printed."""
        return "a job died without a word (the last lines above say where)"


def launcher_of(config: Any) -> Launcher:
    """The one that a node `hydra.launcher` names."""
    for module in pkgutil.iter_modules(__path__):
        found: Launcher = importlib.import_module(f"{__name__}.{module.name}").Launcher()
        if config["_target_"].endswith(found.target):
            return found
    return Launcher()


def missing_launcher(error: BaseException | None) -> str:
    """How to get a launcher that a plugin brings, where that is what Hydra has missed; else nothing."""
    group, _, name = str(getattr(error, "missing_cfg_file", "")).rpartition("/")
    if group != "hydra/launcher" or name not in EXTRAS:
        return ""
    return f"the launcher {name} is a plugin that is not installed: pip install -e '.[{EXTRAS[name]}]'"
