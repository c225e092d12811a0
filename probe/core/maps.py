"""Maps of features as heads of masks read them: of tokens, of several layers side by side, place by place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.arrays import read_rows
from probe.core.base import IntArray


class MapOfTokens:
    """(N, T, D) tokens as (N, D, h, w): those behind the prefix, row by row over a grid.

    Looks like an array to the heads, as `RowSubset` does.

    Args:
        tokens: An array, or what looks like one.
        grid: (h, w), as many places as there are tokens behind the prefix.
    """

    def __init__(self, tokens: Any, grid: tuple[int, int]):
        self.tokens, self.grid = tokens, grid
        self.dtype = np.dtype(tokens.dtype)
        self.shape = (len(tokens), tokens.shape[2], *grid)
        self.ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        tokens = read_rows(self.tokens, np.arange(len(self))[key])[:, -math.prod(self.grid) :]
        return tokens.transpose(0, 2, 1).reshape(len(tokens), *self.shape[1:])


class SideBySide:
    """Maps (N, C, h, w) of several layers as one of all their channels, on the finest of their grids.

    Coarser ones are resized bilinearly when rows are read; what is stored keeps its own grid. Looks like an array to
    the heads, as `RowSubset` does.
    """

    def __init__(self, parts: Sequence[Any]):
        self.parts = list(parts)
        grids = [tuple(part.shape[2:]) for part in self.parts]
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.shape = (len(parts[0]), sum(part.shape[1] for part in self.parts), *max(grids, key=math.prod))
        self.ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        rows = np.arange(len(self))[key]
        return np.concatenate([self._resized(read_rows(part, rows)) for part in self.parts], axis=1)

    def _resized(self, maps: NDArray[Any]) -> NDArray[Any]:
        import torch

        if maps.shape[2:] == self.shape[2:]:
            return maps.astype(self.dtype, copy=False)
        values = torch.from_numpy(np.asarray(maps, dtype=np.float32))
        resized = torch.nn.functional.interpolate(values, self.shape[2:], mode="bilinear", align_corners=False)
        return resized.numpy().astype(self.dtype)


class PlaceRows:
    """Places of maps (N, C, h, w) as rows (n, C), read when they are asked for.

    Args:
        maps: An array, or what looks like one.
        places: (n,) number of each row's place among all N h w, image by image and row by row.
    """

    def __init__(self, maps: Any, places: IntArray):
        self.maps, self.places = maps, places
        self.per_image = math.prod(maps.shape[2:])
        self.dtype = np.dtype(maps.dtype)
        self.shape = (len(places), maps.shape[1])
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        places = self.places[key]
        images, rows = np.unique(places // self.per_image, return_inverse=True)
        maps = read_rows(self.maps, images) if len(images) else np.empty((0, *self.maps.shape[1:]), self.dtype)
        by_place = maps.reshape(len(maps), self.shape[1], self.per_image).transpose(0, 2, 1)
        return np.ascontiguousarray(by_place[rows, places % self.per_image])


class PixelRows:
    """Pixels of maps (N, C, h, w) as rows (n, C) of float32 or finer, read when they are asked for.

    Bilinear between the centres of the places, as `torch.nn.functional.interpolate` has it without aligned corners.

    Args:
        maps: An array, or what looks like one.
        images: (n,) number of each row's map.
        at: (n, 2) where its pixel lies, down and to the right, in places: the first reaches from 0 to 1.
    """

    def __init__(self, maps: Any, images: IntArray, at: NDArray[np.float32]):
        self.maps, self.images, self.at = maps, images, at
        self.dtype = np.result_type(maps.dtype, np.float32)
        self.shape = (len(images), maps.shape[1])
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> NDArray[Any]:
        import torch

        images, of = np.unique(self.images[key], return_inverse=True)
        maps = read_rows(self.maps, images) if len(images) else np.empty((0, *self.maps.shape[1:]), self.maps.dtype)
        height, width = self.maps.shape[2:]
        (above, below, down), (left, right, across) = (
            _neighbours(self.at[key][:, axis], side) for axis, side in ((0, height), (1, width))
        )
        corners = [(above, left), (above, right), (below, left), (below, right)]
        places = np.stack([(of * height + y) * width + x for y, x in corners], axis=1)
        shares = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
        by_place = torch.empty(len(maps), height * width, self.shape[1], dtype=getattr(torch, self.dtype.name))
        by_place.copy_(torch.from_numpy(maps).flatten(2).transpose(1, 2))
        # A bag of four places for each row, which torch fills on all cores.
        weights = torch.from_numpy(np.stack(shares, axis=1)).to(by_place.dtype)
        values: NDArray[Any] = torch.nn.functional.embedding_bag(
            torch.from_numpy(places), by_place.flatten(0, 1), per_sample_weights=weights, mode="sum"
        ).numpy()
        return values


def _neighbours(at: NDArray[np.float32], side: int) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
    """The places before and behind a point, and how far it is on the way between their centres."""
    point = np.clip(at - np.float32(0.5), 0, side - 1)
    before = np.minimum(point.astype(np.int64), max(side - 2, 0))
    return before, np.minimum(before + 1, side - 1), (point - before).astype(np.float32)


def places_of(maps: NDArray[Any]) -> NDArray[Any]:
    """(n h w, C) rows of (n, C, h, w) maps."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).reshape(-1, maps.shape[1])
