"""Images in tar shards, in the layout of WebDataset: the files of a sample stand together under one key."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.images import EXTENSIONS
from probe.core.words import counted
from probe.datasets.shared.caption_rows import Texts, captioned, check_captions_asked, check_no_labels, texts_in
from probe.datasets.shared.columns import Role, required
from probe.datasets.shared.json_texts import parsed
from probe.datasets.shared.labels import encode_labels, numbers_or_names, read_class_names, target_of
from probe.datasets.shared.partitions import make_dataset
from probe.datasets.shared.shards import Place, Sample, contents, expand, index
from probe.datasets.shared.sources import holds, unused_files
from probe.datasets.shared.tar_rows import TarPartition

PARTITIONS = {"train": ("train", "training"), "test": ("test",), "validation": ("validation", "val", "valid")}
KEY = Role("the classes", "label_key", ("cls",), ("label", "class", "txt", "json"), kind="files")
FIELD = Role(
    "the classes", "label_key", ("json.label",), ("json.cls", "json.class", "json.class_name", "json.target"),
    kind="fields",
)  # fmt: skip


def load(
    path: str | None = None,
    name: str | None = None,
    train: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
    validation: str | Sequence[str] | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    class_names: str | Sequence[str] | None = None,
    ignore_label: int | str | None = None,
    map_labels: bool = False,
    ordered: bool = False,
    caption_key: str | None = None,
    merge_images: bool = False,
) -> Dataset:
    """Reads uncompressed shards; needs `pip install 'probe-bench[webdataset]'`.

    Labels that are all whole numbers are class numbers, others names. In a folder whose `dataset_type.txt` says
    `retrieval`, as CLIP_benchmark writes it, samples have captions (`txt`) in their place.

    Args:
        path: Folder with `train-*.tar`, `test-*.tar` and, optionally, `val-*.tar`, perhaps with a word in front, such
            as `imagenet-train-0.tar`, or with `*.tar` in folders of these names; without test, validation tests; shards
            that name no partition are train.
        name: How tables call the dataset; the folder's name by default.
        train: Shards below `path` instead, with braces for ranges: `a-{000000..000146}.tar`, or a list of such.
        test: Likewise.
        validation: Likewise.
        image_key: Extension of the images; by default every one that Pillow reads, such as `jpg`.
        label_key: Extension of the labels, by default the one of the names in `KEY`; `json.species` names a field of
            `json`, by default the one of the names in `FIELD` that the first training sample has.
        class_names: In the order of the labels' numbers: a list, or a text file with one name per line.
        ignore_label: A number or a name whose rows are left out, such as -1.
        map_labels: Take numbers as labels that do not run from 0 on, in ascending order.
        ordered: Whether the classes are grades, from low to high.
        caption_key: Extension of the captions, one in each line, such as `txt`, or `json.captions` for a field of
            `json`, a text or a list of texts. The partition test is read alone then.
        merge_images: Take rows that hold the same image for one, with the captions of all: sets of a row per caption.
    """
    asked = {"train": train, "test": test, "validation": validation}
    given_key, caption_key = caption_key, caption_key or _declared(path, label_key)
    root, found, left_out = _shards(path, asked, learnt=caption_key is None)
    if caption_key is not None:
        check_no_labels(
            "caption_key", label_key=label_key, class_names=class_names, ignore_label=ignore_label,
            map_labels=map_labels, ordered=ordered, declared=given_key is None,
        )  # fmt: skip
        return _with_captions(name or root.resolve().name, found, image_key, caption_key, left_out, merge_images)
    check_captions_asked(merge_images, "caption_key")
    indexed = {part: index(shards) for part, shards in found.items()}
    samples = {part: of_part for part, (of_part, _) in indexed.items()}
    if n_links := sum(n for _, n in indexed.values()):
        left_out.append(f"{n_links} links in shards")
    key = _label_key(root, samples["train"], label_key)
    images, raw, field = {}, {}, None
    for part, shards in found.items():
        images[part] = _images(shards, samples[part], image_key)
        read = _contents_of_labels(shards, samples[part], key)
        field = _field_name(read, key) if part == "train" else field
        raw[part] = [_field(value, field, name) for name, value in read]
    given = read_class_names(class_names)
    labels = _typed(raw)
    codes, names = encode_labels(labels, f"the {key} files", given, ignore_label, map_labels)
    partitions = {}
    for part, shards in found.items():
        ids = [f"{shards[image.shard].name}:{s.key}" for s, image in zip(samples[part], images[part], strict=True)]
        partitions[part] = TarPartition(shards, images[part], ids, codes[part])
    called = name or root.resolve().name
    return make_dataset(
        called, names, partitions, target=target_of(labels), left_out=left_out, rows="images", ordered=ordered
    )


def _declared(path: str | None, label_key: str | None) -> str | None:
    """The key of the captions of a set that says of itself that it has such."""
    says = Path(path or ".").expanduser() / "dataset_type.txt"
    told = says.read_bytes().removeprefix(codecs.BOM_UTF8).strip() if label_key is None and says.is_file() else b""
    return "txt" if told == b"retrieval" else None


def _with_captions(
    name: str, found: dict[str, list[Path]], image_key: str | None, key: str, left_out: list[str], merge: bool
) -> Dataset:
    """The partition that tests; training shards are not opened."""
    shards = found["test"] if "test" in found else found["train"]
    others = {"training": found.get("train"), "validation": found.get("validation")}
    samples, n_links = index(shards)
    images = _images(shards, samples, image_key)
    read = _contents_of_labels(shards, samples, key, "caption_key")
    field = key.removeprefix("json.") if key.startswith("json.") else None
    values = [(where, _field(value, field, where, "caption_key") if field else value) for where, value in read]
    is_lines = not _extension(key).endswith("json")
    remedy = "set dataset.caption_key to the extension of the captions, or to json.<field>"
    texts: list[Texts] = [
        texts_in(re.split(r"\r?\n", v) if is_lines and v else v, f"the {where}", remedy) for where, v in values
    ]
    ids = [f"{shards[image.shard].name}:{s.key}" for s, image in zip(samples, images, strict=True)]
    left_out += [f"{n_links} links in shards"] * bool(n_links)
    left_out += [
        f"{counted(len(unread), f'{part} shard')}, of which none is learnt from"
        for part, unread in others.items()
        if unread and unread is not shards
    ]
    return captioned(name, texts, lambda counts: TarPartition(shards, images, ids, counts), left_out, merge=merge)


Shards = tuple[Path, dict[str, list[Path]], list[str]]
"""The folder, the shards of each partition, and what is left out."""


def _shards(path: str | None, asked: Mapping[str, str | Sequence[str] | None], learnt: bool = True) -> Shards:
    if path is None and not (asked["train"] or (not learnt and any(asked.values()))):
        raise InputError(
            "dataset=webdataset needs shards, none are given: set dataset.path=<folder with train-*.tar and test-*.tar>"
        )
    root = Path(path or ".").expanduser()
    found = {}
    for part, names in PARTITIONS.items():
        pattern = re.compile(rf"(.*[-_.])?({'|'.join(names)})([-_.].*)?\.tar")
        given = asked[part]
        found[part] = (
            [root / file for spec in ([given] if isinstance(given, str) else given) for file in expand(spec)]
            if given
            else sorted(f for f in root.glob("*.tar") if pattern.fullmatch(f.name) and not f.name.startswith("._"))
        )
    every = sorted(f for f in root.glob("*.tar") if not f.name.startswith("."))
    folders = _folders(root)
    if not (every or any(found.values())):
        found = _of_folders(root, folders)
    if not any(found.values()):
        found["train"] = every
    if not found["test"]:
        found["test"] = found.pop("validation")
    missing = [shard for shards in found.values() for shard in shards if not shard.is_file()]
    if missing:
        raise InputError(f"{len(missing)} shards are no files, the first is {missing[0]}: mend the names or the ranges")
    if not found["train"] and (learnt or not found["test"]):
        raise InputError(
            f"{holds(root)}, expected train-*.tar and test-*.tar (or val-*.tar): give the folder that holds them, or "
            "name the shards in dataset.train and dataset.test"
        )
    used = [shard for shards in found.values() for shard in shards]
    # Where the user names shards, the others are none of the dataset's.
    left_out = [] if asked["train"] else unused_files(root, used, "*.tar*", "named for no partition")
    unread = {word: [f for f in files if f not in used] for word, files in folders.items() if not asked["train"]}
    if n := sum(map(len, unread.values())):
        there = ", ".join(f"{word}/" for word, files in unread.items() if files)
        left_out.append(f"{counted(n, 'shard')} in {there} beside those that are read")
    return root, {part: shards for part, shards in found.items() if shards}, left_out


def _folders(root: Path) -> dict[str, list[Path]]:
    """The shards in the folders that are named for a partition, hidden ones aside."""
    words = [word for names in PARTITIONS.values() for word in names]
    there = {word: sorted(f for f in (root / word).glob("*.tar") if not f.name.startswith(".")) for word in words}
    return {word: files for word, files in there.items() if files}


def _of_folders(root: Path, folders: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Those of each partition, of which one folder alone holds any: ids are names of shards."""
    found: dict[str, list[Path]] = {}
    for part, names in PARTITIONS.items():
        there = [word for word in names if word in folders]
        if len(there) > 1:
            raise InputError(
                f"{root} has shards in {' and '.join(f'{word}/' for word in there)}, expected one of these folders: "
                "remove the rest"
            )
        found[part] = folders[there[0]] if there else []
    return found


def _shard(shards: Sequence[Path], sample: Sample) -> Path:
    return shards[next(iter(sample.files.values())).shard]


def _images(shards: Sequence[Path], samples: Sequence[Sample], asked: str | None) -> list[Place]:
    """The image of each sample."""
    keys = [_image_key(shards, sample, asked) for sample in samples]
    kinds = {key.rpartition(".")[0]: row for row, key in enumerate(keys)}
    if len(kinds) > 1:
        # `mask.png` is another kind of image than `jpg`, where `png` is the same.
        told = ", ".join(f"{keys[row]} of {samples[row].key}" for row in kinds.values())
        raise InputError(
            f"samples have images of several kinds ({told}), expected one: set dataset.image_key to the extension of "
            "the images, and leave out samples without one"
        )
    return [sample.files[key] for sample, key in zip(samples, keys, strict=True)]


def _image_key(shards: Sequence[Path], sample: Sample, asked: str | None) -> str:
    fitting = [e for e in sample.files if (e == asked.lower() if asked else f".{e.rpartition('.')[2]}" in EXTENSIONS)]
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(
        f"sample {sample.key} of {_shard(shards, sample)} has {len(fitting)} images among {', '.join(sample.files)}, "
        "expected one (a key ends at the first dot of a name): set dataset.image_key to the extension of the images"
    )


def _label_key(root: Path, samples: Sequence[Sample], asked: str | None) -> str:
    there = dict.fromkeys(sorted({extension for sample in samples for extension in sample.files}), "")
    if asked is not None:
        return asked
    return required(KEY, f"{root}, in its training shards,", there)


def _contents_of_labels(
    shards: Sequence[Path], samples: Sequence[Sample], key: str, parameter: str = "label_key"
) -> list[tuple[str, Any]]:
    """What stands in the label file of each sample: its text, or what JSON makes of it; by the name of the file."""
    extension = _extension(key)
    for sample in samples:
        if extension not in sample.files:
            raise InputError(
                f"sample {sample.key} of {_shard(shards, sample)} has no {extension} file, only "
                f"{', '.join(sample.files)}: set dataset.{parameter} to an extension that every sample has"
            )
    read = contents(shards, [sample.files[extension] for sample in samples])
    names = [f"{extension} file of {sample.key}" for sample in samples]
    return [(name, _content(content, name, extension, parameter)) for name, content in zip(names, read, strict=True)]


def _extension(key: str) -> str:
    return "json" if key.startswith("json.") else key


def _content(content: bytes, name: str, extension: str, parameter: str) -> Any:
    what = "the labels" if parameter == "label_key" else "the captions"
    try:
        text = content.decode("utf-8-sig").strip()
        return parsed(text) if extension.endswith("json") else text or None
    except ValueError as error:
        raise InputError(f"the {name} is no text or no JSON ({error}): set dataset.{parameter} to {what}") from error


def _field_name(read: Sequence[tuple[str, Any]], key: str) -> str | None:
    """The field of JSON that holds the labels, as the first sample of train has it; None where labels stand alone."""
    if key.startswith("json."):
        return key.removeprefix("json.")
    name, value = read[0] if read else ("", None)
    if not isinstance(value, dict):
        return None
    return required(FIELD, f"the {name}", dict.fromkeys((f"json.{n}" for n in value), "")).removeprefix("json.")


def _typed(labels: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Numbers where all labels of all partitions are whole numbers."""
    texts = [value for of_part in labels.values() for value in of_part]
    if not all(isinstance(text, str) for text in texts) or numbers_or_names(texts) is str:
        return labels
    return {part: [int(value) for value in of_part] for part, of_part in labels.items()}


def _field(value: Any, field: str | None, name: str, parameter: str = "label_key") -> Any:
    if not isinstance(value, dict):
        return value
    if field not in value:
        raise InputError(
            f"the {name} has no field {field}, only {', '.join(value)}: set dataset.{parameter}=json.<field>"
        )
    return value[field]
