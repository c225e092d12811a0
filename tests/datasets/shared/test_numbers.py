"""Numbers to predict, from every source that can hold them."""

import re

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from probe.core.errors import InputError
from probe.core.targets.number import Number
from probe.core.targets.one_class import OneClass
from probe.datasets import csv, features, huggingface, npz, parquet, texts
from probe.datasets.shared.in_memory import dataset_of
from probe.datasets.shared.numbers import numbers_asked

rng = np.random.default_rng(0)
X, AGE, DEPTH = rng.normal(size=(30, 3)), rng.uniform(20, 90, 30).round(2), rng.normal(size=30)
BOTH = np.column_stack([AGE, DEPTH])


def frame(age=AGE):
    return pd.DataFrame({"f0": X[:, 0], "f1": X[:, 1], "f2": X[:, 2], "age": age, "depth": DEPTH})


def from_csv(folder, **more):
    frame().to_csv(folder / "a.csv", index=False)
    return csv.load(str(folder / "a.csv"), **more)


def from_parquet(folder, **more):
    frame().to_parquet(folder / "a.parquet", index=False)
    return parquet.load(str(folder / "a.parquet"), **more)


def from_npz(folder, **more):
    np.savez(folder / "a.npz", x_train=X, age_train=AGE, depth_train=DEPTH)
    return npz.load(str(folder / "a.npz"), **more)


def from_features_npz(folder, **more):
    np.savez(folder / "a.npz", features=X, age=AGE, depth=DEPTH)
    return features.load(str(folder / "a.npz"), **more)


def from_features_npy(folder, **more):
    np.save(folder / "train.npy", X)
    wanted = more["target_columns"]
    np.save(folder / "train_labels.npy", BOTH if len(wanted) > 1 else AGE)
    return features.load(str(folder), **more)


def from_features_safetensors(folder, **more):
    save_file({"features": X, "age": AGE, "depth": DEPTH}, folder / "a.safetensors")
    return features.load(str(folder / "a.safetensors"), **more)


def from_features_parquet(folder, **more):
    pd.DataFrame({"features": X.tolist(), "age": AGE, "depth": DEPTH}).to_parquet(folder / "a.parquet")
    return features.load(str(folder / "a.parquet"), **more)


def from_texts(folder, **more):
    rows = [f"row {i}" for i in range(30)]
    pd.DataFrame({"text": rows, "age": AGE, "depth": DEPTH}).to_csv(folder / "t.csv", index=False)
    return texts.load(str(folder / "t.csv"), **more)


def from_parquet_of_images(folder, **more):
    pictures(folder).to_parquet(folder / "a.parquet")
    return parquet.load(str(folder / "a.parquet"), **more)


def from_hugging_face(folder, **more):
    pictures(folder).save_to_disk(folder / "saved")
    return huggingface.load(str(folder / "saved"), **more)


def pictures(folder):
    images = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(30)]
    columns = {"image": images, "age": AGE, "depth": DEPTH}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


SOURCES = [value for name, value in list(globals().items()) if name.startswith("from_")]
every_source = pytest.mark.parametrize("read", SOURCES, ids=lambda read: read.__name__)


@every_source
def test_one_column_and_several_are_read_as_they_stand(read, tmp_path):
    data = read(tmp_path, target_columns=["age"], units=["years"])
    assert (data.target, data.class_names) == (Number(("years",)), ("age",))
    np.testing.assert_array_equal(data.partitions["train"].labels, AGE)
    both = read(tmp_path, target_columns=["age", "depth"]) if "hugging" not in read.__name__ else None
    if both:
        np.testing.assert_array_equal(both.partitions["train"].labels, BOTH)
        assert both.class_names == ("age", "depth")
        assert both.fingerprint != data.fingerprint
        row = both.partitions["train"][0]
        assert isinstance(row, Image.Image) or len(row) >= 3


@every_source
def test_a_column_that_is_not_there_is_refused_with_those_that_are(read, tmp_path):
    if read is from_features_npy:
        pytest.skip("a bare array names no column")
    with pytest.raises(InputError, match="height"):
        read(tmp_path, target_columns=["height"])


def with_gaps(folder, **more):
    ages = AGE.astype(object)
    ages[[3, 7]] = ""
    frame(ages).to_csv(folder / "gaps.csv", index=False)
    return csv.load(str(folder / "gaps.csv"), target_columns="age", feature_columns="f*", **more)


def test_missing_numbers_are_refused_or_dropped_and_counted(tmp_path):
    text = "row 3 of train of .* has no value in column age, expected a number: fill it in, or set dataset.missing=drop"
    with pytest.raises(InputError, match=text):
        with_gaps(tmp_path)
    data = with_gaps(tmp_path, missing="drop")
    np.testing.assert_array_equal(data.partitions["train"].labels, np.delete(AGE, [3, 7]))
    np.testing.assert_allclose(np.stack([data.partitions["train"][i] for i in range(28)]), np.delete(X, [3, 7], 0))
    assert data.notes["left_out"] == ["2 rows of train without a number to predict"]


def test_missing_numbers_of_parquet_and_arrays_are_known_too(tmp_path):
    ages = np.where(np.arange(30) == 4, np.nan, AGE)
    frame(ages).to_parquet(tmp_path / "a.parquet")
    how = {"target_columns": "age", "feature_columns": "f*"}
    with pytest.raises(InputError, match="row 4 of train"):
        parquet.load(str(tmp_path / "a.parquet"), **how)
    assert len(parquet.load(str(tmp_path / "a.parquet"), missing="drop", **how).partitions["train"]) == 29
    assert len(dataset_of({"train": (X, ages)}, target="number", missing="drop").partitions["train"]) == 29


@pytest.mark.parametrize("bad", ["old", "inf", "1,5"])
def test_text_and_infinity_in_a_column_of_numbers_are_refused_with_their_row(bad, tmp_path):
    ages = AGE.astype(object)
    ages[5] = bad
    frame(ages).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=re.escape(f"has {bad!r} in column age, expected a finite number: mend it")):
        csv.load(str(tmp_path / "a.csv"), target_columns="age", feature_columns="f*", missing="drop")


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"target_columns": "age", "class_names": ["a"]}, "dataset.class_names says something of classes: leave one"),
        ({"target_columns": "age", "label_column": "depth"}, "dataset.label_column says something of classes"),
        ({"label_column": "age", "units": "years"}, "dataset.units and dataset.missing are for numbers to predict"),
        ({"target_columns": []}, "dataset.target_columns names no column, expected at least one"),
        ({"target_columns": "age", "units": ["a", "b"]}, r"it has 2 units \(a, b\) for 1 columns"),
        ({"target_columns": "age", "missing": "skip"}, "missing is 'skip', expected refuse or drop"),
    ],
)
def test_what_is_said_twice_or_of_nothing_is_refused(how, text, tmp_path):
    with pytest.raises(InputError, match=text):
        from_csv(tmp_path, feature_columns="f*", **how)


def test_images_listed_in_a_table_have_numbers_too(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(12)], "age": AGE[:12]})
    table.to_csv(tmp_path / "a.csv", index=False)
    data = csv.load(str(tmp_path / "a.csv"), target_columns="age")
    np.testing.assert_array_equal(data.partitions["train"].labels, AGE[:12])
    np.testing.assert_array_equal(data.partitions["train"].subset(np.array([3, 1])).labels, AGE[[3, 1]])


def test_numbers_in_python_are_declared_and_never_guessed():
    data = dataset_of({"train": (X, AGE)}, target="number", class_names="age", units="years")
    assert (data.target, data.class_names) == (Number(("years",)), ("age",))
    assert dataset_of({"train": (X, BOTH)}, target="number").class_names == ("y_0", "y_1")
    said = re.escape('dataset=((X, y), {"target": "number"})')
    with pytest.raises(InputError, match=f"has the label .* expected a class number .* declared, .*{said}"):
        dataset_of({"train": (X, AGE)})
    with pytest.raises(InputError, match=f"labels out of range, .*{said}"):
        dataset_of({"train": (X, AGE.round(0))})
    with pytest.raises(InputError, match=f"in label column 0 of .*{said}"):
        dataset_of({"train": (X, BOTH)})
    assert dataset_of({"train": (X, np.arange(30.0) % 3)}).target == OneClass()
    with pytest.raises(InputError, match="target is 'float', expected number, or nothing for classes"):
        dataset_of({"train": (X, AGE)}, target="float")
    with pytest.raises(InputError, match="class_names has 3 names for 2 columns of y: name each"):
        dataset_of({"train": (X, BOTH)}, target="number", class_names=["a", "b", "c"])


def test_pairs_of_a_torch_dataset_may_end_in_a_number():
    pairs = [(X[i].astype(np.float32), AGE[i]) for i in range(30)]
    data = dataset_of({"train": pairs}, target="number")
    np.testing.assert_array_equal(data.partitions["train"].labels, AGE)


def test_partitions_have_the_same_columns():
    asked = numbers_asked(["y"], None, "refuse")
    with pytest.raises(InputError, match="test of x has the numbers y where train has y_0, y_1, expected the same"):
        asked.read({"train": {"y": BOTH}, "test": {"y": AGE}}, "x")
