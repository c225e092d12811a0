import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from probe.backbones.series_transformer import SeriesTransformer
from probe.core.errors import InputError

SMALL = {"length": 32, "channels": 4, "dim": 16, "heads": 2}


def series(*lengths, seed=0):
    random = np.random.default_rng(seed)
    return [3 * random.normal(size=(length, 4)).cumsum(axis=0) for length in lengths]


def features(backbone, rows, kind="pooled"):
    return backbone.extract(backbone.collate([backbone.transform(row) for row in rows]), [kind])[kind]


@pytest.fixture(params=["itransformer", "patchtst"], scope="module")
def backbone(request):
    return SeriesTransformer(request.param, **SMALL)


def contract_case():
    return {"length": 30, "channels": 2, "dim": 16, "heads": 2}


def test_permuting_variates_permutes_tokens_and_leaves_their_mean():
    backbone, (x,) = SeriesTransformer(**SMALL), series(32)
    order = [2, 0, 3, 1]
    tokens, permuted = (features(backbone, [v], "tokens")[0] for v in (x, x[:, order]))
    torch.testing.assert_close(tokens[order], permuted, rtol=0, atol=3e-6)
    torch.testing.assert_close(features(backbone, [x]), features(backbone, [x[:, order]]), rtol=0, atol=3e-6)


def test_a_variate_of_patchtst_depends_on_itself_alone():
    backbone, (x,) = SeriesTransformer("patchtst", pooling="variates", **SMALL), series(32)
    changed = x.copy()
    changed[:, 1] += np.arange(32) ** 2
    one, other = (features(backbone, [v])[0].reshape(4, 16) for v in (x, changed))
    torch.testing.assert_close(one[[0, 2, 3]], other[[0, 2, 3]], rtol=0, atol=1e-6)
    assert (one[1] - other[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("length", "patch", "stride", "n"), [(32, 8, 4, 7), (33, 8, 4, 7), (32, 32, 1, 1), (30, 7, 5, 5)]
)
def test_patches_are_as_many_as_fit(length, patch, stride, n):
    backbone = SeriesTransformer("patchtst", length=length, patch=patch, stride=stride, dim=8, heads=2)
    tokens, real = backbone.network(torch.zeros(1, length, 1), torch.ones(1, length, dtype=torch.bool))
    assert tokens.shape == (1, 1, n, 8)
    assert real.shape == (1, n)


def test_pad_length_and_pad_value_change_nothing(backbone):
    rows = series(32, 19, 10)
    batch = backbone.collate([backbone.transform(row) for row in rows])
    found = backbone.extract(batch, ["pooled"])["pooled"]
    longer = {
        "series": torch.nn.functional.pad(batch["series"], (0, 0, 0, 9)),
        "mask": torch.nn.functional.pad(batch["mask"], (0, 9)),
    }
    longer["series"][~longer["mask"]] = torch.nan
    torch.testing.assert_close(backbone.extract(longer, ["pooled"])["pooled"], found, rtol=0, atol=0)
    for i, row in enumerate(rows):
        torch.testing.assert_close(features(backbone, [row])[0], found[i], rtol=1e-4, atol=1e-5)


def test_level_and_scale_of_a_variate_are_lost_with_the_norm_of_the_paper_alone(backbone):
    (x,) = series(32)
    moved = x * np.array([3.0, 1.0, 2.0, 5.0]) + np.array([5.0, -1.0, 0.0, 2.0])
    torch.testing.assert_close(features(backbone, [x]), features(backbone, [moved]), rtol=0, atol=1e-4)
    kept = SeriesTransformer("itransformer", normalize="none", **SMALL)
    assert (features(kept, [x]) - features(kept, [moved])).abs().max() > 1e-2
    assert kept.identity() != SeriesTransformer(**SMALL).identity()


def test_seeds_and_checkpoints_name_the_features(tmp_path):
    one, other = SeriesTransformer(**SMALL), SeriesTransformer(seed=1, **SMALL)
    assert one.identity()["weights"] == SeriesTransformer(**SMALL).identity()["weights"] != other.identity()["weights"]
    save_file({f"encoder.{k}": v for k, v in other.network.state_dict().items()}, tmp_path / "a.safetensors")
    loaded = SeriesTransformer(checkpoint=str(tmp_path / "a.safetensors"), **SMALL)
    assert loaded.name == "itransformer:a"
    assert loaded.identity() == other.identity()
    assert not torch.equal(one.network.layers[0].linear1.weight, one.network.layers[1].linear1.weight)


def test_a_layer_is_tapped_by_its_name():
    backbone = SeriesTransformer(taps=["layers.0", "layers.1:tokens"], **SMALL)
    assert backbone.shapes == {"pooled": (16,), "tokens": (4, 16), "layers.0": (16,), "layers.1:tokens": (4, 16)}


def test_what_cannot_be_read_or_built_is_refused():
    backbone = SeriesTransformer(**SMALL)
    with pytest.raises(
        InputError, match=r"has 40 steps, backbone itransformer-random reads at most 32: set backbone.length=40"
    ):
        backbone.transform(np.ones((40, 4)))
    with pytest.raises(
        InputError, match=r"has 1 channels, backbone itransformer-random reads 4: set backbone.channels=1"
    ):
        backbone.transform(np.ones((20, 1)))
    with pytest.raises(InputError, match=r"depth is 0, .*; model is 'gru', expected one of itransformer, patchtst; dim "
                                         r"is 10 and heads 4, expected a multiple"):  # fmt: skip
        SeriesTransformer("gru", dim=10, depth=0)
    with pytest.raises(InputError, match=r"patch is 9, expected at most length, 8"):
        SeriesTransformer("patchtst", length=8, patch=9)
