"""Image files with a JSON file of their captions: COCO's, Karpathy's splits, or a list of objects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.texts import read_text
from probe.core.words import counted
from probe.datasets.shared.caption_rows import captioned, texts_in
from probe.datasets.shared.json_texts import parsed
from probe.datasets.shared.partitions import ImageFiles
from probe.datasets.shared.sources import holds, on_disk

Pairs: TypeAlias = list[tuple[str, Any]]
"""Image files and what stands for captions of each; a file may come more than once."""
LAYOUTS = (
    'COCO\'s ({"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}), Karpathy\'s ({"images": '
    '[{"filename", "split", "sentences": [{"raw"}]}]}) or [{"image", "caption"}]'
)


def load(
    path: str | None = None, name: str | None = None, images: str | None = None, split: str | None = None
) -> Dataset:
    """Reads the captions that test: a dataset of one partition, from which nothing is learnt.

    Three layouts are known by their keys: that of COCO's `captions_val2017.json`, that of Karpathy's
    `dataset_coco.json` and `dataset_flickr30k.json`, and a list of objects with `image` and `caption`, a text or a list
    of texts, such as `coco_karpathy_test.json`.

    Args:
        path: The JSON file, or a folder that holds it alone of its kind.
        name: How tables call the dataset; by default the stem of the file, with the split behind a dash where it names
            several.
        images: Folder to which file names are relative; that of the JSON file by default.
        split: Of Karpathy's layout which one is read, `test` by default; the others are counted as left out.
    """
    if path is None:
        raise InputError("dataset=captions needs a JSON file, none is given: set dataset.path=<captions.json>")
    file = _file(Path(path).expanduser())
    root = Path(images).expanduser() if images else file.parent
    content = _content(file)
    if _is_of_karpathy(content):
        split = split or "test"
        pairs, left_out = _of_karpathy(content["images"], root, split, file)
    elif split is not None:
        raise InputError(f"{file} names no splits, expected none of dataset.split={split}: leave it out")
    else:
        pairs, left_out = _of_coco(content, file) if isinstance(content, dict) else _of_list(content, file), []
    gathered: dict[str, list[str]] = {}
    inside = [_inside(root, image, file) for image, _ in pairs]
    for image, (_, given) in zip(on_disk(root, inside), pairs, strict=True):
        gathered.setdefault(image, []).extend(texts_in(given, f"image {image} of {file.name}", "mend the file"))
    files = list(gathered)
    if missing := [image for image in files if not (root / image).is_file()]:
        raise InputError(
            f"{root} lacks {counted(len(missing), 'image file')} of {file}, the first is {missing[0]}, expected all of "
            "them: set dataset.images to their folder"
        )
    called = name or file.stem + (f"-{split}" if split else "")
    texts = [tuple(of_file) for of_file in gathered.values()]
    return captioned(called, texts, lambda counts: ImageFiles(root, files, counts), left_out)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.json"))
    if len(found) != 1:
        raise InputError(
            f"{holds(path)}, expected one JSON file of captions: set dataset.path to the one that is meant"
        )
    return found[0]


def _content(file: Path) -> Any:
    if not file.is_file():
        raise InputError(f"{file} is no file, expected a JSON file of captions: give its path")
    try:
        return parsed(read_text(file))
    except ValueError as error:
        raise InputError(f"{file} is no JSON ({error}), expected a file of captions: write it again") from error


def _inside(root: Path, name: str, file: Path) -> str:
    """The shortest spelling of a name, so that one file is one row; links in the folder are the user's own."""
    plain = Path(os.path.normpath(name)).as_posix()
    if Path(name).anchor or plain.split("/")[0] == "..":
        raise InputError(
            f"{file} names the image {name[:200]!r}, expected names below {root}: set dataset.images to the folder of "
            "the images, and write names that are relative to it"
        )
    try:
        os.stat(root / plain)
    except (FileNotFoundError, NotADirectoryError):
        pass  # counted with the others
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} names the image {name[:200]!r}, expected the name of a file ({type(error).__name__}): mend the "
            "file"
        ) from error
    return plain


def _is_of_karpathy(content: Any) -> bool:
    images = content.get("images") if isinstance(content, dict) else None
    return isinstance(images, list) and bool(images) and isinstance(images[0], dict) and "sentences" in images[0]


def _of_karpathy(images: Sequence[Any], root: Path, split: str, file: Path) -> tuple[Pairs, list[str]]:
    """The images of a split, in COCO's folders such as `val2014` where these are there, and what is left out."""
    counts = Counter(_word(image, "split", file) for image in images)
    if split not in counts:
        raise InputError(f"{file} has the splits {', '.join(map(str, counts))}, expected {split}: set dataset.split")
    pairs: Pairs = []
    folders: dict[str, Any] = {}
    for image in (image for image in images if image["split"] == split):
        name, below = str(_word(image, "filename", file)), image.get("filepath")
        inside = _inside(root, f"{below}/{name}", file) if below else name
        is_there = bool(below) and (root / inside).is_file()
        if not is_there and folders.setdefault(name, below) != below:
            raise InputError(
                f"{file} has images {name} in the folders {folders[name]} and {below}, of which {root} has neither: "
                "set dataset.images to the folder that holds both"
            )
        sentences = [_value(sentence, "raw", file) for sentence in _list(image, "sentences", file)]
        pairs.append((inside if is_there else name, sentences))
    return pairs, [f"{counted(n, 'row')} of split {other}" for other, n in counts.items() if other != split]


def _of_coco(content: Mapping[str, Any], file: Path) -> Pairs:
    """The images in their order, each with the captions of its annotations."""
    if not {"images", "annotations"} <= content.keys():
        raise InputError(f"{file} has the keys {', '.join(content)}, expected {LAYOUTS}: give such a file")
    captions: dict[Any, list[Any]] = {}
    for image in _list(content, "images", file):
        if (own := _word(image, "id", file)) in captions:
            raise InputError(f"{file} has several images with the id {own}, expected one: mend the file")
        captions[own] = []
    for annotation in _list(content, "annotations", file):
        owner = _word(annotation, "image_id", file)
        if owner not in captions:
            raise InputError(f"{file} has a caption of image {owner}, which is none of its images: mend the file")
        captions[owner].append(_value(annotation, "caption", file))
    return [(str(_word(image, "file_name", file)), captions[image["id"]]) for image in content["images"]]


def _of_list(content: Any, file: Path) -> Pairs:
    if not isinstance(content, list):
        raise InputError(f"{file} is {type(content).__name__}, expected {LAYOUTS}: give such a file")
    return [(str(_word(entry, "image", file)), _value(entry, "caption", file)) for entry in content]


def _value(entry: Any, key: str, file: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        told = f"an object with {', '.join(entry)}" if isinstance(entry, dict) else repr(entry)[:40]
        raise InputError(f"{file} holds {told} without {key}, expected {LAYOUTS}: mend the file")
    return entry[key]


def _word(entry: Any, key: str, file: Path) -> str | int:
    """A value that names something."""
    return _of_kind(entry, key, file, (str, int), "a text or a number")


def _list(entry: Any, key: str, file: Path) -> list[Any]:
    return _of_kind(entry, key, file, (list,), "a list")


def _of_kind(entry: Any, key: str, file: Path, kinds: tuple[type, ...], told: str) -> Any:
    value = _value(entry, key, file)
    if not isinstance(value, kinds):
        raise InputError(f"{file} has {key} {repr(value)[:40]}, expected {told} as in {LAYOUTS}: mend the file")
    return value
