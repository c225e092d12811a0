import io
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.shared.partitions import count_duplicates
from probe.datasets.shared.subsets import limited

datasets = pytest.importorskip("datasets")

from probe.datasets.huggingface import load  # noqa: E402


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """The library's own cache goes into the test's folder, and nothing is looked up on the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def encoded(value, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("L", (3, 3), value).save(buffer, kind)
    return buffer.getvalue()


def rows(values, labels, image="image", label="label", names=("cat", "dog")):
    feature = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string")
    features = datasets.Features({image: datasets.Image(), "note": datasets.Value("string"), label: feature})
    blobs = [{"bytes": encoded(v), "path": None} for v in values]
    columns = {image: blobs, "note": ["x"] * len(blobs), label: list(labels)}
    return datasets.Dataset.from_dict(columns, features=features)


def saved(folder, **splits):
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return str(folder)


@pytest.fixture
def root(tmp_path):
    return saved(tmp_path / "pets", train=rows(range(6), [0, 1] * 3), test=rows(range(100, 104), [0, 1, 1, 0]))


def value(partition, row):
    return np.asarray(partition[row])[0, 0]


def test_a_saved_set_gives_rows_labels_and_names(root):
    data = load(root)
    train, test = data.partitions["train"], data.partitions["test"]
    assert (data.name, data.class_names) == ("pets", ("cat", "dog"))
    assert [value(train, i) for i in range(6)] == list(range(6))
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0, 1, 0, 1], [0, 1, 1, 0])
    assert train.ids[2] == "train:2"
    assert value(pickle.loads(pickle.dumps(test)), 3) == 103


def test_columns_are_found_by_type_or_given(tmp_path):
    path = saved(
        tmp_path / "a",
        train=rows(range(4), "abab", image="scan", label="finding", names=None),
        test=rows(range(9, 11), "ba", image="scan", label="finding", names=None),
    )
    with pytest.raises(InputError, match=r"columns scan \(.*finding \(string\), expected label or .*label_column"):
        load(path)
    data = load(path, label_column="finding")
    assert data.class_names == ("a", "b")
    assert value(data.partitions["test"], 0) == 9
    with pytest.raises(InputError, match=r"expected note with encoded images: set dataset.image_column to one of scan"):
        load(path, image_column="note", label_column="finding")


def test_parquet_files_and_image_folders_are_read_too(tmp_path, root):
    pq = tmp_path / "pq"
    pq.mkdir()
    for part, split in datasets.load_from_disk(root).items():
        split.to_parquet(str(pq / f"{part}-00000.parquet"))
    for part, first in (("train", 0), ("test", 50)):
        for k, c in enumerate(("cat", "dog")):
            folder = tmp_path / "files" / part / c
            folder.mkdir(parents=True)
            (folder / "x.png").write_bytes(encoded(first + k))
    of_files = load(str(tmp_path / "files"))
    assert of_files.class_names == ("cat", "dog")
    assert [value(of_files.partitions["test"], i) for i in range(2)] == [50, 51]
    assert load(str(pq), name="pets").fingerprint == load(root).fingerprint
    one = load(str(pq / "train-00000.parquet"), test_fraction=0.5)
    assert (len(one.partitions["train"]), len(one.partitions["test"])) == (2, 4)


def test_fingerprint_is_that_of_the_content_and_not_of_its_history(tmp_path, root):
    def fingerprint(name, split):
        return load(saved(tmp_path / name, train=split, test=rows([7], [1]))).partitions["train"].fingerprint

    plain = rows(range(6), [0, 1] * 3)
    seen = [fingerprint("a", plain)]
    history = plain.select(range(5)).map(lambda row: row)
    assert history._fingerprint != plain.select(range(5))._fingerprint
    assert fingerprint("b", history) == fingerprint("c", rows(range(5), [0, 1, 0, 1, 0]))
    assert load(root).partitions["train"].fingerprint == seen[0]
    seen.append(fingerprint("d", rows([*range(5), 99], [0, 1] * 3)))
    seen.append(fingerprint("e", rows(range(6), [0, 1, 0, 1, 0, 0])))
    seen.append(fingerprint("f", plain.shuffle(seed=1)))
    assert len(set(seen)) == len(seen)


def test_fingerprint_sees_a_changed_file_behind_a_path(tmp_path):
    for part in ("train", "test"):
        for k, c in enumerate(("cat", "dog")):
            folder = tmp_path / "files" / part / c
            folder.mkdir(parents=True)
            (folder / "x.png").write_bytes(encoded(k))
    before = load(str(tmp_path / "files"))
    assert count_duplicates(before) == {"test": 2}
    (tmp_path / "files/train/dog/x.png").write_bytes(encoded(200))
    after = load(str(tmp_path / "files"))
    assert after.partitions["train"].fingerprint != before.partitions["train"].fingerprint
    assert after.partitions["test"].fingerprint == before.partitions["test"].fingerprint
    (tmp_path / "files/train/dog/x.png").unlink()
    with pytest.raises(InputError, match=r"train:1 \(row 1\) holds no image"):
        after.partitions["train"][1]


def test_splits_are_mapped_guessed_or_cut(tmp_path):
    parts = {"train": rows(range(20), [0, 1] * 10), "valid": rows([50, 51], [0, 1]), "extra": rows([60], [1])}
    path = saved(tmp_path / "a", **parts)
    guessed = load(path)
    assert {part: len(p) for part, p in guessed.partitions.items()} == {"train": 20, "test": 2}
    assert value(guessed.partitions["test"], 0) == 50
    data = load(path, splits={"train": "train", "test": "extra", "validation": "valid"})
    assert value(data.partitions["test"], 0) == 60
    cut = load(path, test_fraction=0.2)
    assert {part: len(p) for part, p in cut.partitions.items()} == {"train": 16, "validation": 2, "test": 4}
    assert np.bincount(cut.partitions["test"].labels).tolist() == [2, 2]
    with pytest.raises(InputError, match="has test=prod, expected train, test, validation from the splits train"):
        load(path, splits={"train": "train", "test": "prod"})
    alone = saved(tmp_path / "b", train=parts["train"])
    assert list(load(alone).partitions) == ["train"]
    other = saved(tmp_path / "e", a=parts["train"], b=parts["train"])
    with pytest.raises(InputError, match=r"has the splits a, b, expected train and test.*test_fraction=0\.2"):
        load(other)
    whole = rows(range(20), [0, 1] * 10)
    whole.save_to_disk(str(tmp_path / "c"))
    assert len(load(str(tmp_path / "c"), test_fraction=0.5).partitions["test"]) == 10
    with pytest.raises(InputError, match="has the test split"):
        load(saved(tmp_path / "d", train=whole, test=whole), test_fraction=0.5)


def test_rows_without_a_label_are_ignored_on_request(tmp_path):
    path = saved(tmp_path / "a", train=rows(range(4), [0, 1, -1, 0]), test=rows([9], [1]))
    with pytest.raises(InputError, match="label out of range, the first is -1 in row 2"):
        load(path)
    data = load(path, ignore_label=-1, class_names=["Katze", "Hund"])
    assert data.class_names == ("Katze", "Hund")
    assert [value(data.partitions["train"], i) for i in range(3)] == [0, 1, 3]


def test_damaged_images_are_named(tmp_path):
    split = rows([1, 2], [0, 1])
    features = split.features
    broken = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"junk", "path": None}, None], "note": ["", ""], "label": [0, 1]}, features=features
    )
    data = load(saved(tmp_path / "a", train=split, test=broken))
    test = data.partitions["test"]
    assert len(test.fingerprint) == 32  # rows that cannot be decoded may be skipped
    assert count_duplicates(data) == {"test": 0}
    with pytest.raises(InputError, match=r"test:0 \(row 0\) is no image of the formats that are read"):
        test[0]
    with pytest.raises(InputError, match=r"test:1 \(row 1\) holds no image"):
        test[1]


def test_what_cannot_be_loaded_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"none is given: set dataset\.path"):
        load()
    with pytest.raises(InputError, match=r"dataset\.path /nowhere/at/all is no file or folder"):
        load("/nowhere/at/all")
    with pytest.raises(InputError, match=r"datasets cannot load nobody/nothing \(.*fetch the set where there is"):
        load("nobody/nothing")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"datasets cannot load .*x\.parquet"):
        load(str(tmp_path / "x.parquet"))


def test_several_labels_come_as_lists_or_as_columns(tmp_path):
    names = ["cat", "dog", "elk"]
    features = datasets.Features(
        {"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=names))}
        | {name: datasets.Value("bool") for name in names}
    )

    def split(lists):
        blobs = [{"bytes": encoded(i), "path": None} for i in range(len(lists))]
        columns = {name: [k in labels for labels in lists] for k, name in enumerate(names)}
        return datasets.Dataset.from_dict({"image": blobs, "labels": lists, **columns}, features=features)

    path = saved(tmp_path / "a", train=split([[0, 2], [1], []]), test=split([[2, 1]]))
    of_lists, of_columns = load(path), load(path, label_column=names)
    assert of_lists.class_names == tuple(names)
    assert of_lists.partitions["train"].labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert of_columns.fingerprint == of_lists.fingerprint


def test_images_outside_a_limit_do_not_count(tmp_path, root):
    changed = rows([0, 1, 2, 33, 4, 5], [0, 1] * 3)
    other = load(saved(tmp_path / "b", train=changed, test=rows(range(100, 104), [0, 1, 1, 0])))
    one, two = (limited(data, 2).partitions["train"] for data in (load(root), other))
    assert one.ids == two.ids == ["train:0", "train:1"]
    assert one.fingerprint == two.fingerprint
    assert [value(one, i) for i in range(2)] == [0, 1]
    assert value(pickle.loads(pickle.dumps(one)), 1) == 1
    one, two = (limited(data, 5).partitions["train"] for data in (load(root), other))
    assert one.ids == two.ids
    assert "train:3" in one.ids
    assert one.fingerprint != two.fingerprint


def test_without_the_library_the_sentence_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets.*pip install 'probe-bench\[datasets\]'"):
        load(root)


def test_codes_are_read_with_the_splits_own_dictionary(tmp_path):
    path = saved(tmp_path / "a", train=rows([0, 1], [0, 1]), test=rows([2, 3, 4], [0, 1, 1], names=("dog", "cat")))
    data = load(path)
    assert data.class_names == ("cat", "dog")
    assert data.partitions["test"].labels.tolist() == [1, 0, 0]
    assert load(path, class_names=["Katze", "Hund"]).partitions["test"].labels.tolist() == [1, 0, 0]
    path = saved(tmp_path / "b", train=rows([0, 1], [0, 1]), test=rows([2], [1], names=("dog", "elk")))
    with pytest.raises(
        InputError, match=r"split test has rows of class elk in column label, which split train does not"
    ):
        load(path)


def test_a_mask_that_comes_first_is_not_the_image(tmp_path):
    def split(*names):
        features = datasets.Features({**{n: datasets.Image() for n in names}, "label": datasets.Value("int64")})
        blobs = {n: [{"bytes": encoded(k), "path": None}] * 2 for k, n in enumerate(names)}
        return datasets.Dataset.from_dict({**blobs, "label": [0, 1]}, features=features)

    assert value(load(saved(tmp_path / "a", train=split("annotation", "image"))).partitions["train"], 0) == 1
    path = saved(tmp_path / "b", train=split("annotation", "scan"))
    with pytest.raises(InputError, match=r"2 columns that may hold encoded images \(annotation, scan\).*image_column"):
        load(path)
    assert value(load(path, image_column="scan").partitions["train"], 0) == 1


def test_a_column_that_names_files_elsewhere_opens_none(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(9))
    (tmp_path / "set").mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for part in ("train", "test"):
        places = [str(tmp_path / "x.png"), "x.png"]
        blobs = pa.array([{"bytes": None, "path": place} for place in places], kind)
        pq.write_table(pa.table({"image": blobs, "label": [0, 1]}), tmp_path / "set" / f"{part}-0.parquet")
    train = load(str(tmp_path / "set")).partitions["train"]
    for row in range(2):
        with pytest.raises(InputError, match=r"names the file .*x\.png in column image and holds no image.*embed"):
            train[row]
    with pytest.raises(InputError, match=r"train:0 \(row 0\) names the file"):
        train.fingerprint  # noqa: B018


def test_splits_that_are_not_used_are_told(tmp_path):
    data = load(saved(tmp_path / "a", train=rows([0, 1], [0, 1]), unsupervised=rows([2, 3, 4], [0, 0, 0])))
    assert list(data.partitions) == ["train"]
    assert data.notes["left_out"] == ["3 rows of split unsupervised"]


def contract_case(root):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    splits = {}
    for k, part in enumerate(("train", "test")):
        images = [Image.new("L", (3, 3), 4 * k + i) for i in range(4)]
        splits[part] = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(root))
    return {"path": str(root)}


def test_no_other_column_of_images_is_decoded(tmp_path, monkeypatch):
    """The library would hand a mask beside the image to any decoder that it has."""
    masked = [
        rows(range(4), [0, 1] * 2).add_column("mask", [{"bytes": b"%!PS-Adobe-3.0 EPSF-3.0", "path": None}] * 4)
        for _ in range(2)
    ]
    masked = [part.cast_column("mask", datasets.Image()) for part in masked]
    train = load(saved(tmp_path / "set", train=masked[0], test=masked[1]), image_column="image").partitions["train"]
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_, **__: pytest.fail("the library decoded an image"))
    assert [value(train, i) for i in range(4)] == list(range(4))


def painted(codes, mode="L"):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(codes, dtype=np.uint8), mode).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def scenes(masks):
    features = datasets.Features({"image": datasets.Image(), "annotation": datasets.Image()})
    columns = {
        "image": [painted(np.full_like(m, i)) for i, m in enumerate(masks)],
        "annotation": [*map(painted, masks)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


MASKS = [np.array([[k % 2, 1, 2], [0, 255, 2]], dtype=np.uint8) for k in range(6)]


def test_a_set_may_have_masks_in_the_place_of_labels(tmp_path):
    path = saved(tmp_path / "scenes", train=scenes(MASKS), test=scenes(MASKS[:2]))
    data = load(path, mask_column="annotation", class_names=["background", "cat", "dog"])
    assert (data.target.name, data.target.background) == ("mask", 0)
    train, test = data.partitions["train"], data.partitions["test"]
    np.testing.assert_array_equal(train.masks[3], MASKS[3])
    assert train.labels.tolist() == [[2 - k % 2, 1 + k % 2, 2] for k in range(6)]
    assert value(test, 1) == 1
    assert load(path, mask_column="annotation").fingerprint != data.fingerprint
    assert pickle.loads(pickle.dumps(test)).masks[0].tolist() == MASKS[0].tolist()
    cut = limited(data, 3).partitions["train"]
    assert cut.masks[1].shape == (2, 3)


def test_a_split_of_masks_can_be_cut(tmp_path):
    path = saved(tmp_path / "scenes", train=scenes(MASKS))
    data = load(path, mask_column="annotation", test_fraction=0.5)
    assert [len(data.partitions[part]) for part in ("train", "test")] == [3, 3]
    assert data.notes["left_out"] == ["17 % of the pixels of train, which are ignored"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask_column": "note"}, r"has the columns image .*, expected note with masks: set dataset\.mask_column"),
        ({"mask_column": "annotation", "label_column": "x"}, "label_column is given with mask_column=annotation"),
        ({"palette": {"a": 0}}, r"dataset\.palette is given with no mask_column, expected one of the two"),
        ({"ignore_label": [0, 1]}, r"ignore_label is \[0, 1\], expected a number or a name where there are no masks"),
    ],
)
def test_options_of_masks_and_of_labels_are_told_apart(tmp_path, options, text):
    path = saved(tmp_path / "scenes", train=scenes(MASKS))
    with pytest.raises(InputError, match=text):
        load(path, **{"image_column": "image", **options})
