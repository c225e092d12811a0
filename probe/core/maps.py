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


def places_of(maps: NDArray[Any]) -> NDArray[Any]:
    """(n h w, C) rows of (n, C, h, w) maps."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).reshape(-1, maps.shape[1])
