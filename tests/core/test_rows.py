import numpy as np
import pytest
from PIL import Image

from probe.backbones.identity import IdentityBackbone
from probe.backbones.raw import RawInput
from probe.backbones.rocket import RocketBackbone
from probe.backbones.series_transformer import SeriesTransformer
from probe.backbones.shared.views import MultiView
from probe.backbones.summary import SummaryBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.base import Dataset
from probe.core.errors import DoesNotFit, InputError
from probe.core.rows import ROWS, check_rows, rows_of, sort_of
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.series_rows import SeriesPartition
from probe.datasets.sklearn import load
from probe.features.store import FeatureStore


class Untouched:
    """A partition of which no row may be read."""

    labels, ids, fingerprint = np.arange(2), ["a", "b"], "0"

    def __len__(self):
        return 2

    def __getitem__(self, row):
        raise AssertionError("a row was read")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Image.new("L", (2, 2)), "images"),
        ("a text", "texts"),
        (np.zeros((5, 3)), "series"),
        (np.zeros(5), "vectors"),
        (np.zeros((2, 2, 2)), None),
        ({"a": 1}, None),
    ],
)
def test_a_row_says_what_it_is(row, expected):
    assert sort_of(row) == expected


def test_what_is_declared_is_not_looked_for():
    for rows in ROWS:
        assert rows_of(Dataset("d", ("a", "b"), {"train": Untouched()}, rows=rows)) == rows


def test_a_dataset_that_declares_nothing_is_asked_by_its_first_row():
    part = ArrayPartition(np.zeros((2, 4)), [0, 1], ["0", "1"])
    assert rows_of(Dataset("d", ("a", "b"), {"train": part})) == "vectors"
    assert rows_of(Dataset("d", ("a", "b"), {})) is None


def test_a_first_row_that_cannot_be_decoded_leaves_it_open():
    class Broken(Untouched):
        def __getitem__(self, row):
            raise OSError("truncated")

    dataset = Dataset("d", ("a", "b"), {"train": Broken()})
    assert rows_of(dataset) is None
    check_rows(TinyBackbone(pretrained=False), dataset)


@pytest.mark.parametrize(
    ("backbone", "rows", "text"),
    [
        (TinyBackbone, "vectors", "tiny-random reads images, the rows of dataset d are vectors: set backbone=identity"),
        (TinyBackbone, "texts", "reads images, the rows of dataset d are texts: set backbone=huggingface"),
        (IdentityBackbone, "images", "identity reads vectors, the rows of dataset d are images: set backbone=tiny"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_before_a_row_is_read(tmp_path, backbone, rows, text):
    one = backbone(pretrained=False) if backbone is TinyBackbone else backbone()
    dataset = Dataset("d", ("a", "b"), {"train": Untouched()}, rows=rows)
    with pytest.raises(DoesNotFit, match=text):
        FeatureStore(tmp_path / "cache").get(one, dataset, "train", ["pooled"])
    assert not (tmp_path / "cache").exists()


def test_loaders_declare_what_their_rows_are():
    assert [load(name).rows for name in ("digits", "iris")] == ["images", "vectors"]
    assert load("digits", as_rows=True).rows == "vectors"


def test_views_are_made_of_images_alone():
    with pytest.raises(InputError, match=r"views are made of images, backbone identity reads vectors: set views\.n=1"):
        MultiView(IdentityBackbone())


@pytest.mark.parametrize(
    ("backbone", "text"),
    [
        (
            RocketBackbone(),
            r"a series has 5 steps, the widest kernel .* spans 11: set shorter backbone.lengths, such as \[3,5\]",
        ),
        (
            RocketBackbone(lengths=[3], length=9),
            r"a series has 5 steps, .* set backbone.length=5, the steps of the short",
        ),
        (
            RawInput("series"),
            r"series have 5 to 9 steps, backbone raw needs one length for all: set backbone.n_steps=9",
        ),
        (
            SeriesTransformer(length=8, dim=8, heads=1),
            r"a series has 9 steps, .* reads at most 8: set backbone.length=9",
        ),
    ],
)
def test_series_of_lengths_that_a_backbone_cannot_read_are_refused_before_any_is_read(backbone, text):
    parts = {part: SeriesPartition([np.ones((9, 1)), np.ones((n, 1))], [0, 1], ["a", "b"])
             for part, n in (("train", 9), ("test", 5))}  # fmt: skip
    data = make_dataset("waves", ["a", "b"], parts, rows="series")
    with pytest.raises(InputError, match=text):
        check_rows(backbone, data)
    check_rows(SummaryBackbone(), data)
