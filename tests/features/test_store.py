"""The feature store, one process at a time: what it gives, and what it leaves on disk."""

import json

import numpy as np
import pytest
import torch
from extraction_parent import bytes_of, pass_folder
from extraction_toys import KINDS, Unguarded, get

from probe.core.errors import StoreError
from probe.core.files import cache_root


def test_features_equal_those_of_a_plain_loop(store, backbone, make_dataset):
    dataset = make_dataset(50)
    features = get(store, backbone, dataset, KINDS)
    rows = torch.from_numpy(dataset.partitions["train"].rows)
    for kind in KINDS:
        plain = torch.cat([backbone.extract(rows[i : i + 8], [kind])[kind] for i in range(0, 50, 8)]).numpy()
        dtype = np.float16 if plain.ndim > 2 else np.float32
        assert features.arrays[kind].dtype == dtype
        np.testing.assert_array_equal(features.arrays[kind], plain.astype(dtype))
    assert features.labels.tolist() == dataset.partitions["train"].labels.tolist()
    assert list(features.ids) == dataset.partitions["train"].ids
    assert features.valid.all()


def test_arrays_are_read_only_memmaps(store, backbone, make_dataset):
    features = get(store, backbone, make_dataset())
    assert isinstance(features.arrays["pooled"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        features.arrays["pooled"][0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        features.valid[0] = False


def test_a_second_call_extracts_nothing(store, backbone, make_dataset):
    first = get(store, backbone, make_dataset())
    n = backbone.rows_extracted
    second = get(store, backbone, make_dataset())
    assert backbone.rows_extracted == n == 100
    assert first.seconds > 0
    assert second.seconds == 0.0
    assert bytes_of(first) == bytes_of(second)
    assert first.digest == second.digest


def test_one_more_kind_later_extracts_only_that(store, backbone, make_dataset):
    first = get(store, backbone, make_dataset())
    both = get(store, backbone, make_dataset(), ["pooled", "tokens"])
    assert set(backbone.asked) == {("pooled",), ("tokens",)}
    assert backbone.rows_extracted == 200
    assert bytes_of(both)["pooled"] == bytes_of(first)["pooled"]


def test_several_kinds_take_one_pass(store, backbone, make_dataset):
    get(store, backbone, make_dataset(), KINDS)
    assert backbone.rows_extracted == 100


def test_plain_numpy_reads_what_was_written(store, backbone, make_dataset):
    features = get(store, backbone, make_dataset(), ["blocks.0", "tokens"])
    folder = pass_folder(store.root)
    for kind in ("blocks.0", "tokens"):
        plain = np.load(folder / f"{kind}.npy", mmap_mode="r")
        np.testing.assert_array_equal(plain, features.arrays[kind])
    assert np.load(folder / "labels.npy").tolist() == features.labels.tolist()
    assert json.loads((folder / "ids.json").read_text()) == list(features.ids)


def test_names_of_kinds_become_safe_file_names(store, backbone, make_dataset):
    kind = "blocks.7/../attn:heads"
    backbone.kinds = (kind,)
    plain = backbone.extract
    backbone.extract = lambda batch, kinds: {kind: plain(batch, ["pooled"])["pooled"]}
    assert get(store, backbone, make_dataset(), [kind]).arrays[kind].shape == (100, 64)
    folder = pass_folder(store.root)
    assert (folder / "blocks.7%2F..%2Fattn%3Aheads.npy").exists()


def test_nothing_but_the_pass_stays_behind(store, backbone, make_dataset):
    get(store, backbone, make_dataset(), ["pooled", "map"])
    folder = pass_folder(store.root)
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name, "used"]
    names = ["ids.json", "labels.npy", "manifest.json", "map.npy", "map.xxh3.npy", "pooled.npy", "pooled.xxh3.npy"]
    assert sorted(p.name for p in folder.iterdir()) == [*names, "valid.npy"]


def test_the_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "here"))
    assert Unguarded().root == tmp_path / "here"
    monkeypatch.delenv("PROBE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root().name == "probe"


def test_progress_counts_rows(store, backbone, make_dataset, capsys):
    get(store, backbone, make_dataset(), progress=True)
    assert "toy toys/train: 100%" in capsys.readouterr().err


def test_store_errors_are_errors_of_the_system(store):
    assert issubclass(StoreError, OSError)
