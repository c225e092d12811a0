"""Features that are no function of the row are refused before anything is stored."""

import numpy as np
import pytest
import torch
from extraction_toys import ToyBackbone, toy_dataset

from probe.core.errors import InputError
from probe.features.store import FeatureStore

AGAIN = r"pooled features of backbone toy differ between two extractions of the same rows .*chance or on a state"
ALONE = r"pooled features of backbone toy differ between a batch and row \d alone .*the other rows of a batch"


class Changed(ToyBackbone):
    """What a network's forward may do that is no function of the row."""

    def __init__(self, change, precision="float32"):
        super().__init__()
        self.change, self.precision, self.n_calls = change, precision, 0

    def extract(self, batch, kinds):
        self.n_calls += 1
        features = super().extract(batch, kinds)
        return {kind: self.change(value, self) for kind, value in features.items()}


def get(root, backbone, kinds=("pooled",), dataset=None, **options):
    options = {"batch_size": 8, "progress": False, "device": "cpu"} | options
    return FeatureStore(root).get(backbone, dataset or toy_dataset(20), "train", list(kinds), **options)


def statistics(x, _):
    return torch.nn.functional.batch_norm(x, None, None, training=True)


def shuffled(x, _):
    return x[:, torch.randperm(x.shape[1])]


DRAWS = {
    "dropout": lambda x, _: torch.nn.functional.dropout(x, 0.1, training=True),
    "noise": lambda x, _: x + 0.01 * torch.randn_like(x),
    "patches in random order": shuffled,
    "a counter": lambda x, backbone: x + 0.01 * backbone.n_calls,
}
NEIGHBOURS = {
    "the mean of the batch": lambda x, _: x - x.mean(0),
    "a softmax over rows": lambda x, _: x.softmax(0),
    "the row before": lambda x, _: x + x.roll(1, 0),
    "a place in the batch": lambda x, _: x + 0.1 * torch.arange(len(x))[:, None],
}


@pytest.mark.parametrize("change", DRAWS.values(), ids=DRAWS)
def test_chance_and_state_are_refused(tmp_path, change):
    with pytest.raises(InputError, match=AGAIN + r".*\(mask_ratio=0, patches kept in order\)"):
        get(tmp_path, Changed(change))


@pytest.mark.parametrize("change", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_rows_that_hang_on_their_neighbours_are_refused(tmp_path, change):
    with pytest.raises(InputError, match=ALONE):
        get(tmp_path, Changed(change))


def test_statistics_of_the_batch_are_refused_although_one_row_has_none(tmp_path):
    with pytest.raises(InputError, match=r"extracts 8 rows together and not one alone \(Expected more than 1 value"):
        get(tmp_path, Changed(statistics))


def test_a_transform_that_draws_is_refused(tmp_path):
    class Crops(ToyBackbone):
        def transform(self, row):
            return super().transform(row).roll(int(torch.randint(1, 12, ())))

    with pytest.raises(InputError, match=AGAIN):
        get(tmp_path, Crops())


def test_every_kind_is_looked_at(tmp_path):
    with pytest.raises(InputError, match="map features of backbone toy differ between two"):
        get(tmp_path, Changed(lambda x, _: shuffled(x, _) if x.ndim == 4 else x), ["pooled", "map"])


def test_nothing_is_left_of_a_refused_extraction(tmp_path):
    with pytest.raises(InputError):
        get(tmp_path / "cache", Changed(DRAWS["noise"]))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("kinds", "precision", "share", "refused"),
    [
        (["pooled"], "float32", 1e-5, False),
        (["pooled"], "float32", 3e-3, True),
        (["pooled"], "bfloat16", 3e-3, False),
        (["tokens"], "float32", 3e-3, False),
        (["pooled"], "bfloat16", 0.1, True),
        (["tokens"], "float32", 0.1, True),
    ],
)
def test_rounding_is_allowed_by_the_precision_and_no_more(tmp_path, kinds, precision, share, refused):
    def rounded(x, backbone):
        return x * (1 + share * (backbone.n_calls % 2))

    if refused:
        with pytest.raises(InputError, match="differ between two extractions"):
            get(tmp_path, Changed(rounded, precision), kinds)
    else:
        get(tmp_path, Changed(rounded, precision), kinds)


def test_rows_that_cannot_be_decoded_are_left_out(tmp_path):
    dataset = toy_dataset(20, broken=(0, 5))
    assert np.flatnonzero(~get(tmp_path, ToyBackbone(), dataset=dataset, on_error="skip").valid).tolist() == [0, 5]
    with pytest.raises(InputError, match=AGAIN):
        get(tmp_path / "2", Changed(DRAWS["noise"]), dataset=dataset, on_error="skip")
    with pytest.raises(InputError, match=r"row 0 .* cannot be decoded"):
        get(tmp_path / "3", ToyBackbone(), dataset=dataset)


def test_it_costs_three_times_eight_rows_once_per_entry(tmp_path):
    backbone = ToyBackbone()
    get(tmp_path, backbone, ["pooled", "tokens"], toy_dataset(100))
    assert backbone.rows_extracted == 100 + 3 * 8
    get(tmp_path, backbone, ["pooled", "tokens"], toy_dataset(100))
    assert backbone.rows_extracted == 100 + 3 * 8


def test_an_interrupted_extraction_that_goes_on_is_not_checked_again(tmp_path):
    with pytest.raises(InputError, match="row 50"):
        get(tmp_path, ToyBackbone(), dataset=toy_dataset(100, broken=(50,)))
    backbone = ToyBackbone()
    get(tmp_path, backbone, dataset=toy_dataset(100, broken=(50,)), on_error="skip")
    assert backbone.rows_extracted == 100 - 48


def test_batches_of_the_size_asked_for_are_not_exceeded(tmp_path):
    sizes = []

    class Small(ToyBackbone):
        def extract(self, batch, kinds):
            sizes.append(len(batch))
            return super().extract(batch, kinds)

    get(tmp_path, Small(), batch_size=2)
    assert max(sizes) == 2
