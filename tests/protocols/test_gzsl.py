import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.protocols.gzsl import GZSL

NAMES = ["ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen"]


def animals():
    parts = {}
    for part, n in {"train": 80, "test": 24}.items():
        labels = np.arange(n) % len(NAMES)
        parts[part] = ArrayPartition(np.arange(n, dtype=np.float32)[:, None], labels, [str(i) for i in range(n)])
    return make_dataset("animals", NAMES, parts)


def test_unseen_classes_have_no_row_to_learn_from_and_pseudo_unseen_ones_only_validate():
    data, protocol = animals(), GZSL()
    labels = np.asarray(data.partitions["train"].labels)
    for seed in range(4):
        split = protocol.split(data, seed)
        unseen, pseudo = protocol.unseen_classes(data, seed), protocol.pseudo_unseen_classes(data, seed)
        assert (len(unseen), len(pseudo)) == (2, 2)
        train, validation = labels[split.train.indices], labels[split.validation.indices]
        assert not np.isin(train, np.concatenate([unseen, pseudo])).any()
        assert not np.isin(validation, unseen).any()
        assert np.isin(pseudo, validation).all()
        assert np.bincount(validation, minlength=8)[pseudo].tolist() == [10, 10]
        assert set(train) <= set(validation)  # the gate sees seen classes too
        assert not np.intersect1d(split.train.indices, split.validation.indices).size
        assert len(split.test) == 24
    assert len({tuple(protocol.unseen_classes(data, seed)) for seed in range(6)}) > 1


def test_named_classes_are_unseen_under_every_seed():
    protocol, data = GZSL(unseen=["fox", "ant"]), animals()
    assert [protocol.unseen_classes(data, seed).tolist() for seed in range(3)] == [[0, 5]] * 3


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"unseen": ["emu"]}, r"unseen names class emu that dataset animals does not have, which has 8 classes"),
        ({"unseen": NAMES[:6]}, r"6 of 8 classes of dataset animals are unseen, expected at least 1, and 3 others"),
        ({"unseen": []}, r"0 of 8 classes of dataset animals are unseen"),
    ],
)
def test_classes_that_leave_nothing_to_learn_from_are_refused(given, text):
    with pytest.raises(InputError, match=text):
        GZSL(**given).split(animals(), 0)


def test_shares_outside_0_and_1_are_refused():
    with pytest.raises(InputError, match=r"unseen is 1.0, expected a share of the classes between 0 and 1"):
        GZSL(unseen=1.0)
    with pytest.raises(InputError, match="pseudo_unseen is 0, expected a share"):
        GZSL(pseudo_unseen=0)
