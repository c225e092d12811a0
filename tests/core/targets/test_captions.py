import numpy as np
import pytest

from probe.core import targets
from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.captions import CAPTIONS, Captions, HasCaptions
from probe.datasets.shared.caption_rows import CaptionPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.subsets import limited
from probe.protocols.full import Full
from probe.protocols.official import Official
from probe.protocols.shared.strata import with_strata


def partition(captions):
    images = np.arange(len(captions) * 12, dtype=np.uint8).reshape(-1, 2, 2, 3)
    return CaptionPartition(ArrayPartition(images, np.zeros(len(captions)), [str(i) for i in range(len(images))]),
                            captions)  # fmt: skip


def dataset(captions=(("a", "b"), (), ("c",))):
    return make_dataset("x", (), {"test": partition(captions)}, target=CAPTIONS, rows="images")


def test_a_test_partition_alone_and_no_names_are_sound():
    data = dataset()
    assert isinstance(targets.named("captions"), Captions)
    assert isinstance(data.partitions["test"], HasCaptions)
    assert not data.faults()
    assert data.leading.labels.tolist() == [2, 0, 1]
    assert data.target.described(data.leading.labels, ()) == (
        "3 captions", "captions / row", "0 to 2, median 1; 1 row without any",
    )  # fmt: skip
    assert data.target.shown(2, ()) == "2 captions"


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"train": partition([("a",)])}, "it has no partition test, only .'train'."),
        ({"test": partition([(), ()])}, r"test \(2 rows\) has no caption; expected a partition test with a caption"),
        ({"test": partition([])}, "test has no rows"),
    ],
)
def test_a_dataset_without_anything_to_find_is_refused(parts, text):
    with pytest.raises(InputError, match=text):
        make_dataset("x", (), parts, target=CAPTIONS, rows="images")


def test_labels_that_are_no_numbers_of_captions_are_faults():
    assert CAPTIONS.faults("test", np.array([0.5]), ())[0].startswith("test has labels of float64")
    assert CAPTIONS.faults("test", np.array([1, -1]), ())[0].endswith("not a number of captions per row")
    assert CAPTIONS.fits_record(np.array([0, 3]), 0) == ""
    assert CAPTIONS.fits_record(np.array([-1]), 0) == "are no numbers of captions"


@pytest.mark.parametrize("protocol", [Full(), Official()])
def test_protocols_test_all_rows_and_train_on_none(protocol):
    data = dataset()
    assert with_strata(data) is data
    split = protocol.split(data, 3)
    assert split.test.indices.tolist() == [0, 1, 2]
    assert not len(split.train) + len(split.validation)
    assert split.folds is None


def test_some_of_the_rows_keep_their_captions():
    data = limited(dataset(), 2)
    assert [len(texts) for texts in data.leading.captions] == data.leading.labels.tolist()
    assert data.leading.fingerprint != dataset().leading.fingerprint
    part = dataset().leading.subset(np.array([2, 0]))
    assert part.captions == [("c",), ("a", "b")]
    assert part.ids == ["2", "0"]


def test_a_caption_is_part_of_the_fingerprint():
    assert dataset().fingerprint == dataset().fingerprint
    assert dataset().fingerprint != dataset((("a", "b"), (), ("d",))).fingerprint
    assert isinstance(dataset(), Dataset)
