import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.depth import load
from probe.datasets.shared import paired_files
from probe.datasets.shared.number_map_files import MapReading

MILLIMETRES = {"a": [[0, 1500, 2000], [2500, 12000, 500]], "b/c": [[1000, 1000, 3000], [0, 0, 4000]]}
TEST = {"e": [[700, 800, 900], [900, 800, 700]]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))


def png(file, values):
    Image.fromarray(np.asarray(values, dtype=np.uint16)).save(file.with_suffix(".png"))


def npy(file, values):
    np.save(file.with_suffix(".npy"), np.where(np.equal(values, 0), np.nan, np.asarray(values, dtype=np.float32)))


def npz(file, values):
    np.savez(file.with_suffix(".npz"), depth=np.asarray(values, dtype=np.float64)[None])


def write(root, parts=None, save=png, layout="{folder}/{part}/{name}"):
    """Images and their maps; an image is grey, lighter where it is far."""
    for part, maps in (parts or {"train": MILLIMETRES, "test": TEST}).items():
        for name, values in maps.items():
            image, depth = (root / layout.format(folder=f, part=part, name=name) for f in ("images", "depth"))
            for file in (image, depth):
                file.parent.mkdir(parents=True, exist_ok=True)
            grey = np.minimum(np.asarray(values) // 50, 255).astype(np.uint8)
            Image.fromarray(grey).convert("RGB").save(image.with_suffix(".jpg"))
            save(depth, values)
    return root


def contract_case(root):
    return {"path": str(write(root, {"train": MILLIMETRES, "test": {**TEST, "f": [[600, 1]]}})), "scale": 1000.0}


def held(data, part="train"):
    return [data.partitions[part].number_maps[row] for row in range(len(data.partitions[part]))]


@pytest.mark.parametrize("save", [png, npy, npz])
def test_maps_are_images_of_16_bits_or_arrays(tmp_path, save):
    data = load(str(write(tmp_path / "rooms", save=save)), scale=1000, max=10)
    assert (data.name, data.class_names, data.target.name) == ("rooms", ("depth",), "number_map")
    train = data.partitions["train"]
    assert train.ids == ["images/train/a.jpg", "images/train/b/c.jpg"]
    np.testing.assert_allclose(held(data)[0], [[np.nan, 1.5, 2.0], [2.5, np.nan, 0.5]])
    np.testing.assert_allclose(train.labels, [[1.625, 4], [2.25, 4]])
    assert train[0].size == (3, 2)
    assert data.notes["left_out"] == ["33.3 % of the pixels of train, without a label"]
    assert data.target.facts == {"units": ["m"], "range": [0.001, 10]}


def test_what_a_value_means_is_part_of_the_dataset(tmp_path):
    root = str(write(tmp_path))
    found = [load(root, scale=scale, max=most).fingerprint for scale, most in ((1000, 10), (500, 10), (1000, 20))]
    assert len({*found, load(root, scale=1000, max=10).fingerprint}) == 3


def test_values_of_unlabelled_pixels_are_never_read(tmp_path):
    """Another number above the range in their place makes other files, and the same maps and labels."""
    changed = {name: np.where(np.equal(v, 12000), 65535, v) for name, v in MILLIMETRES.items()}
    one, other = (
        load(str(write(tmp_path / name, {"train": maps, "test": TEST})), scale=1000, max=10)
        for name, maps in (("one", MILLIMETRES), ("other", changed))
    )
    np.testing.assert_array_equal(held(one)[0], held(other)[0])
    np.testing.assert_array_equal(one.partitions["train"].labels, other.partitions["train"].labels)


def test_every_value_is_a_number_where_none_is_invalid(tmp_path):
    data = load(str(write(tmp_path)), scale=1000, invalid=None, min=None, max=None)
    assert data.partitions["train"].labels[:, 1].tolist() == [6, 6]
    assert not data.target.positive


def test_a_table_names_images_maps_and_groups(tmp_path):
    write(tmp_path, {"": {"a": MILLIMETRES["a"], "b": TEST["e"]}}, layout="{folder}/{name}")
    lines = ["image,depth,split,film", "images/a.jpg,depth/a.png,train,x", "images/b.jpg,depth/b.png,test,y"]
    (tmp_path / "rooms.csv").write_text("\n".join(lines))
    data = load(str(tmp_path / "rooms.csv"), scale=1000, group_column="film")
    assert data.partitions["train"].groups.tolist() == ["x"]
    assert data.partitions["test"].labels.tolist() == [[pytest.approx(0.8), 6]]


def test_some_images_keep_their_maps(tmp_path):
    part = load(str(write(tmp_path)), scale=1000).partitions["train"].subset(np.array([1]))
    assert part.ids == ["images/train/b/c.jpg"]
    np.testing.assert_allclose(part.number_maps[0], [[1, 1, 3], [np.nan, np.nan, 4]])


@pytest.mark.parametrize(
    ("change", "parameters", "told"),
    [
        (None, {"path": None}, "dataset=depth needs a folder or a table, none is given: set dataset.path"),
        (None, {"maps": "z"}, r"expected the folders images/ and z/.* dataset.maps=\.\.\."),
        (None, {"scale": 0.0}, "dataset.scale is 0.0, expected values per unit, above 0: set dataset.scale=1000"),
        (None, {"min": 2, "max": 1}, "dataset.min is 2 and dataset.max 1, expected a range: set dataset.max above"),
        (None, {"max": 10}, r"no pixel of train lies in 0.001 to 10 once .* dataset.scale=1 .*: set dataset.scale"),
        ("size", {}, r"1 map of train differs in size from the image, the first is depth/train/a.png \(2 x 1 pixels"),
        ("colour", {}, r"map depth/train/a.png holds uint8 of shape \(2, 3, 3\), expected a number for each pixel"),
        ("lost", {}, r"1 image in .* has no map, the first is images/train/a.jpg, .* set dataset.map_suffix"),
        ("torn", {}, r"depth/train/a.png cannot be decoded .*: mend this map, or remove it and its image"),
        ("objects", {}, r"map depth/train/a.npy cannot be read \(.*\), expected an array of numbers: mend this map"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, change, parameters, told):
    root = write(tmp_path)
    file = root / "depth" / "train" / "a.png"
    if change == "size":
        png(file, [[1, 2]])
    if change == "colour":
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(file)
    if change in ("lost", "objects"):
        file.unlink()
    if change == "torn":
        file.write_bytes(file.read_bytes()[:50])
    if change == "objects":
        np.save(file.with_suffix(".npy"), np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match=told) as caught:
        load(**{"path": str(root), **parameters})
    assert "\n" not in str(caught.value)


def packed(**members):
    """An archive of these files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return data.getvalue()


def array(shape, held=None):
    """A file .npy that says it has this shape."""
    data = io.BytesIO()
    np.save(data, np.zeros(held or shape))
    return data.getvalue().replace(str(held or shape).encode(), str(shape).encode())


@pytest.mark.parametrize(
    ("ending", "content", "told"),
    [
        ("npz", packed(depth_npy=array((2, 3)))[:-30], "cannot be read"),
        ("npz", packed(depth_txt=b"5 6 7"), "cannot be read"),
        (
            "npz",
            packed(a_npy=array((2, 3)), b_npy=array((2, 3))),
            r"holds 2 arrays \(a.npy, b.npy\), expected one: save",
        ),
        ("npz", b"no archive", "cannot be read"),
        ("npy", array((2, 3))[:40], "cannot be read"),
        ("npy", array((2, 3)).replace(b"{'descr'", b"{'descr("), "cannot be read"),
        ("npy", array((99999, 99999), (2, 3)), r"holds an array of shape \(99999, 99999\), expected at most"),
        (
            "npz",
            packed(depth_npy=array((12000, 12000), (2, 3))),
            r"holds an array of shape \(12000, 12000\), expected",
        ),
    ],
)
def test_damaged_and_swollen_arrays_are_called_by_their_name(tmp_path, ending, content, told):
    root = write(tmp_path / "rooms", save=npy)
    (root / "depth" / "train" / "a.npy").unlink()
    (root / "depth" / "train" / f"a.{ending}").write_bytes(content)
    with pytest.raises(InputError, match=rf"^map depth/train/a.{ending} {told}") as caught:
        load(str(root))
    assert "mend this map, or remove it and its image" in str(caught.value) or "save the numbers" in str(caught.value)


def test_numbers_of_a_palette_are_no_depths(tmp_path):
    root = write(tmp_path / "rooms")
    Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3)).quantize(4).save(root / "depth" / "train" / "a.png")
    with pytest.raises(InputError, match=r"a\.png is an image of 4 colours by their numbers in a palette"):
        load(str(root))


def test_a_name_with_a_colon_keeps_the_reason(tmp_path):
    root = write(tmp_path / "rooms", {"train": {"a: b": MILLIMETRES["a"]}})
    file = root / "depth" / "train" / "a: b.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(InputError, match=r"a: b.png cannot be decoded .*: mend this map"):
        load(str(root))


def test_a_setting_is_one_dataset_however_it_is_spelled(tmp_path):
    root = str(write(tmp_path / "rooms"))
    one, other = load(root, scale=1000, max=10, invalid=0), load(root, scale=1000.0, max=10.0, invalid=0.0)
    assert one.partitions["train"].fingerprint == other.partitions["train"].fingerprint
    assert str(one.target.facts) == str(other.target.facts)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"min": None},
            "no pixel of train is another number than dataset.invalid=0: set dataset.invalid=null, or give",
        ),
        ({"min": None, "invalid": None}, None),
    ],
)
def test_where_no_pixel_has_a_label_the_way_out_leads_out(tmp_path, given, told):
    root = str(write(tmp_path / "rooms", {"train": {"a": [[0, 0]], "b": [[0, 0]]}}))
    if told is None:
        assert load(root, **given).partitions["train"].labels[:, 1].tolist() == [2, 2]
        return
    with pytest.raises(InputError, match=told):
        load(root, **given)


def test_what_float32_does_not_hold_has_no_label():
    found = MapReading(least=1e-60).numbers(np.array([[1e300, 1e-50, -1.0, 2.0]]))
    np.testing.assert_array_equal(found, np.array([[np.nan, np.nan, np.nan, 2.0]], dtype=np.float32))


def test_listing_takes_one_look_at_each_file(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    for i in range(60):
        (tmp_path / "f" / f"{i}{'.png' if i % 2 else '.txt'}").touch()
    compared = []
    equal = type(tmp_path).__eq__
    monkeypatch.setattr(type(tmp_path), "__eq__", lambda a, b: bool(compared.append(1)) or equal(a, b))
    taken, foreign = paired_files._below(tmp_path, "f", False)
    assert (len(taken), len(foreign)) == (30, 30)
    assert len(compared) < 200
