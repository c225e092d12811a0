"""Digests by content."""

import numpy as np
import pytest
import torch
import xxhash

from probe.core.errors import InputError
from probe.core.hashing import CHUNK_BYTES, hash_arrays, hash_bytes, hash_tensors


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(7, 5, generator=generator),
        "b.weight": torch.randn(CHUNK_BYTES // 4 + 3, generator=generator),
        "b.count": torch.tensor(3),
        "c": torch.randn(4, generator=generator).to(torch.bfloat16),
        "empty": torch.zeros(0, 3),
    }


def test_equal_values_give_equal_digests_whatever_order_and_layout():
    first, second = weights(), dict(reversed(weights().items()))
    second["a.weight"] = second["a.weight"].T.contiguous().T
    assert hash_tensors(first) == hash_tensors(second)
    assert len(hash_tensors(first)) == 32


@pytest.mark.parametrize("name", ["a.weight", "b.weight", "b.count", "c"])
def test_one_flipped_bit_changes_the_digest(name):
    changed = weights()
    flat = changed[name].reshape(-1).view(torch.uint8)
    flat[-1] ^= 1
    assert hash_tensors(changed) != hash_tensors(weights())


def test_name_shape_and_dtype_count():
    values = torch.zeros(6)
    digests = [
        hash_tensors(tensors)
        for tensors in ({"a": values}, {"b": values}, {"a": values.reshape(2, 3)}, {"a": values.int()}, {})
    ]
    assert len(set(digests)) == len(digests)


def test_arrays_and_tensors_of_equal_values_have_equal_digests():
    tensors = {name: tensor for name, tensor in weights().items() if tensor.dtype != torch.bfloat16}
    assert hash_arrays({name: tensor.numpy() for name, tensor in tensors.items()}) == hash_tensors(tensors)


def test_byte_order_does_not_count():
    values = np.arange(5, dtype=np.float32)
    assert hash_arrays({"x": values.astype(">f4")}) == hash_arrays({"x": values})


def test_memmap_and_memory_have_equal_digests(tmp_path):
    values = np.random.default_rng(0).normal(size=(1000, 7))
    np.save(tmp_path / "x.npy", values)
    assert hash_arrays({"x": np.load(tmp_path / "x.npy", mmap_mode="r")}) == hash_arrays({"x": values})


def test_object_arrays_are_refused():
    with pytest.raises(InputError, match="names is an array of Python objects, expected numbers or strings"):
        hash_arrays({"names": np.array([{}, None], dtype=object)})


def test_hash_bytes_is_xxh3_128():
    assert hash_bytes(b"probe") == xxhash.xxh3_128(b"probe").hexdigest()
