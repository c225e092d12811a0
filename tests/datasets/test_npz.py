import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.npz import load

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
LABELS = np.array([[0], [1], [1], [0]])


def write(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return str(tmp_path / "set.npz")


def test_medmnist_names_and_column_labels(tmp_path):
    path = write(
        tmp_path,
        train_images=IMAGES,
        train_labels=LABELS,
        val_images=IMAGES[:2],
        val_labels=LABELS[:2],
        test_images=IMAGES[2:],
        test_labels=LABELS[2:],
    )
    data = load(path, class_names=["no", "yes"])
    assert (data.name, data.class_names) == ("set", ("no", "yes"))
    assert set(data.partitions) == {"train", "validation", "test"}
    assert data.partitions["train"].labels.tolist() == [0, 1, 1, 0]
    image = data.partitions["test"][1]
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), IMAGES[3])


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 1)])
def test_keras_names_and_greyscale(tmp_path, shape):
    grey = IMAGES[..., 0].reshape(shape)
    data = load(write(tmp_path, x_train=grey, y_train=LABELS[:, 0], x_test=grey, y_test=LABELS[:, 0]))
    assert data.partitions["train"][0].mode == "L"
    np.testing.assert_array_equal(np.asarray(data.partitions["train"][0]), IMAGES[0, ..., 0])


def test_vectors_stay_vectors(tmp_path):
    X = np.ones((4, 3))
    data = load(write(tmp_path, X_train=X, y_train=["b", "a", "a", "b"], X_test=X, y_test=["b", "a", "a", "b"]))
    assert data.class_names == ("a", "b")
    assert data.partitions["train"][0].shape == (3,)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"a": IMAGES}, r"has the arrays a, expected train_images, train_labels"),
        ({"train_images": IMAGES / 255.0}, r"train_images of .* is float64 of shape \(4, 5, 6, 3\), expected uint8"),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2)}, r"shape \(4, 3, 5, 6\), expected uint8 images"),
        ({"train_labels": LABELS[:3]}, r"train_labels of .* has shape \(3, 1\), expected one label, or a column"),
        ({"train_labels": np.array([{}] * 4)}, r"no readable \.npz of plain arrays"),
    ],
)
def test_unfitting_arrays_are_refused(tmp_path, arrays, text):
    sound = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS}
    with pytest.raises(InputError, match=text):
        load(write(tmp_path, **(arrays if "a" in arrays else {**sound, **arrays})))


@pytest.mark.parametrize("content", [None, b"", b"junk", b"PK\x03\x04junk"])
def test_files_that_are_no_npz_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz is no readable \.npz"):
        load(str(tmp_path / "a.npz"))
    with pytest.raises(InputError, match=r"none is given: set dataset\.path"):
        load()


def test_a_column_per_label_gives_targets(tmp_path):
    targets = np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
    rows = np.zeros((3, 4), np.float32)
    np.savez(tmp_path / "a.npz", x_train=rows, y_train=targets, x_test=rows, y_test=targets)
    data = load(str(tmp_path / "a.npz"), class_names=["cat", "dog"])
    np.testing.assert_array_equal(data.partitions["train"].labels, targets)
    assert data.partitions["train"].labels.dtype == np.int64
    np.savez(tmp_path / "a.npz", x_train=rows, y_train=targets, x_test=rows, y_test=np.zeros(3))
    with pytest.raises(InputError, match=r"test has one label per row in .* where another partition has a column"):
        load(str(tmp_path / "a.npz"))


def test_arrays_say_more_of_each_row(tmp_path):
    parts = {f"{part}_{what}": v for part in ("train", "test") for what, v in (("images", IMAGES), ("labels", LABELS))}
    facts = {"train_sessions": np.array(list("aabb")), "test_sessions": np.arange(4), "train_hardness": np.arange(4)}
    plain, known = load(write(tmp_path, **parts)), load(write(tmp_path, **parts, **facts))
    assert known.partitions["train"].sessions.tolist() == list("aabb")
    assert known.partitions["test"].sessions.tolist() == [0, 1, 2, 3]
    assert known.partitions["train"].hardness.tolist() == [0, 1, 2, 3]
    assert not hasattr(known.partitions["test"], "hardness")
    assert known.fingerprint == plain.fingerprint
    with pytest.raises(InputError, match=r"sessions of train have shape \(3,\), expected one value for each of its 4"):
        load(write(tmp_path, **parts, train_sessions=np.arange(3)))
    with pytest.raises(InputError, match=r"hardness of row 1 of train is 'nan', expected a finite number"):
        load(write(tmp_path, **parts, train_hardness=np.array([0, np.nan, 1, 2])))


@pytest.mark.parametrize(("rows", "labels"), [("images", "labels"), ("X", "y"), ("data", "targets")])
def test_one_pair_of_arrays_is_train(tmp_path, rows, labels):
    data = load(write(tmp_path, **{rows: IMAGES, labels: LABELS, "groups": np.arange(4)}))
    assert list(data.partitions) == ["train"]
    assert data.partitions["train"].groups.tolist() == [0, 1, 2, 3]


def test_rows_or_labels_that_stand_alone_are_refused_and_other_arrays_told(tmp_path):
    whole = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS}
    data = load(write(tmp_path, **whole, mean=np.zeros(3), split=np.zeros(3)))
    assert data.notes["left_out"] == ["2 arrays of set.npz (mean, split)"]
    with pytest.raises(InputError, match=r"has val_images of validation, expected images and labels as train has"):
        load(write(tmp_path, **whole, val_images=IMAGES))
    with pytest.raises(InputError, match=r"has y_val of validation, expected images and labels as train has"):
        load(write(tmp_path, **whole, y_val=LABELS))
    with pytest.raises(InputError, match=r"has test_features, test_labels of test, expected images and labels"):
        load(write(tmp_path, train_images=IMAGES, train_labels=LABELS, test_features=IMAGES, test_labels=LABELS))


def test_two_kinds_of_rows_are_a_question(tmp_path):
    vectors = np.ones((4, 3))
    arrays = {"train_features": vectors, "train_data": IMAGES, "train_labels": LABELS}
    path = write(tmp_path, **arrays)
    with pytest.raises(InputError, match=r"2 arrays that may hold rows \(features, data\).*set dataset\.rows_key"):
        load(path)
    assert load(path, rows_key="features").partitions["train"][0].shape == (3,)
    assert isinstance(load(path, rows_key="data").partitions["train"][0], Image.Image)
    path = write(tmp_path, train_scans=IMAGES, train_kind=LABELS)
    assert len(load(path, rows_key="scans", labels_key="kind").partitions["train"]) == 4


def test_two_arrays_of_one_name_are_refused(tmp_path):
    path = write(tmp_path, train_images=IMAGES, train_labels=LABELS)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("train_labels.npy", archive.read("train_labels.npy"))
    with pytest.raises(InputError, match="several arrays named 'train_labels', expected one"):
        load(path)


def test_labels_from_1_on_are_mapped_on_request(tmp_path):
    data = load(write(tmp_path, images=IMAGES, labels=LABELS + 1), map_labels=True)
    assert (data.class_names, data.partitions["train"].labels.tolist()) == (("1", "2"), [0, 1, 1, 0])


def contract_case(root):
    root.mkdir()
    images = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3)
    labels = [0, 1, 0, 1]
    np.savez(root / "a.npz", train_images=images, train_labels=labels, test_images=images + 99, test_labels=labels)
    return {"path": str(root / "a.npz")}


def test_floats_of_steps_and_channels_are_series(tmp_path):
    X = np.arange(24.0).reshape(4, 3, 2)
    path = write(tmp_path, train_series=X, train_labels=LABELS, train_lengths=[3, 1, 2, 3])
    data = load(path)
    assert data.rows == "series"
    assert data.partitions["train"].lengths.tolist() == [3, 1, 2, 3]
    np.testing.assert_array_equal(data.partitions["train"][2], X[2, :2])
    assert "left_out" not in data.notes
    assert load(write(tmp_path, X_train=X, y_train=LABELS)).rows == "series"
    one_channel = load(write(tmp_path, train_series=X[..., 0].astype(int), train_labels=LABELS))
    np.testing.assert_array_equal(one_channel.partitions["train"][1], X[1, :, :1])


def test_missing_steps_at_the_end_of_series_are_none(tmp_path):
    X = np.arange(24.0).reshape(4, 3, 2)
    X[1, 2], X[2, 1, 0] = np.nan, np.nan
    path = write(tmp_path, train_series=X, train_labels=LABELS)
    with pytest.raises(InputError, match=r"row 2 of train of .* has no value in step 1 of channel 0"):
        load(path)
    train = load(path, gaps="interpolate").partitions["train"]
    assert train.lengths.tolist() == [3, 2, 3, 3]
    assert train[2][1, 0] == (X[2, 0, 0] + X[2, 2, 0]) / 2


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (
            {"train_series": np.ones((4, 3, 2, 1))},
            r"train_series of .* is float64 of shape \(4, 3, 2, 1\), expected num",
        ),
        ({"train_series": np.array([["a"]] * 4)}, r"is <U1 of shape \(4, 1\), expected numbers \(N, T, C\)"),
        ({"train_lengths": [1, 2, 3]}, r"the lengths of train_series of .* are int64 of shape \(3,\)"),
        ({"train_lengths": [1, 2, 3, 4]}, r"row 3 of train_series of .* is 4 steps long, expected 1 to 3"),
        ({"train_series": np.full((4, 3, 2), np.inf)}, r"row 0 of train of .* has inf in step 0 of channel 0"),
    ],
)
def test_unfitting_series_are_refused(tmp_path, arrays, text):
    with pytest.raises(InputError, match=text):
        load(write(tmp_path, **{"train_series": np.ones((4, 3, 2)), "train_labels": LABELS, **arrays}))


def scenes(root, masks, **more):
    images = np.zeros((*np.shape(masks), 3), dtype=np.uint8)
    file = root / "scenes.npz"
    np.savez(file, train_images=images, train_masks=masks, test_images=images[:2], test_masks=masks[:2], **more)
    return str(file)


def test_images_may_have_masks_in_the_place_of_labels(tmp_path):
    masks = np.array([[[0, 1, 2]], [[255, 1, 2]], [[2, 2, 0]]])
    data = load(scenes(tmp_path, masks, train_groups=np.array(["a", "b", "b"])), class_names=["background", "x", "y"])
    assert (data.target.name, data.target.background) == ("mask", 0)
    assert data.partitions["train"].masks[1].tolist() == [[255, 1, 2]]
    assert data.partitions["train"].labels.tolist() == [[1, 1, 1], [0, 1, 1], [1, 0, 2]]
    assert data.partitions["train"].groups.tolist() == ["a", "b", "b"]
    assert data.partitions["train"][0].size == (3, 1)


@pytest.mark.parametrize(
    ("masks", "text"),
    [
        (
            np.full((3, 1, 3), 0.5),
            r"train_masks of .* is float64 of shape \(3, 1, 3\), expected masks of whole numbers",
        ),
        (np.full((3, 1, 3), -1), "train_masks of .* runs from -1 to -1, expected codes from 0 on"),
        (np.array([[[0, 1]], [[0, 7]]]), "the masks of train hold the codes 0, 1, 7, expected all from 0 on"),
    ],
)
def test_odd_masks_are_refused(tmp_path, masks, text):
    with pytest.raises(InputError, match=text):
        load(scenes(tmp_path, masks))
