from __future__ import annotations

import json

import numpy as np
import pytest

from probe.core.errors import InputError
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise
from probe.protocols.recorded import Recorded
from probe.protocols.shared.rows_file import write_rows


@pytest.fixture
def written(make_dataset, tmp_path):
    dataset = make_dataset([20, 20])
    path = tmp_path / "rows.json"
    write_rows(path, dataset, "full", 3, Full().split(dataset, 3))
    return dataset, path


@pytest.mark.parametrize("protocol", [Full(), FewShot(3), FewShot(1), LabelNoise(Full(), 0.3)])
def test_rows_come_back_as_they_were_written(make_dataset, tmp_path, protocol):
    dataset = make_dataset([20, 20])
    split = protocol.split(dataset, 3)
    write_rows(tmp_path / "rows.json", dataset, protocol.name, 3, split)
    back = Recorded(str(tmp_path / "rows.json")).split(dataset, 0)
    for part in ("train", "validation", "test"):
        assert getattr(back, part).partition == getattr(split, part).partition
        assert getattr(back, part).indices.dtype == np.int64
        assert getattr(back, part).indices.tolist() == getattr(split, part).indices.tolist()
    assert (back.folds is None) == (split.folds is None)
    if split.folds is not None:
        assert back.folds.tolist() == split.folds.tolist()
    if split.train_labels is not None:
        assert back.train_labels.tolist() == split.train_labels.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["rows.json"]


def test_missing_file_is_refused(make_dataset):
    with pytest.raises(InputError, match=r"there is no file nowhere/rows.json: set protocol.path"):
        Recorded("nowhere/rows.json").split(make_dataset([2, 2]), 0)


def test_other_content_is_refused(written):
    dataset, path = written
    dataset.partitions["train"].fingerprint = "other"
    del dataset.__dict__["fingerprint"]
    with pytest.raises(InputError, match=r"names rows of dataset rows with fingerprint .* content or the order"):
        Recorded(str(path)).split(dataset, 0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": 9}, "is no rows.json of schema 1"),
        ({"test": {"partition": "test", "indices": [0, 2]}}, "names row 2 of test to test, which has 2 rows"),
        ({"test": {"partition": "tset", "indices": [0]}}, "names row 0 of tset to test, which has 0 rows"),
        ({"test": {"partition": "train", "indices": list(range(40))}}, r"tests on row \d+ of train, which trains or"),
        ({"folds": [0, 1]}, "has 2 folds for 32 training rows"),
    ],
)
def test_damaged_file_is_refused(written, change, text):
    dataset, path = written
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=text):
        Recorded(str(path)).split(dataset, 0)


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_other_file_is_refused(written, content):
    dataset, path = written
    path.write_text(content)
    with pytest.raises(InputError, match=r"is not JSON|is no rows.json"):
        Recorded(str(path)).split(dataset, 0)


def contract_case(folder, data):
    """The rows of another protocol."""
    write_rows(folder / "rows.json", data, "full", 0, Full().split(data, 0))
