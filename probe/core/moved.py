"""Import paths of version 0.1 that plug-ins of one's own name go on working; all others are gone."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False  # as `typing` has it, whose import would be the dearest of `import probe`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PACKAGE = __name__.partition(".")[0] + "."
MOVED = {
    "base": "core.base",
    "errors": "core.errors",
    "arrays": "core.arrays",
    "labels": "datasets.shared.labels",
    "partitions": "datasets.shared.partitions",
    "frozen": "backbones.shared.network",
    "merging": "heads.shared.merging",
}
"""Module below the package, and where it stands now."""


class _Moved:
    """Gives the module that stands elsewhere now: the same object under both names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        below = fullname.removeprefix(PACKAGE)
        if below == fullname or below not in MOVED:
            return None
        return ModuleSpec(fullname, self)  # type: ignore[arg-type]  # the methods alone are asked for

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(PACKAGE + MOVED[spec.name.removeprefix(PACKAGE)])
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own  # the import system has given it that of the old name


def keep() -> None:
    """Lets the old names be imported; they are asked for last."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
