"""Tar shards in the layout of WebDataset: where the files of each sample stand."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from probe.core.errors import InputError


class Place(NamedTuple):
    """Where a file stands: number of the shard, first byte, and how many."""

    shard: int
    offset: int
    size: int


class Sample(NamedTuple):
    """One key of a shard and its files by extension."""

    key: str
    files: dict[str, Place]


def contents(shards: Sequence[Path], places: Iterable[Place]) -> Iterator[bytes]:
    """The bytes at some places; neighbours in one shard are read from one opening of it."""
    for number, group in groupby(places, key=lambda place: place.shard):
        with shards[number].open("rb") as file:
            for place in group:
                file.seek(place.offset)
                yield file.read(place.size)


def expand(spec: str) -> list[str]:
    """Names of shards, ranges in braces written out as the library does it."""
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise InputError(
            "ranges of shards need the package webdataset, which is not installed: pip install "
            "'probe-bench[webdataset]', or set dataset.path to a folder with train-*.tar and test-*.tar"
        ) from error
    expanded: list[str] = expand_urls(spec)
    return expanded


def index(shards: Sequence[Path]) -> tuple[list[Sample], int]:
    """All samples of the shards, in order, and how many links are passed over.

    Neighbouring files with one key are a sample; as in the library, a file that stands twice in one is refused.
    """
    samples: list[Sample] = []
    n_links = 0
    for number, shard in enumerate(shards):
        members, links = _members(shard, number)
        n_links += links
        last = None
        for name, place in members:
            # As the library splits names: the key ends at the first dot of the file's own name.
            folder, _, base = name.rpartition("/")
            stem, _, extension = base.partition(".")
            if not stem or base.startswith("__"):
                continue
            if (folder, stem) != last:
                samples.append(Sample(f"{folder}/{stem}" if folder else stem, {}))
                last = (folder, stem)
            if extension.lower() in samples[-1].files:
                raise InputError(
                    f"{shard} holds {name} twice in sample {samples[-1].key} (a key ends at the first dot of a name), "
                    "expected a key of its own for every sample: write the shard with other names"
                )
            samples[-1].files[extension.lower()] = place
    return samples, n_links


def _members(shard: Path, number: int) -> tuple[list[tuple[str, Place]], int]:
    """Files of a shard and their places, and how many links stand among them."""
    try:
        with tarfile.open(shard, "r:") as archive:  # uncompressed: only there do files have places
            members = list(archive)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(
            f"{shard} is no readable tar file ({error}), expected an uncompressed shard: unpack or write it again"
        ) from error
    files = [(m.name, Place(number, m.offset_data, m.size)) for m in members if m.isfile()]
    end = shard.stat().st_size
    cut = next((name for name, place in files if place.offset + place.size > end), None)
    if cut is not None:
        raise InputError(f"{shard} ends within {cut}: it was cut off, fetch or write it again")
    return files, sum(m.islnk() or m.issym() for m in members)
