"""Which heads and protocols fit the target of a dataset: by what they say of themselves, not by their names."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from probe import heads, protocols
from probe.core import targets
from probe.core.base import DrawsByStratum
from probe.core.errors import DoesNotFit, InputError
from probe.experiment.identity import head_name

if TYPE_CHECKING:
    from probe.experiment.request import Run


def check_target(request: Run) -> None:
    """Refuses a head, a protocol or a part of a run that does not suit what a label of the dataset is."""
    target, head, protocol = request.dataset.target, request.head, request.protocol
    if request.test_on is not None and not request.test_on.target.exclusive:
        given = f"dataset {request.test_on.name} has {request.test_on.target.phrase}"
        raise InputError(f"{given}: test_on takes one class per row")
    has = f"dataset {request.dataset.name} has {target.phrase}"
    if target.name not in head.fits:
        fitted = " or ".join(targets.named(name).phrase for name in head.fits)
        choice = _plugins(heads, lambda kind: target.name in getattr(kind, "fits", ()) and not hasattr(kind, "measure"))
        raise DoesNotFit(f"{has}, head {head_name(head)} fits {fitted}: choose {_listing('head', choice)}")
    if target.exclusive:
        return
    if not isinstance(protocol, DrawsByStratum) or protocol.by_class:
        choice = _plugins(protocols, lambda kind: getattr(kind, "by_class", True) is False)
        raise InputError(f"{has}, protocol {protocol.name} draws by class: choose {_listing('protocol', choice)}")
    others = {"test_on": request.test_on, "calibrate": request.calibrate, "head.teacher": request.teacher}
    if asked := [name for name, value in others.items() if value]:
        raise InputError(f"{has}, {', '.join(asked)} need one class per row: leave them out")


def _plugins(room: ModuleType, suits: Callable[[Any], bool]) -> list[str]:
    """Modules of a room that define a class which suits."""
    found = []
    for module in pkgutil.iter_modules(room.__path__):
        if not module.ispkg:
            loaded = importlib.import_module(f"{room.__name__}.{module.name}")
            own = [kind for kind in vars(loaded).values() if getattr(kind, "__module__", "") == loaded.__name__]
            found += [module.name] * any(isinstance(kind, type) and suits(kind) for kind in own)
    return found


def _listing(group: str, names: list[str]) -> str:
    if not names:
        return f"a {group} of your own, none of the package fits"
    return f"{group}={names[0]}" if len(names) == 1 else f"one of {', '.join(names)}"
