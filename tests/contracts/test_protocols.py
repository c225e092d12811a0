"""What every protocol of conf/protocol must do.

The test file of a protocol that reads files has `contract_case(folder, dataset)`: it writes them below the working
folder, under the names that the yaml gives by default.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from contract_cases import contract_case
from hydra.utils import instantiate
from omegaconf import OmegaConf
from places import CONF, TESTS

from probe.core.abilities import DrawsByStratum
from probe.core.base import Dataset, IntArray, Split, SplitProtocol
from probe.core.errors import InputError
from probe.core.targets.labels import Labels
from probe.protocols.shared.groups import keep_together
from probe.protocols.shared.strata import with_strata
from probe.protocols.shared.unseen import HidesClasses

FOLDER = CONF / "protocol"
YAMLS = sorted(FOLDER.glob("*.yaml"))


@dataclass
class LabelsOnly:
    labels: IntArray
    fingerprint: str

    @property
    def ids(self) -> list[str]:
        return [str(i) for i in range(len(self.labels))]

    @property
    def sessions(self) -> IntArray:
        return np.arange(len(self)) // 8 % 3

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> object:
        raise AssertionError("a protocol read a row")


def dataset(fingerprint: str = "f") -> Dataset:
    sizes = {"train": 4000, "validation": 60, "test": 80}
    partitions = {name: LabelsOnly(np.arange(n) % 4, f"{fingerprint}/{name}") for name, n in sizes.items()}
    return Dataset("counting", ("a", "b", "c", "d"), partitions)


def build(path: Path) -> SplitProtocol:
    return instantiate(OmegaConf.load(path))


def lists(split: Split) -> list[tuple[str, list[int]]]:
    return [(rows.partition, rows.indices.tolist()) for rows in split.parts.values()]


@pytest.fixture(params=YAMLS, ids=lambda path: path.stem)
def path(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(request.param, tmp_path)
    return request.param


def prepare(path: Path, folder: Path) -> None:
    """Writes what a protocol reads into the working folder, where it reads something."""
    if case := contract_case("protocols", path.stem):
        case(folder, dataset())


def test_yaml_lists_every_parameter_with_the_python_default(path):
    protocol, parameters = build(path), inspect.signature(type(build(path))).parameters
    assert list(OmegaConf.load(path)) == ["_target_", *parameters]
    for name, parameter in parameters.items():
        assert parameter.default in (getattr(protocol, name), inspect.Parameter.empty)


def test_name_is_that_of_the_file(path):
    protocol = build(path)
    assert protocol.name == path.stem
    assert type(protocol).__module__ == f"probe.protocols.{path.stem}"
    assert (TESTS / "protocols" / f"test_{path.stem}.py").exists()


def test_train_validation_and_test_share_no_row(path):
    split = build(path).split(dataset(), 0)
    seen = set()
    for partition, rows in lists(split):
        named = {(partition, row) for row in rows}
        assert len(named) == len(rows)
        assert not named & seen
        seen |= named
    assert len(split.train)
    assert len(split.test)


def test_validation_never_comes_from_test(path):
    assert build(path).split(dataset(), 0).validation.partition != "test"


def test_indices_are_sorted_and_lie_in_their_partition(path):
    data = dataset()
    for partition, rows in lists(build(path).split(data, 1)):
        assert rows == sorted(rows)
        assert not rows or (rows[0] >= 0 and rows[-1] < len(data.partitions[partition]))


def test_every_class_trains(path):
    data = dataset()
    protocol = build(path)
    split = protocol.split(data, 2)
    trained, validated = (set(data.partitions[r.partition].labels[r.indices]) for r in (split.train, split.validation))
    if isinstance(protocol, HidesClasses):
        hidden = set(protocol.unseen_classes(data, 2))
        assert trained | validated == {0, 1, 2, 3} - hidden
    else:
        assert trained == {0, 1, 2, 3}


def test_same_dataset_and_seed_same_rows_and_no_global_state(path):
    np.random.seed(1)
    first = lists(build(path).split(dataset(), 5))
    np.random.seed(2)
    assert lists(build(path).split(dataset(), 5)) == first


def test_folds_are_named_only_where_nothing_validates(path):
    split = build(path).split(dataset(), 0)
    assert split.folds is None or (len(split.validation) == 0 and len(split.folds) == len(split.train))


def test_instances_are_frozen(path):
    with pytest.raises(AttributeError):
        build(path).name = "other"


def test_groups_are_kept_together_or_the_protocol_is_refused_by_name(path):
    data = dataset()
    groups = np.random.default_rng(0).permutation(4000) // 8
    data.partitions["train"].groups = groups
    protocol = build(path)
    split = protocol.split(data, 0)
    parts = [set(groups[rows.indices]) for rows in split.parts.values() if rows.partition == "train"]
    if sum(map(len, parts)) > len(set.union(*parts)):
        with pytest.raises(InputError, match=f"protocol {protocol.name} divides"):
            keep_together(data, split, protocol.name)
    else:
        kept = keep_together(data, split, protocol.name)
        assert len(kept.validation) or kept.folds is not None


def test_a_protocol_that_draws_by_stratum_takes_strata_for_classes(path):
    protocol, data = build(path), dataset()
    if not isinstance(protocol, DrawsByStratum) or protocol.by_class:
        return
    targets = {name: np.eye(4, dtype=np.int64)[p.labels] for name, p in data.partitions.items()}
    parts = {name: LabelsOnly(labels, f"f/{name}") for name, labels in targets.items()}
    seen = with_strata(replace(data, partitions=parts, target=Labels()))
    assert len(protocol.split(seen, 0).train)


def test_without_a_test_partition_it_draws_test_rows_or_names_those_that_do(path):
    whole = dataset()
    data = Dataset(whole.name, whole.class_names, {"train": whole.partitions["train"]})
    if path.stem in ("holdout", "cross_validation"):
        split = build(path).split(data, 0)
        assert {rows.partition for rows in split.parts.values()} == {"train"}
        return
    text = None if path.stem == "recorded" else "protocol=holdout or protocol=cross_validation"
    with pytest.raises(InputError, match=text):  # recorded rows are those of another dataset
        build(path).split(data, 0)
