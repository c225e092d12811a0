"""Which heads and protocols fit the target of a dataset: by what they say of themselves, not by their names."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from probe import heads, protocols
from probe.core import targets
from probe.core.abilities import DrawsByShare, DrawsByShown, DrawsByStratum, TestsAlone
from probe.core.base import Dataset, SplitProtocol
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets import Target
from probe.core.targets.labels import has_unknown
from probe.experiment.identity import head_name

if TYPE_CHECKING:
    from probe.experiment.request import Run


def check_target(request: Run) -> None:
    """Refuses a head, a protocol or a part of a run that does not suit what a label of the dataset is."""
    target, head, protocol = request.dataset.target, request.head, request.protocol
    has = f"dataset {request.dataset.name} has {target.phrase}"
    if request.test_on is not None:
        _check_test_on(request.test_on, target, has)
    if target.name not in head.fits:
        fitted = " or ".join(targets.named(name).phrase for name in head.fits)
        choice = _plugins(heads, lambda kind: _stands_in(kind, target))
        instead = {"mask": "linear", "number_map": "ridge"}.get(target.name)
        more = f", or a head of pooled features such as {instead}, which takes patches" if instead else ""
        declared = "".join(f"{word}, or " for name in head.fits if (word := targets.named(name).declared))
        raise DoesNotFit(
            f"{has}, head {head_name(head)} fits {fitted}: {declared}choose {_listing('head', choice)}{more}"
        )
    if target.exclusive:
        return
    if not _draws(protocol, target):
        choice = _plugins(protocols, lambda kind: isinstance(kind, SplitProtocol) and _draws(kind, target))
        does = "draws by class" if target.learnt else "draws training rows"
        raise InputError(f"{has}, protocol {protocol.name} {does}: choose {_listing('protocol', choice)}")
    if target.name == "labels":
        _check_unknown(request, has)
    others: dict[str, Any] = {"head.teacher": request.teacher}
    others |= {} if target.calibrates else {"calibrate": request.calibrate}
    others |= {} if target.transfers else {"test_on": request.test_on}
    if asked := [name for name, value in others.items() if value]:
        raise InputError(f"{has}, {', '.join(asked)} need one class per row: leave them out")


def _check_unknown(request: Run, has: str) -> None:
    """Refuses what wants to know every label, where some are unknown."""
    unknown = [name for name, part in request.dataset.partitions.items() if has_unknown(np.asarray(part.labels))]
    if not unknown:
        return
    where = f"{has}, some of which are unknown in {', '.join(unknown)}"
    if not request.head.reads_unknown:
        choice = _plugins(heads, lambda kind: "labels" in getattr(kind, "fits", ()) and kind.reads_unknown)
        raise DoesNotFit(f"{where}, head {head_name(request.head)} reads known ones: choose {_listing('head', choice)}")
    if request.calibrate:
        raise DoesNotFit(
            f"{where}, calibrate=true answers with whole sets of labels, of which these say nothing: leave it out"
        )


def _check_test_on(other: Dataset, target: Target, has: str) -> None:
    given = f"dataset {other.name} has {other.target.phrase}"
    if not other.target.transfers:
        raise InputError(f"{given}: test_on takes one class per row, numbers to predict, masks or maps")
    if target.transfers and other.target.name != target.name:
        raise InputError(f"{has}, {given}: give a dataset to test_on that has {target.phrase}")


def _stands_in(kind: Any, target: Target) -> bool:
    """Whether a class is a head of a target that reads no more than others do, such as many layers."""
    fits = target.name in getattr(kind, "fits", ())
    # What measures features stands in for a head where there is nothing to predict.
    fitting = fits and not (target.learnt and hasattr(kind, "measure"))
    return fitting and "cells" not in kind.consumes


def _draws(protocol: Any, target: Target) -> bool:
    """Whether a protocol, or a class of such, draws by what takes the place of classes."""
    if not target.learnt:
        return isinstance(protocol, TestsAlone) and protocol.wants_train is False
    if target.even and isinstance(protocol, DrawsByShare) and protocol.by_share is True:
        return True
    if target.shows_several and isinstance(protocol, DrawsByShown) and protocol.by_shown is True:
        return True
    return isinstance(protocol, DrawsByStratum) and not protocol.by_class


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
