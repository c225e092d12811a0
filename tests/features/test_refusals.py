"""Rows and arguments that the feature store refuses, and rows that it leaves out when told to."""

import numpy as np
import pytest
import torch
from extraction_toys import KINDS, Unguarded, get

from probe.core.errors import InputError


class TestRefusals:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_features_that_are_not_finite_name_row_and_backbone(self, store, backbone, make_dataset, bad):
        dataset = make_dataset()
        dataset.partitions["train"].rows[42, 0] = bad
        backbone.extract = lambda batch, kinds: {"pooled": batch.clone()}
        with pytest.raises(InputError, match=r"pooled features of row 42 \(images/0042.png\) from backbone toy are no"):
            get(store, backbone, dataset)
        assert not list(store.root.rglob("manifest.json"))

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
