from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from probe.core import tensors
from probe.core.errors import InputError

ARRAYS = {"b": np.arange(3), "a": np.ones((2, 2), np.float32), "c": np.zeros(0, np.uint8)}
METADATA = {name: name.upper() for name in "zyxwvutsrqponml"}


def test_the_same_content_is_the_same_bytes_whatever_its_order() -> None:
    turned = {name: ARRAYS[name] for name in sorted(ARRAYS, reverse=True)}
    named = dict(sorted(METADATA.items()))
    assert len({tensors.to_bytes(a, m) for a in (ARRAYS, turned) for m in (METADATA, named) for _ in range(5)}) == 1


def test_any_reader_of_safetensors_reads_it(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(tensors.to_bytes(ARRAYS, METADATA))
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == METADATA
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    arrays, metadata = tensors.read(tmp_path / "x.safetensors")
    assert metadata == METADATA
    assert {name: array.tolist() for name, array in arrays.items()} == {n: a.tolist() for n, a in ARRAYS.items()}


@pytest.mark.parametrize("content", [b"", b"{}", bytes(8), b"\xff" * 40, tensors.to_bytes(ARRAYS)[:-1]])
def test_what_is_no_such_file_gets_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x.safetensors is half-written or damaged: bring back a copy of it, or make"):
        tensors.read(tmp_path / "x.safetensors")


def test_an_absent_file_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.safetensors cannot be read \(No such file or directory\): give a file"):
        tensors.read(tmp_path / "x.safetensors")
