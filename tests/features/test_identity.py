"""What names stored features, and what does not."""

import numpy as np
import pytest
import torch
from extraction_parent import bytes_of
from extraction_toys import KINDS, Unguarded, get

from probe.core.errors import InputError


class TestIdentity:
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
