"""Images with a number per pixel in files, such as depths: two folders side by side, or a table that names both."""

from __future__ import annotations

from probe.core.base import Dataset
from probe.core.errors import InputError
from probe.core.targets.number_map import NumberMap, unlabelled_share
from probe.datasets.shared.columns import DEPTH
from probe.datasets.shared.mask_rows import NumberMapPartition
from probe.datasets.shared.number_map_files import ARRAYS, FileMaps, MapReading, look, out_of_range
from probe.datasets.shared.paired_files import Labelled, find
from probe.datasets.shared.partitions import ImageFiles, make_dataset
from probe.datasets.shared.row_facts import know


def load(
    path: str | None = None,
    name: str | None = None,
    images: str = "images",
    maps: str = "depth",
    map_suffix: str = "",
    image_column: str | None = None,
    map_column: str | None = None,
    partition_column: str | None = None,
    group_column: str | None = None,
    quantity: str = "depth",
    unit: str = "m",
    scale: float = 1.0,
    invalid: float | None = 0.0,
    min: float | None = 0.001,
    max: float | None = None,
    follow_links: bool = False,
) -> Dataset:
    """Reads `<path>/images/train/**/<image>` with `<path>/depth/train/**/<image>.png`, or files named in a table.

    Partitions stand as those of `dataset=masks`: `train`, `test`, `validation` below the two folders or above them. A
    map is called as its image and as large: a greyscale image of 8, 16 or 32 bits, or the only array (H, W) of a file
    .npy or .npz. A pixel has a label where its value is finite, is not `invalid`, and divided by `scale` lies in
    `min`..`max`; all others count nowhere.

    NYU Depth v2 in millimetres is `scale=1000 max=10`, KITTI `scale=256 max=80`.

    Args:
        path: The folder, or a table with a column of images and one of maps, relative to its own folder.
        name: How tables call the dataset; the folder's name, or the table's, by default.
        images, maps: The two folders.
        map_suffix: Put behind the stem of an image to get that of its map, such as `_depth`.
        image_column, map_column, partition_column, group_column: Of a table; by default those called so.
        quantity: What the numbers are, for display.
        unit: Of the numbers, for display.
        scale: Values of a file per unit.
        invalid: The value of pixels without a label, before scaling; null where every value is a number.
        min, max: Range of the numbers, in their unit; null for no bound. Metrics of ratios and logarithms want `min`
            above 0. Predictions are clipped to it before they are scored.
        follow_links: Symbolic links that lead out of the folder are refused unless this is true.
    """
    how = MapReading(scale, invalid, min, max)
    columns = (image_column, map_column, partition_column, group_column)
    found = find("depth", path, (images, maps), map_suffix, columns, follow_links, Labelled("map", DEPTH, ARRAYS))
    called = name or found.called
    every = {part: (files[0], FileMaps(found.root, files[1], how)) for part, files in found.names.items()}
    looked = {part: look(part, *files) for part, files in every.items()}
    faults = [clause for one in looked.values() for clause in one.faults]
    if faults := faults or [clause for clause in [out_of_range(looked, how)] if clause]:
        raise InputError(f"dataset {called} cannot be used: {'; '.join(faults)}")
    target, partitions, notes = NumberMap(unit, how.least, how.most), {}, list(found.left_out)
    for part, (pictures, files) in every.items():
        labels = looked[part].labels
        rows = NumberMapPartition(ImageFiles(found.root, pictures, labels, target), files, files.fingerprint)
        partitions[part] = know(rows, {"groups": found.groups.get(part)}, part)
        if labels[:, 1].sum() < looked[part].pixels:
            notes.append(f"{unlabelled_share(labels, looked[part].pixels)} of the pixels of {part}, without a label")
    return make_dataset(called, (quantity,), partitions, target=target, left_out=notes, rows="images")
