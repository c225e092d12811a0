"""`probe.Watch` as a callback of trainers, each imported only where it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from probe.core.errors import InputError

if TYPE_CHECKING:
    from probe.command.watch import Watch

PREFIX = "probe/"
"""Begins the names under which loggers get the numbers."""
LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""Two packages of one content, whose classes do not know each other."""


def named(values: Mapping[str, float]) -> dict[str, float]:
    """Values under the names that loggers get."""
    return {f"{PREFIX}{name}": value for name, value in values.items()}


def of_lightning(watch: Watch) -> Any:
    """A `Callback` of the Lightning that the program uses."""

    class Watching(_lightning().Callback):  # type: ignore[misc]
        """Measures at the end of training epochs."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if watch.is_due(trainer.current_epoch):
                found = named(watch.measure(trainer.current_epoch))
                pl_module.log_dict(found, sync_dist=trainer.world_size > 1)  # equal in all ranks already

    return Watching()


def of_transformers(watch: Watch) -> Any:
    """A `TrainerCallback`."""
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise InputError("watch.transformers() needs transformers: pip install transformers accelerate") from error

    class Watching(TrainerCallback):
        """Measures at the end of training epochs."""

        def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            found = watch(max(0, round(state.epoch) - 1))
            if found:
                state.log_history.append({"epoch": state.epoch, "step": state.global_step, **named(found)})

    return Watching()


def _lightning() -> Any:
    """The package that is imported already, else the first that is installed."""
    for name in sorted(LIGHTNING, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InputError("watch.lightning() needs Lightning, which is not installed: pip install lightning")
