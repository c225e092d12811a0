"""Every dataset of `conf/dataset` keeps the contract of `probe.core.base.Dataset` and `probe.core.base.Partition`."""

import inspect
import io
import pickle
import tarfile

import numpy as np
import places
import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from PIL import Image

from probe.core.base import Dataset, Partition

CONF = places.CONF / "dataset"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def write_folder(root):
    for part in ("train", "test"):
        for k, c in enumerate("ab"):
            for i in range(3):
                (root / part / c).mkdir(parents=True, exist_ok=True)
                Image.new("L", (3, 3), 20 * k + i).save(root / part / c / f"{i}.png")
    return {"path": str(root)}


def write_parquet(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    for part in ("train", "test"):
        blobs = []
        for i in range(4):
            buffer = io.BytesIO()
            Image.new("L", (3, 3), i).save(buffer, "PNG")
            blobs.append({"bytes": buffer.getvalue(), "path": None})
        pq.write_table(pa.table({"image": blobs, "label": [0, 1, 0, 1]}), root / f"{part}-0.parquet")
    return {"path": str(root)}


def write_csv(root):
    write_folder(root)
    files = sorted(p.relative_to(root) for p in root.rglob("*.png"))
    lines = [f"{p.as_posix()},{p.parts[1]},{p.parts[0]}" for p in files]
    (root / "table.csv").write_text("\n".join(["file,label,split", *lines]))
    return {"path": str(root / "table.csv")}


def write_features(root):
    root.mkdir()
    for i, part in enumerate(("train", "test")):
        np.save(root / f"{part}.npy", np.arange(12, dtype=np.float32).reshape(4, 3) + i)
        np.save(root / f"{part}_labels.npy", [0, 1, 0, 1])
    return {"path": str(root)}


def write_npz(root):
    root.mkdir()
    images = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3)
    labels = [0, 1, 0, 1]
    np.savez(root / "a.npz", train_images=images, train_labels=labels, test_images=images + 99, test_labels=labels)
    return {"path": str(root / "a.npz")}


def write_huggingface(root):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    splits = {}
    for k, part in enumerate(("train", "test")):
        images = [Image.new("L", (3, 3), 4 * k + i) for i in range(4)]
        splits[part] = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(root))
    return {"path": str(root)}


def write_torchvision(root):
    for c in "ab":
        (root / "eurosat" / "2750" / c).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (3, 3), i).save(root / "eurosat" / "2750" / c / f"{i}.jpg")
    return {"name": "eurosat", "root": str(root)}


def write_webdataset(root):
    root.mkdir()
    for part in ("train", "test"):
        with tarfile.open(root / f"{part}-0.tar", "w") as archive:
            for i in range(4):
                buffer = io.BytesIO()
                Image.new("L", (3, 3), i).save(buffer, "PNG")
                for name, content in ((f"{i}.png", buffer.getvalue()), (f"{i}.cls", str(i % 2).encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return {"path": str(root)}


WRITERS = {
    "csv": write_csv,
    "features": write_features,
    "folder": write_folder,
    "huggingface": write_huggingface,
    "npz": write_npz,
    "parquet": write_parquet,
    "torchvision": write_torchvision,
    "webdataset": write_webdataset,
}
"""What datasets that read the user's files are given; each returns the parameters to set."""


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
    parameters = WRITERS[name](tmp_path / "files") if name in WRITERS else {}
    return lambda: instantiate({**config(name), **parameters}, _convert_="all")


def same(one, two):
    return np.array_equal(np.asarray(one), np.asarray(two))


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
    assert {"train", "test"} <= set(data.partitions)
    for part in data.partitions.values():
        assert isinstance(part, Partition)
        assert part.labels.dtype == np.int64
        assert part.labels.shape == (len(part),)
        assert len(part.ids) == len(set(part.ids)) == len(part)
        assert all(isinstance(row_id, str) for row_id in part.ids)
        assert 0 <= part.labels.min() <= part.labels.max() < len(data.class_names)
    assert set(data.partitions["train"].labels) == set(range(len(data.class_names)))


def test_two_loads_are_equal(make):
    one, two = make(), make()
    assert one.fingerprint == two.fingerprint
    assert len({part.fingerprint for part in one.partitions.values()}) == len(one.partitions)
    part, again = one.partitions["test"], two.partitions["test"]
    assert same(part[1], again[1])
    np.testing.assert_array_equal(part.labels, again.labels)


def test_rows_are_images_or_vectors(make):
    row = make().partitions["train"][0]
    assert isinstance(row, Image.Image) or (row.ndim == 1 and row.dtype.kind == "f")


def test_a_pickled_partition_gives_the_same_rows(make):
    part = make().partitions["train"]
    first = part[0]
    assert same(pickle.loads(pickle.dumps(part))[0], first)
