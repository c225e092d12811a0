"""Fixtures for the tests of the feature store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from extraction_toys import ToyBackbone, toy_dataset

from probe.base import Dataset


@pytest.fixture
def backbone() -> ToyBackbone:
    return ToyBackbone()


@pytest.fixture
def make_backbone() -> type[ToyBackbone]:
    return ToyBackbone


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    return toy_dataset
