"""Import paths of version 0.1."""

import importlib
import pickle

import pytest

from probe.core.errors import InputError
from probe.core.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_is_the_module_that_stands_elsewhere_now(old):
    new = importlib.import_module(f"probe.{MOVED[old]}")
    assert importlib.import_module(f"probe.{old}") is new
    assert new.__name__ == new.__spec__.name == f"probe.{MOVED[old]}"


def test_an_error_is_caught_under_either_name():
    from probe.errors import InputError as Old

    assert Old is InputError
    assert type(pickle.loads(pickle.dumps(Old("x")))) is InputError


def test_other_paths_are_gone():
    with pytest.raises(ModuleNotFoundError, match=r"probe\.determinants"):
        importlib.import_module("probe.determinants")
