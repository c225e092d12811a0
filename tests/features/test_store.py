"""The feature store, one process at a time."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from extraction_toys import Unguarded

from probe.core.errors import InputError, StoreError
from probe.core.files import cache_root
from probe.core.ragged import Ragged

KINDS = ["pooled", "tokens", "map", "blocks.0"]
RAGGED = "words"


def bytes_of(features):
    return {kind: np.asarray(array[:]).tobytes() for kind, array in features.arrays.items()}


def pass_folders(root):
    return sorted(p.parent for p in Path(root).rglob("manifest.json"))


@pytest.fixture
def store(tmp_path):
    return Unguarded(tmp_path / "cache")


def get(store, backbone, dataset, kinds=("pooled",), **options):
    options = {"batch_size": 8, "progress": False, "device": "cpu"} | options
    return store.get(backbone, dataset, options.pop("partition", "train"), list(kinds), **options)


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


def test_rows_that_differ_in_length_are_stored_without_padding_and_read_with_it(store, backbone, make_dataset):
    dataset = make_dataset(50, broken=(3, *range(16, 24)))
    found = get(store, backbone, dataset, [RAGGED, "pooled"], on_error="skip")
    words = backbone.extract(torch.from_numpy(dataset.partitions["train"].rows), [RAGGED])[RAGGED]
    rows = [part.numpy().astype(np.float16) for part in torch.split(words.values, words.lengths.tolist())]
    array = found.arrays[RAGGED]
    assert array.dtype == np.float16
    assert array.shape == (50, 4, 64)
    for row, expected in enumerate(rows):
        np.testing.assert_array_equal(array[row], expected if found.valid[row] else expected[:0])
    two = np.array([30, 2])
    longest = max(len(rows[30]), len(rows[2]))
    assert array[two].shape == (2, longest, 64)
    np.testing.assert_array_equal(array[two][1], np.pad(rows[2], ((0, longest - len(rows[2])), (0, 0))))
    (folder,) = pass_folders(store.root)
    plain, offsets = np.load(folder / "words.npy", mmap_mode="r"), np.load(folder / "words.offsets.npy")
    assert len(plain) == offsets[-1] == sum(len(row) for row, valid in zip(rows, found.valid, strict=True) if valid)
    np.testing.assert_array_equal(plain[offsets[30] : offsets[31]], rows[30])


def test_tokens_of_rows_that_differ_in_length_are_stored_as_bytes_too(store, backbone, make_dataset):
    backbone.kinds, backbone.ragged = ("tokens",), ("tokens",)
    plain = backbone.extract
    backbone.extract = lambda batch, kinds: {"tokens": plain(batch, ["words"])["words"]}
    exact = get(store, backbone, make_dataset(30), ["tokens"], dtypes={"tokens": "float32"}).arrays["tokens"]
    array = get(store, backbone, make_dataset(30), ["tokens"], dtypes={"tokens": "int8"}).arrays["tokens"]
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[:], exact[:], atol=4 / 127)
    assert (array[:] != exact[:]).any()


def test_rows_that_differ_in_length_are_refused_where_the_disk_cannot_hold_them(
    store, backbone, make_dataset, monkeypatch
):
    whole = get(store, backbone, make_dataset(100), [RAGGED]).arrays[RAGGED]
    n_bytes = sum(len(whole[row]) * 64 * 2 for row in range(100))
    usage = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=n_bytes))  # and as much for segments
    shutil.rmtree(store.root)
    with pytest.raises(StoreError, match=r"features of 100 rows need .* MiB and the cache has .* MiB free: make room"):
        get(store, backbone, make_dataset(100), [RAGGED])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * n_bytes))
    assert len(get(store, backbone, make_dataset(100), [RAGGED]).arrays[RAGGED]) == 100


def test_rows_that_differ_in_length_are_put_in_order_where_the_disk_still_holds_them(
    store, backbone, make_dataset, monkeypatch
):
    usage = shutil.disk_usage(store.root.parent)
    free = iter([usage.free, 100])  # something else has filled it up meanwhile
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=next(free)))
    with pytest.raises(StoreError, match=r"MiB of features are to be put in the order .* what is extracted is kept"):
        get(store, backbone, make_dataset(30), [RAGGED])
    assert not list(store.root.rglob("*.npy"))
    monkeypatch.undo()
    monkeypatch.setattr(backbone, "extract", None)
    assert len(get(store, backbone, make_dataset(30), [RAGGED]).arrays[RAGGED]) == 30


@pytest.mark.parametrize(
    ("lengths", "sentence"),
    [([2, 0, 1], r"row 1 \(images/0001.png\) has no words of backbone toy, expected at least 1"),
     ([2, 2, 2], "backbone toy gave 3 words for 3 rows of 6 in all, expected those of 3 rows one after the other")],
)  # fmt: skip
def test_lengths_that_cannot_be_are_refused(store, backbone, make_dataset, lengths, sentence):
    backbone.extract = lambda batch, kinds: {"words": Ragged(torch.ones(3, 4), torch.tensor(lengths))}
    with pytest.raises(InputError, match=sentence):
        get(store, backbone, make_dataset(3), [RAGGED])


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
    (folder,) = pass_folders(store.root)
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
    (folder,) = pass_folders(store.root)
    assert (folder / "blocks.7%2F..%2Fattn%3Aheads.npy").exists()


def test_nothing_but_the_pass_stays_behind(store, backbone, make_dataset):
    get(store, backbone, make_dataset(), ["pooled", "map"])
    (folder,) = pass_folders(store.root)
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name, "used"]
    names = ["ids.json", "labels.npy", "manifest.json", "map.npy", "map.xxh3.npy", "pooled.npy", "pooled.xxh3.npy"]
    assert sorted(p.name for p in folder.iterdir()) == [*names, "valid.npy"]


class TestIdentity:
    """What names features, and what does not."""

    def test_whatever_changes_features_changes_the_digest(self, store, make_backbone, make_dataset):
        def digest(backbone=None, dataset=None, **options):
            return get(store, backbone or make_backbone(), dataset or make_dataset(20), **options).digest

        changed_pixel, changed_label, changed_name, changed_order = (make_dataset(20) for _ in range(4))
        changed_pixel.partitions["train"].rows[3, 5] += 1e-3
        changed_label.partitions["train"].labels[3] = 2
        changed_name.partitions["train"].ids[3] = "other.png"
        changed_order.partitions["train"].rows = changed_order.partitions["train"].rows[::-1].copy()
        flipped = make_backbone()
        flipped.weight[0, 0] += 1e-6
        digests = [
            digest(),
            digest(make_backbone(seed=1)),
            digest(flipped),
            digest(make_backbone(mean=0.5)),
            digest(partition="test"),
            digest(kinds=("tokens",)),
            digest(dtypes={"pooled": "float16"}),
            *(digest(dataset=d) for d in (changed_pixel, changed_label, changed_name, changed_order)),
        ]
        assert len(set(digests)) == len(digests)

    @pytest.mark.parametrize(
        "options", [{"batch_size": 5}, {"n_workers": 1}, {"on_error": "skip"}, {"device": "auto"}, {"progress": True}]
    )
    def test_how_they_are_extracted_does_not(self, tmp_path, make_backbone, make_dataset, options):
        plain = get(Unguarded(tmp_path / "plain"), make_backbone(), make_dataset(20))
        torch.manual_seed(7)
        other = get(Unguarded(tmp_path / "other"), make_backbone(), make_dataset(20), **options)
        assert plain.digest == other.digest
        np.testing.assert_allclose(plain.arrays["pooled"], other.arrays["pooled"], rtol=1e-5, atol=1e-6)

    def test_a_change_of_test_rows_keeps_the_features_of_train(self, store, backbone, make_dataset):
        get(store, backbone, make_dataset(20))
        other = make_dataset(20)
        other.partitions["test"].rows[0] += 1
        assert get(store, backbone, other).seconds == 0.0

    def test_workers_give_the_same_bits(self, tmp_path, make_backbone, make_dataset):
        plain = get(Unguarded(tmp_path / "plain"), make_backbone(), make_dataset(100), KINDS)
        other = get(Unguarded(tmp_path / "other"), make_backbone(), make_dataset(100), KINDS, n_workers=2)
        assert bytes_of(plain) == bytes_of(other)


class TestStoredDtypes:
    def test_a_dtype_asked_for_is_stored_beside_the_default(self, store, backbone, make_dataset):
        wide = get(store, backbone, make_dataset())
        half = get(store, backbone, make_dataset(), dtypes={"pooled": "float16"})
        assert half.arrays["pooled"].dtype == np.float16
        np.testing.assert_array_equal(half.arrays["pooled"], np.asarray(wide.arrays["pooled"]).astype(np.float16))

    def test_asking_for_the_default_by_name_extracts_nothing(self, store, backbone, make_dataset):
        first = get(store, backbone, make_dataset(), KINDS)
        names = {"pooled": "float32", "tokens": "float16", "map": "float16", "blocks.0": "float32"}
        again = get(store, backbone, make_dataset(), KINDS, dtypes=names)
        assert again.seconds == 0.0
        assert again.digest == first.digest

    def test_overflow_in_float16_says_what_to_do(self, store, backbone, make_dataset):
        backbone.weight = backbone.weight * 0
        backbone.extract = lambda batch, kinds: {"tokens": torch.full((len(batch), 2, 3), 7e4)}
        with pytest.raises(InputError, match=r"row 0 \(images/0000.png\).*reach 70000, too large for float16: store"):
            get(store, backbone, make_dataset(), ["tokens"])


class TestRefusals:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_features_that_are_not_finite_name_row_and_backbone(self, store, backbone, make_dataset, bad):
        dataset = make_dataset()
        dataset.partitions["train"].rows[42, 0] = bad
        backbone.extract = lambda batch, kinds: {"pooled": batch.clone()}
        with pytest.raises(InputError, match=r"pooled features of row 42 \(images/0042.png\) from backbone toy are no"):
            get(store, backbone, dataset)
        assert pass_folders(store.root) == []

    def test_large_finite_features_are_accepted(self, store, backbone, make_dataset):
        backbone.extract = lambda batch, kinds: {"pooled": torch.full((len(batch), 4), 3e38)}
        assert get(store, backbone, make_dataset()).arrays["pooled"][0, 0] == np.float32(3e38)

    def test_a_row_that_cannot_be_decoded_is_named(self, store, backbone, make_dataset):
        message = r"row 13 \(images/0013.png\) cannot be decoded \(OSError: image file is truncated\)"
        with pytest.raises(InputError, match=message):
            get(store, backbone, make_dataset(broken=(13, 77)))

    def test_several_wrong_arguments_are_reported_together(self, store, backbone, make_dataset):
        with pytest.raises(InputError) as caught:
            get(store, backbone, make_dataset(), ["poled"], batch_size=0, on_error="ignore", partition="val")
        for part in ("no partition 'val'", "['poled']", "batch_size is 0", "on_error is 'ignore'"):
            assert part in str(caught.value)

    def test_no_dtype_is_the_default_one(self, store, backbone, make_dataset):
        told = get(store, backbone, make_dataset(), dtypes={"pooled": None})
        assert told.digest == get(store, backbone, make_dataset()).digest

    def test_unknown_dtypes_are_refused(self, store, backbone, make_dataset):
        with pytest.raises(InputError, match=r"dtypes\.pooled is 'int8': choose from"):
            get(store, backbone, make_dataset(), dtypes={"pooled": "int8"})

    def test_a_partition_without_rows_is_refused(self, store, backbone, make_dataset):
        with pytest.raises(InputError, match="partition train of dataset toys has no rows"):
            get(store, backbone, make_dataset(0))

    def test_rows_of_different_shapes_are_refused(self, store, backbone, make_dataset):
        backbone.extract = lambda batch, kinds: {"tokens": torch.zeros(len(batch), 1 + int(batch[0, 0] > 0), 2)}
        with pytest.raises(InputError, match="expected one shape for all rows"):
            get(store, backbone, make_dataset(), ["tokens"])

    def test_features_without_a_row_axis_are_refused(self, store, backbone, make_dataset):
        backbone.extract = lambda batch, kinds: {"pooled": torch.zeros(3)}
        with pytest.raises(InputError, match=r"gave pooled of shape \(3,\) for a batch of 8 rows"):
            get(store, backbone, make_dataset())


class TestSkippedRows:
    def test_they_are_marked_and_the_others_keep_their_bits(self, tmp_path, backbone, make_dataset):
        whole = get(Unguarded(tmp_path / "whole"), backbone, make_dataset(), KINDS)
        holes = get(Unguarded(tmp_path / "holes"), backbone, make_dataset(broken=(3, 42)), KINDS, on_error="skip")
        assert np.flatnonzero(~holes.valid).tolist() == [3, 42]
        for kind in KINDS:
            np.testing.assert_array_equal(holes.arrays[kind][holes.valid], whole.arrays[kind][holes.valid])
            assert np.isnan(holes.arrays[kind][[3, 42]]).all()
        assert holes.digest != whole.digest

    def test_a_block_of_them_is_filled_too(self, store, backbone, make_dataset):
        broken = tuple(range(0, 8)) + tuple(range(96, 100))
        features = get(store, backbone, make_dataset(broken=broken), on_error="skip", kinds=["pooled", "tokens"])
        assert np.flatnonzero(~features.valid).tolist() == list(broken)
        assert np.isnan(features.arrays["tokens"][:8]).all()

    def test_they_are_refused_afterwards_unless_asked_for(self, store, backbone, make_dataset):
        dataset = make_dataset(broken=(3, 42))
        get(store, backbone, dataset, on_error="skip")
        with pytest.raises(
            InputError, match=r"2 rows of toys/train .* 3 \(images/0003.png\), 42 \(images/0042.png\): r"
        ):
            get(store, backbone, dataset)

    def test_an_interrupted_strict_extraction_goes_on_with_skip(self, store, backbone, make_dataset):
        dataset = make_dataset(broken=(50,))
        with pytest.raises(InputError, match="row 50"):
            get(store, backbone, dataset)
        features = get(store, backbone, dataset, on_error="skip")
        assert backbone.rows_extracted == 100
        assert np.flatnonzero(~features.valid).tolist() == [50]

    def test_none_at_all_is_an_error(self, store, backbone, make_dataset):
        with pytest.raises(
            InputError, match=r"none of the 20 rows of toys/train could be decoded \(row 0, images/0000"
        ):
            get(store, backbone, make_dataset(20, broken=tuple(range(20))), on_error="skip")


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
