"""Every dataset of `conf/dataset` keeps the contract of `probe.core.base.Dataset` and `probe.core.base.Partition`.

The test file of a dataset that reads files has `contract_case(root) -> dict`: it writes some below `root`, a folder
that is not there yet, and returns the parameters that name them; two classes, the partitions train and test.
"""

import inspect
import pickle

import numpy as np
import places
import pytest
from contract_cases import contract_case
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from PIL import Image

from probe.core.base import Dataset, Partition
from probe.core.rows import sort_of

CONF = places.CONF / "dataset"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def config(name):
    given = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    given.pop("defaults", None)  # which backbone reads such rows
    return given


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def make(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    parameters = case(tmp_path / "files") if (case := contract_case("datasets", name)) else {}
    return lambda: instantiate({**config(name), **parameters}, _convert_="all")


def same(one, two):
    return one == two if isinstance(one, str) else np.array_equal(np.asarray(one), np.asarray(two))


def test_yaml_lists_every_parameter(name):
    given = config(name)
    parameters = inspect.signature(get_object(given.pop("_target_"))).parameters
    defaults = {p.name: p.default for p in parameters.values()}
    assert given.keys() == defaults.keys()
    # Several yaml may share one loader and choose by `name`.
    assert {k: v for k, v in given.items() if k != "name"} == {k: v for k, v in defaults.items() if k != "name"}


def test_partitions_keep_the_contract(make):
    data = make()
    assert isinstance(data, Dataset)
    assert {"test"} | ({"train"} if data.target.learnt else set()) <= set(data.partitions)
    for part in data.partitions.values():
        assert isinstance(part, Partition)
        assert part.labels.dtype == (np.float64 if data.target.even else np.int64)
        assert len(part.labels) == len(part)
        assert len(part.ids) == len(set(part.ids)) == len(part)
        assert all(isinstance(row_id, str) for row_id in part.ids)
        if data.target.exclusive:
            assert 0 <= part.labels.min() <= part.labels.max() < len(data.class_names)
    if data.target.exclusive:
        assert set(data.partitions["train"].labels) == set(range(len(data.class_names)))
    assert not data.faults()


def test_two_loads_are_equal(make):
    one, two = make(), make()
    assert one.fingerprint == two.fingerprint
    assert len({part.fingerprint for part in one.partitions.values()}) == len(one.partitions)
    part, again = one.partitions["test"], two.partitions["test"]
    assert same(part[1], again[1])
    np.testing.assert_array_equal(part.labels, again.labels)


def test_rows_are_what_the_dataset_says(make):
    data = make()
    row = data.leading[0]
    assert isinstance(row, Image.Image | str) or (row.ndim in (1, 2) and row.dtype.kind == "f")
    assert data.rows in (None, sort_of(row))


def test_a_pickled_partition_gives_the_same_rows(make):
    part = make().leading
    first = part[0]
    assert same(pickle.loads(pickle.dumps(part))[0], first)
