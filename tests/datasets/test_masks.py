import numpy as np
import pytest
from PIL import Image

from probe.core.errors import InputError
from probe.datasets.masks import load

CODES = {"a": [[0, 1, 1], [2, 255, 255]], "b/c": [[1, 1, 1], [0, 0, 2]], "d": [[0, 0, 1], [2, 2, 2]]}
TEST = {"e": [[0, 1, 2], [2, 1, 0]]}
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [70, 70, 70]], dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))


def save(file, picture):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    return file


def as_codes(codes):
    return Image.fromarray(np.asarray(codes, dtype=np.uint8))


def write(root, parts=None, picture=as_codes, layout="{folder}/{part}/{name}"):
    """Images and their masks, an image is a grey photograph of its mask."""
    for part, masks in (parts or {"train": CODES, "test": TEST}).items():
        for name, codes in masks.items():
            at = {folder: layout.format(folder=folder, part=part, name=name) for folder in ("images", "masks")}
            grey = as_codes(np.minimum(codes, 100)).convert("RGB")
            save(root / f"{at['images']}.jpg", grey)
            save(root / f"{at['masks']}.png", picture(codes))
    return root


def contract_case(root):
    two = {name: np.array(codes) % 2 for name, codes in CODES.items()}
    write(root, {"train": two, "test": {"e": [[0, 1]], "f": [[1, 1]]}})
    return {"path": str(root), "class_names": ["background", "cat"]}


def held(data, part="train"):
    return [data.partitions[part].masks[row].tolist() for row in range(len(data.partitions[part]))]


def test_images_and_masks_stand_in_two_folders(tmp_path):
    data = load(str(write(tmp_path / "scenes")), class_names=["background", "cat", "dog"])
    assert (data.name, data.class_names, data.target.name) == ("scenes", ("background", "cat", "dog"), "mask")
    train = data.partitions["train"]
    assert train.ids == ["images/train/a.jpg", "images/train/b/c.jpg", "images/train/d.jpg"]
    assert held(data) == list(CODES.values())
    assert train.labels.tolist() == [[1, 2, 1], [2, 3, 1], [2, 1, 3]]
    assert train[0].size == (3, 2)
    assert data.target.background == 0
    assert data.target.ignored_codes == (255,)
    assert data.notes["left_out"] == ["11 % of the pixels of train, which are ignored"]


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("{part}/{folder}/{name}", {"test": TEST, "train": CODES}),
        ("{folder}/{part}/{name}", {"training": CODES, "val": TEST}),
    ],
)
def test_partitions_may_stand_above_and_be_called_otherwise(tmp_path, layout, parts):
    data = load(str(write(tmp_path, parts, layout=layout)))
    assert list(data.partitions) == ["train", "test"]
    assert held(data, "test") == [TEST["e"]]
    assert data.class_names == ("0", "1", "2")
    assert data.target.background is None


def test_without_partitions_all_images_are_train(tmp_path):
    data = load(str(write(tmp_path, {"": CODES}, layout="{folder}/{name}")))
    assert held(data) == list(CODES.values())
    assert list(data.partitions) == ["train"]


def test_folders_and_endings_of_names_may_be_others(tmp_path):
    write(tmp_path)
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "Annotations")
    for file in [*(tmp_path / "Annotations").rglob("*.png")]:
        file.rename(file.with_name(f"{file.stem}_mask.png"))
    data = load(str(tmp_path), images="JPEGImages", masks="Annotations", mask_suffix="_mask")
    assert held(data) == list(CODES.values())


def test_a_table_names_images_masks_and_groups(tmp_path):
    write(tmp_path)
    names = [("train", name) for name in CODES] + [("test", name) for name in TEST]
    lines = [f"images/{p}/{n}.jpg,masks/{p}/{n}.png,{p},film {k}" for k, (p, n) in enumerate(names)]
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(["image,mask,partition,film", *lines]))
    data = load(str(table), group_column="film")
    assert data.name == "pairs"
    assert held(data) == list(CODES.values())
    assert data.partitions["train"].groups.tolist() == ["film 0", "film 1", "film 2"]
    (tmp_path / "masks" / "train" / "d.png").unlink()
    with pytest.raises(InputError, match=r"1 mask of train named in .*pairs\.csv is not there, the first is masks/tr"):
        load(str(table))


def test_palette_files_hold_indices_and_colours_need_a_palette(tmp_path):
    def indexed(codes):
        picture = Image.fromarray(np.asarray(codes, dtype=np.uint8), "P")
        picture.putpalette(COLOURS.tobytes() + bytes(759))
        return picture

    def coloured(codes):
        return Image.fromarray(COLOURS[np.minimum(codes, 2)])

    plain = load(str(write(tmp_path / "plain")), class_names=["sky", "road", "wall"])
    by_index = load(str(write(tmp_path / "indexed", picture=indexed)), class_names=["sky", "road", "wall"])
    assert held(by_index) == held(plain)
    root = write(tmp_path / "coloured", picture=coloured)
    with pytest.raises(InputError, match=r"is an image of colours \(\[0, 0, 0\], \[70, 70, 70\], \[128, 64, 128\]\)"):
        load(str(root))
    palette = dict(zip(["sky", "road", "wall"], COLOURS.tolist(), strict=True))
    found = load(str(root), palette=palette)
    assert (found.class_names, held(found, "test")) == (("sky", "road", "wall"), held(plain, "test"))
    lines = [f"{r} {g} {b} {name}" for name, (r, g, b) in palette.items()]
    (tmp_path / "colours.txt").write_text("# r g b name\n" + "\n".join(lines))
    assert load(str(root), palette=str(tmp_path / "colours.txt")).fingerprint == found.fingerprint
    without = load(str(root), palette=palette, ignore_label="sky")
    assert without.class_names == ("road", "wall")
    assert held(without, "test") == [[[255, 0, 1], [1, 0, 255]]]


def test_a_palette_of_numbers_names_what_files_hold(tmp_path):
    root = write(tmp_path, picture=lambda codes: as_codes(np.where(np.array(codes) == 1, 255, 0)))
    with pytest.raises(InputError, match=r"cannot be used: it names 1 class \(0\)"):
        load(str(root))
    data = load(str(root), palette={"background": 0, "cell": 255})
    assert held(data, "test") == [[[0, 1, 0], [0, 1, 0]]]
    assert data.target.ignored_codes == ()


def test_ignored_codes_are_skipped_by_the_names(tmp_path):
    """As in ADE20K, where 0 is no class and names begin with code 1."""
    data = load(str(write(tmp_path)), class_names=["cat", "dog"], ignore_label=[0, 255])
    assert held(data, "test") == [[[255, 0, 1], [1, 0, 255]]]
    assert data.partitions["train"].labels.tolist() == [[2, 1], [3, 1], [1, 3]]
    assert load(str(tmp_path), ignore_label=[0, 255]).class_names == ("1", "2")


def test_masks_of_16_bits_may_have_many_classes(tmp_path):
    def wide(codes):
        return Image.fromarray(np.asarray(codes, dtype=np.uint16) * 150)

    root = write(tmp_path, {"train": {"a": [[0, 1, 2]]}, "test": {"b": [[2, 1, 0]]}}, picture=wide)
    data = load(str(root), palette={"a": 0, "b": 150, "c": 300})
    assert held(data, "test") == [[[2, 1, 0]]]
    many = load(str(root), palette={f"class {k}": k for k in (0, 150, 300)} | {"void": 7}, ignore_label="void")
    assert many.partitions["test"].labels.tolist() == [[1, 1, 1]]


def test_a_fingerprint_knows_the_mask_files_and_how_they_are_read(tmp_path):
    root = write(tmp_path)
    one = load(str(root))
    assert one.fingerprint == load(str(root)).fingerprint
    assert one.fingerprint != load(str(root), ignore_label=[0, 255]).fingerprint
    save(root / "masks/test/e.png", as_codes(np.array(TEST["e"])[:, ::-1]))
    two = load(str(root))
    assert two.partitions["test"].labels.tolist() == one.partitions["test"].labels.tolist()
    assert two.partitions["test"].fingerprint != one.partitions["test"].fingerprint
    assert two.partitions["train"].fingerprint == one.partitions["train"].fingerprint


def test_masks_are_looked_through_once(tmp_path, monkeypatch):
    import os

    root = write(tmp_path / "files")
    for file in root.rglob("*.*"):
        os.utime(file, (1e9, 1e9))
    monkeypatch.setattr("probe.core.files.RACY_NS", 0)
    before = load(str(root)).partitions["train"].labels
    monkeypatch.setattr("probe.datasets.shared.mask_images.raw_values", None)
    np.testing.assert_array_equal(load(str(root)).partitions["train"].labels, before)


def test_an_image_that_lies_on_its_side_is_measured_upright(tmp_path):
    root = write(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 3)).save(root / "images/test/e.jpg", exif=exif)
    assert load(str(root)).partitions["test"].masks[0].shape == (2, 3)


def test_an_image_without_its_mask_is_named_and_counted(tmp_path):
    root = write(tmp_path)
    (root / "masks/train/a.png").unlink()
    (root / "masks/test/e.png").unlink()
    with pytest.raises(
        InputError, match=r"2 images in .* have no mask, the first is images/t.*, expected masks/t.*png"
    ):
        load(str(root))


def test_a_mask_without_an_image_and_other_files_are_counted(tmp_path):
    root = write(tmp_path)
    (root / "images/train/d.jpg").unlink()
    (root / "masks/train/notes.txt").write_text("x")
    assert load(str(root)).notes["left_out"][:2] == [
        "1 mask of train without an image",
        "1 file that is no image by its extension, of train (1 .txt)",
    ]


def test_masks_of_another_size_and_codes_out_of_range_are_reported_together(tmp_path):
    root = write(tmp_path)
    save(root / "masks/train/a.png", as_codes(np.zeros((4, 4))))
    save(root / "masks/test/e.png", as_codes([[0, 1, 9], [2, 1, 0]]))
    with pytest.raises(InputError) as refused:
        load(str(root))
    text = str(refused.value)
    assert "1 mask of train differs in size from the image, the first is masks/train/a.png (4 x 4 pixels, its image " \
        "3 x 2), expected equal sizes" in text  # fmt: skip
    assert "1 mask of test holds codes out of range, the first is 9 in masks/test/e.png, where 0, 1, 2 can be" in text
    save(root / "masks/train/a.png", as_codes(CODES["a"]))
    assert "'dataset.ignore_label=[9,255]'" in text
    assert held(load(str(root), ignore_label=[9, 255]), "test") == [[[0, 1, 255], [2, 1, 0]]]


def test_a_colour_out_of_the_palette_is_refused_and_its_remedy_works(tmp_path):
    root = write(tmp_path, picture=lambda codes: Image.fromarray(COLOURS[np.minimum(codes, 2)]))
    palette = {"sky": [0, 0, 0], "road": [128, 64, 128]}
    with pytest.raises(
        InputError, match=r"codes out of range, the first is \[70, 70, 70\] in .*such as other: \[70, 70"
    ):
        load(str(root), palette=palette)
    data = load(str(root), palette={**palette, "other": [70, 70, 70]}, ignore_label="other")
    assert data.class_names == ("sky", "road")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"path": None}, "dataset=masks needs a folder or a table, none is given"),
        ({"path": "nowhere"}, "dataset.path nowhere is not there, expected a folder or a table"),
        ({"images": "photos"}, "has .*, expected the folders photos/ and masks/: arrange"),
        ({"class_names": ["a", "b", "c", "d"]}, r"train \(3 images\) has no pixel of 1 of 4 classes \(d\)"),
        ({"class_names": ["a", "b"]}, "3 masks of train hold codes out of range, the first is 2 in masks/train/a.png"),
        ({"background": "sky"}, "background is 'sky', expected one of 0, 1, 2: name a class"),
        ({"ignore_label": "void", "class_names": ["a", "b", "c"]}, "dataset.ignore_label names void, expected a class"),
        ({"palette": {"a": 0, "b": [1, 2, 3]}}, "palette is .*, expected for each class a number"),
        ({"palette": {"a": 0, "b": 0}}, "what stands for class a in the palette stands for another one too"),
        ({"palette": {"a": 0}, "class_names": ["a"]}, "class_names and palette are both given"),
        ({"ignore_label": 1}, "the masks of train hold the codes 0, 2, 255, expected all from 0 on without a gap"),
    ],
)  # fmt: skip
def test_odd_options_are_refused(tmp_path, options, text):
    root = write(tmp_path)
    with pytest.raises(InputError, match=text):
        load(**{"path": str(root), **options})


def test_photographs_in_the_place_of_masks_are_refused(tmp_path):
    def photograph(codes):
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8))

    root = write(tmp_path, picture=photograph)
    with pytest.raises(InputError, match=r"has 6,4.. colours, expected one for each class: give the masks"):
        load(str(root), palette={"a": [0, 0, 0], "b": [1, 1, 1]})
    save(root / "masks/train/a.png", as_codes(CODES["a"]))
    with pytest.raises(InputError, match=r"is an image of colours \(6,4.. of them\) and not of codes"):
        load(str(root))


def test_a_mask_that_cannot_be_decoded_is_no_image_to_skip(tmp_path):
    root = write(tmp_path)
    (root / "masks/train/d.png").write_bytes(b"no mask")
    with pytest.raises(
        InputError, match=r"masks/train/d\.png .* is no image of the formats.*: mend this mask, or remove"
    ):
        load(str(root))


def test_a_mask_that_ends_too_early_is_named_and_an_image_can_be_skipped(tmp_path):
    root = write(tmp_path)
    whole = (root / "masks/train/a.png").read_bytes()
    large = save(tmp_path / "large.png", as_codes(np.random.default_rng(0).integers(0, 3, (64, 64)))).read_bytes()
    (root / "masks/train/a.png").write_bytes(large[: len(large) // 2])
    with pytest.raises(InputError, match=r"masks/train/a\.png .*: mend this mask, or remove it and its image"):
        load(str(root))
    (root / "masks/train/a.png").write_bytes(whole)
    image = (root / "images/train/a.jpg").read_bytes()
    (root / "images/train/a.jpg").write_bytes(image[: len(image) // 2])
    train = load(str(root)).partitions["train"]
    with pytest.raises(InputError, match=r"images/train/a\.jpg .*features\.on_error=skip"):
        train[0]


def test_names_may_be_anything_that_a_file_can_be_called(tmp_path):
    odd = ["-rf .v2", "a,b;'c'", "50 %d {x}", "<b>", "caf\u00e9", "\U0001f98a", "new\nline", " "]
    masks = {name: [[k % 3, 1, 2]] for k, name in enumerate(odd)}
    root = write(tmp_path / "odd", {"train": masks, "test": TEST})
    apart = root / "masks/train/cafe\u0301.png"
    (root / "masks/train/caf\u00e9.png").rename(apart)  # as macOS writes it
    (root / "images/train/.hidden").mkdir()
    save(root / "images/train/.hidden/x.png", as_codes([[1]]))
    data = load(str(root))
    by_name = dict(zip(data.partitions["train"].ids, held(data), strict=True))
    assert by_name == {f"images/train/{name}.jpg": codes for name, codes in masks.items()}


def test_two_masks_of_one_image_are_refused(tmp_path):
    root = write(tmp_path)
    save(root / "masks/train/a.bmp", as_codes(CODES["a"]))
    with pytest.raises(InputError, match=r"two masks of one image, masks/train/a\.bmp and masks/train/a\.png"):
        load(str(root))


def test_a_partition_without_an_image_is_refused(tmp_path):
    root = write(tmp_path)
    (root / "images/test/e.jpg").unlink()
    with pytest.raises(InputError, match=r"images/test holds no image, expected some"):
        load(str(root))


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_links_out_of_the_folder_are_refused_unless_wanted(tmp_path, folder):
    root = write(tmp_path / "scenes")
    (moved,) = root.glob(f"{folder}/train/a.*")
    outside = moved.rename(tmp_path / moved.name)
    moved.symlink_to(outside)
    with pytest.raises(InputError, match=r"a\.\w+ is a symbolic link out of.*dataset\.follow_links=true"):
        load(str(root))
    assert held(load(str(root), follow_links=True)) == list(CODES.values())
    outside.unlink()
    with pytest.raises(InputError, match=r"a\.\w+ is a symbolic link to .*, which does not exist"):
        load(str(root))


def test_links_inside_are_followed_and_loops_refused(tmp_path):
    root = write(tmp_path)
    for folder, end in (("images", "jpg"), ("masks", "png")):
        (root / folder / f"train/z.{end}").symlink_to(root / folder / f"train/a.{end}")
    assert held(load(str(root)))[-1] == CODES["a"]
    (root / "images/train/up").symlink_to(root / "images/train", target_is_directory=True)
    with pytest.raises(InputError, match="up is a symbolic link to a folder above it"):
        load(str(root))
