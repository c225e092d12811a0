"""Fixtures for the tests of the feature store."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from extraction_toys import ToyBackbone, Unguarded, toy_dataset

from probe.core.base import Dataset


@pytest.fixture
def backbone() -> ToyBackbone:
    return ToyBackbone()


@pytest.fixture
def make_backbone() -> type[ToyBackbone]:
    return ToyBackbone


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    return toy_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(root: Path) -> Unguarded:
    return Unguarded(root)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can be let into, as none below pytest's own can; it is removed whatever its rights."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        for path in [Path(folder), *Path(folder).rglob("*")]:
            path.chmod(0o755)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(scope="module")
def server() -> None:
    """Starts the process that the children are forked from."""
    from extraction_parent import start

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        patch.setenv("OMP_NUM_THREADS", "1")
        start(int).join()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """The bits of an extraction that nothing disturbed, by number of rows."""
    import extraction_child as child
    from extraction_parent import bytes_of

    root = tmp_path_factory.mktemp("uninterrupted")
    return {n: bytes_of(child.extract(root / str(n), root / "log", n=n, delay=0.0)) for n in (20, 200)}
