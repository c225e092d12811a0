import numpy as np
import pytest

from probe.core import targets
from probe.core.errors import InputError
from probe.core.targets.relevance import RELEVANCE, HasJudgements, Relevance, among
from probe.datasets.shared.judged_rows import JudgedPartition
from probe.datasets.shared.partitions import make_dataset
from probe.datasets.shared.subsets import limited
from probe.datasets.shared.text_rows import TextPartition
from probe.protocols.full import Full
from probe.protocols.official import Official
from probe.protocols.shared.strata import with_strata

JUDGED = [(4, 0, 2), (4, 2, 1), (4, 3, 0), (5, 3, 1)]


def partition(judged=JUDGED, same=((4, 1),)):
    """Four documents and three queries, the last of them without a judgement."""
    rows = TextPartition([f"text {i}" for i in range(7)], np.zeros(7, np.int64), [str(i) for i in range(7)])
    return JudgedPartition(rows, np.arange(7) > 3, judged, same)


def dataset(judged=JUDGED, **options):
    return make_dataset("x", (), {"test": partition(judged, **options)}, target=RELEVANCE, rows="texts")


def test_a_test_partition_alone_and_no_names_are_sound():
    data = dataset()
    assert isinstance(targets.named("relevance"), Relevance)
    assert isinstance(data.partitions["test"], HasJudgements)
    assert not data.faults()
    assert data.leading.labels.tolist() == [-1, -1, -1, -1, 2, 1, 0]
    assert data.target.described(data.leading.labels, ()) == (
        "4 documents and 3 queries", "relevant/query", "0 to 2, median 1; 1 query without any",
    )  # fmt: skip
    assert [data.target.shown(label, ()) for label in (-1, 1)] == ["document", "query of 1 relevant document"]
    assert RELEVANCE.fits_record(data.leading.labels, 0) == ""
    assert RELEVANCE.fits_record(np.array([-2]), 0).startswith("are not -1 of documents")


@pytest.mark.parametrize(
    ("judged", "text"),
    [
        ([(4, 0, 0), (5, 1, -1)], r"test has 3 queries, none with a relevant document among its 7 rows \(limit=null"),
        ([], "expected documents, and a query that has a relevant one: add them"),
    ],
)
def test_a_dataset_without_anything_to_find_is_refused(judged, text):
    with pytest.raises(InputError, match=text):
        dataset(judged)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0.5], "test has labels of float64"),
        ([-2], "test has labels of int64 and shape .1,., not -1 of documents"),
        ([-1, -1], "test has no query"),
        ([1, 0], "test has no document"),
    ],
)
def test_labels_that_are_no_roles_are_faults(labels, text):
    with pytest.raises(AssertionError, match=text):
        assert not RELEVANCE.faults("test", np.array(labels), ())


@pytest.mark.parametrize("protocol", [Full(), Official()])
def test_protocols_test_all_rows_and_train_on_none(protocol):
    data = dataset()
    assert with_strata(data) is data
    split = protocol.split(data, 3)
    assert split.test.indices.tolist() == list(range(7))
    assert not len(split.train) + len(split.validation)


def test_some_of_the_rows_keep_the_judgements_among_them():
    part = partition().subset(np.array([5, 2, 4, 3, 1]))
    assert part.ids == ["5", "2", "4", "3", "1"]
    assert part.judgements.tolist() == [[2, 1, 1], [2, 3, 0], [0, 3, 1]]
    assert part.same_ids.tolist() == [[2, 4]]
    assert part.labels.tolist() == [1, -1, 1, -1, -1]
    assert limited(dataset(), 6).leading.fingerprint != dataset().leading.fingerprint
    assert among(np.empty((0, 3), np.int64), np.arange(3)).shape == (0, 3)


def test_grades_and_ids_are_part_of_the_fingerprint():
    assert dataset().fingerprint == dataset().fingerprint
    assert dataset().fingerprint != dataset([(4, 0, 1), *JUDGED[1:]]).fingerprint
    assert dataset().fingerprint != dataset(same=()).fingerprint


@pytest.mark.parametrize(
    ("judged", "text"),
    [
        ([(0, 4, 1)], "judgements name rows that are no query and document, expected a row of each: mend them"),
        ([(4, 7, 1)], "judgements name rows that are no query and document"),
        ([(4, 0, 1), (4, 0, 2)], "judgements name a query and a document twice, expected once: leave one out"),
    ],
)
def test_judgements_of_other_rows_are_refused(judged, text):
    with pytest.raises(InputError, match=text):
        partition(judged)
