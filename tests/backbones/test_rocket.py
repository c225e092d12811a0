import numpy as np
import pytest
import torch

import probe
from probe.backbones.rocket import RocketBackbone
from probe.core.errors import InputError
from probe.heads.ridge import RidgeProbe
from probe.results.reader import read_result


def series(*lengths, n_channels=3, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(length, n_channels)).cumsum(axis=0) for length in lengths]


def features(backbone, rows):
    return backbone.extract(backbone.collate([backbone.transform(row) for row in rows]), ["pooled"])["pooled"]


@pytest.fixture(scope="module")
def rocket():
    return RocketBackbone(n_kernels=200)


def by_hand(backbone, x):
    """Share above 0 and largest output of each kernel, term by term, from what was drawn."""
    drawn, weights = backbone._drawn, backbone._weights_of(x.shape[1]).double().numpy()
    dilations, found = backbone._dilations(backbone.length or len(x)), []
    for k, length in enumerate(drawn.lengths):
        reach = (length - 1) * dilations[k]
        padded = np.pad(x, ((reach // 2,) * 2, (0, 0))) if drawn.pads[k] else x
        outputs = [
            drawn.biases[k] + sum(weights[k, :, j] @ padded[t + j * dilations[k]] for j in range(length))
            for t in range(len(padded) - reach)
        ]
        found.append((np.mean(np.array(outputs) > 0), max(outputs)))
    return np.array(found).T.ravel()


@pytest.mark.parametrize("length", [None, 20])
def test_features_are_those_of_the_definition(length):
    backbone = RocketBackbone(n_kernels=40, length=length)
    (x,) = series(33)
    np.testing.assert_allclose(features(backbone, [x])[0].numpy(), by_hand(backbone, x), rtol=1e-4, atol=1e-5)


def test_kernels_are_drawn_as_the_paper_draws_them():
    backbone = RocketBackbone(n_kernels=4000)
    drawn, weights, dilations = backbone._drawn, backbone._weights_of(4).numpy(), backbone._dilations(150)
    assert np.abs(weights.sum(axis=2)).max() < 1e-5
    assert [round(float((drawn.lengths == n).mean()), 1) for n in (7, 9, 11)] == [0.3, 0.3, 0.3]
    assert abs(drawn.pads.mean() - 0.5) < 0.03
    assert abs(drawn.biases.mean()) < 0.05
    assert np.abs(drawn.biases).max() <= 1
    assert dilations.min() == 1
    assert ((drawn.lengths - 1) * dilations + 1).max() <= 150
    logs = np.log2((150 - 1) / (drawn.lengths - 1)) * drawn.exponents  # uniform up to the most that fits
    assert abs((logs / np.log2((150 - 1) / (drawn.lengths - 1))).mean() - 0.5) < 0.02
    n_read = (np.abs(weights).sum(axis=2) > 0).sum(axis=1)
    assert set(n_read) == {1, 2, 3, 4}
    assert abs((n_read == 1).mean() - np.log(2) / np.log(5)) < 0.03
    within = [w[np.abs(w).sum(axis=1) > 0, :n] for w, n in zip(weights, drawn.lengths, strict=True)]
    assert abs(np.mean([(w**2).mean() * n / (n - 1) for w, n in zip(within, drawn.lengths, strict=True)]) - 1) < 0.03


def test_kernels_keep_their_numbers():
    weights = RocketBackbone(n_kernels=3)._weights_of(2)[:, :, 0].flatten().tolist()
    np.testing.assert_allclose(weights, [0.8162252, 0.0, 0.0, -0.1173308, -1.1077738, 0.0], atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(rocket):
    rows = series(30, 30)
    assert torch.equal(features(rocket, rows), features(RocketBackbone(n_kernels=200), rows))
    assert not torch.equal(features(rocket, rows), features(RocketBackbone(n_kernels=200, seed=1), rows))


def test_pad_length_and_pad_value_change_nothing(rocket):
    rows = series(30, 17, 54)
    batch = rocket.collate([rocket.transform(row) for row in rows])
    found = rocket.extract(batch, ["pooled"])["pooled"]
    poisoned = torch.where(batch["mask"][..., None], batch["series"], torch.tensor(1e6))
    longer = {
        "series": torch.nn.functional.pad(poisoned, (0, 0, 0, 40), value=-1e6),
        "mask": torch.nn.functional.pad(batch["mask"], (0, 40)),
    }
    assert torch.equal(rocket.extract(longer, ["pooled"])["pooled"], found)
    for i, row in enumerate(rows):
        torch.testing.assert_close(features(rocket, [row])[0], found[i], rtol=1e-5, atol=1e-5)


def test_shares_are_shares_and_a_constant_tells_its_level_at_the_padding_alone(rocket):
    (x,) = series(40)
    shares = features(rocket, [x])[0, :200]
    assert 0 <= shares.min() < shares.max() <= 1
    level, other = (features(rocket, [np.full((40, 3), value)])[0].reshape(2, 200) for value in (1.0, 5.0))
    inner = ~rocket._drawn.pads
    np.testing.assert_allclose(level[:, inner], other[:, inner], atol=1e-4)
    assert (level - other).abs().max() > 1


def test_instance_normalisation_takes_level_and_scale_away():
    backbone = RocketBackbone(n_kernels=50, normalize="instance")
    (x,) = series(40)
    moved = x * np.array([3.0, 2.0, 9.0]) + np.array([5.0, -2.0, 0.0])
    torch.testing.assert_close(features(backbone, [x]), features(backbone, [moved]), rtol=1e-3, atol=2e-2)
    assert backbone.identity() != RocketBackbone(n_kernels=50).identity()


def test_many_outputs_go_in_parts_to_the_same_numbers(rocket, monkeypatch):
    rows = series(*[25] * 5)
    found = features(rocket, rows)
    monkeypatch.setattr("probe.backbones.rocket.OUTPUTS_AT_ONCE", 1)
    torch.testing.assert_close(features(rocket, rows), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "n_steps", "text"),
    [
        (
            {},
            10,
            r"a series has 10 steps, the widest kernel .* spans 11: set shorter backbone.lengths, such as \[3,5,7,9\]",
        ),
        ({}, 2, r"a series has 2 steps, the widest kernel .* spans 11: leave such series out"),
        ({"length": 100}, 20, r"a series has 20 steps, .*: set backbone.length=20, the steps of the shortest series"),
    ],
)
def test_a_series_shorter_than_a_kernel_is_refused_with_the_way_out(parameters, n_steps, text):
    with pytest.raises(InputError, match=text):
        RocketBackbone(n_kernels=100, **parameters).transform(np.ones((n_steps, 1)))


def test_parameters_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match=r"n_kernels is 0 and lengths \[7, 9, 11\], expected 1 kernel or more"):
        RocketBackbone(0)
    with pytest.raises(InputError, match=r"lengths \[4\], expected .* odd lengths from 3"):
        RocketBackbone(lengths=[4])
    with pytest.raises(InputError, match=r"length is 9, expected at least 11"):
        RocketBackbone(length=9)
    with pytest.raises(InputError, match=r"normalize is 'batch', expected one of none, instance"):
        RocketBackbone(normalize="batch")
    with pytest.raises(InputError, match=r"series have 1, 2 channels, backbone rocket needs as many in every row"):
        RocketBackbone().collate([torch.ones(20, 1), torch.ones(20, 2)])


def npz(path, test_offset=0.0):
    """Waves of two frequencies, of lengths that differ."""
    random = np.random.default_rng(0)
    labels, times = np.arange(40) % 2, np.arange(30)
    X = np.sin(times * np.where(labels, 0.5, 0.9)[:, None] + random.uniform(0, 6, (40, 1)))
    X[::3, 22:] = np.nan
    np.savez(
        path, train_series=X[:20], train_labels=labels[:20], test_series=X[20:] + test_offset, test_labels=labels[20:]
    )
    return "npz", {"path": str(path), "name": "waves"}


def test_a_run_on_series_knows_them_and_poisoned_test_rows_change_no_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    given = {"backbone": ("rocket", {"n_kernels": 100}), "head": "ridge", "quiet": True, "runs": str(tmp_path / "runs")}
    given["protocol"] = ("full", {"validation_fraction": 0})  # which rows validate hangs on the name of the whole set
    plain = probe.run(dataset=npz(tmp_path / "a.npz"), **given)
    poisoned = probe.run(dataset=npz(tmp_path / "b.npz", test_offset=1e6), **given)
    assert read_result(plain.folder)["metrics"]["top1"]["value"] == 1
    heads = [RidgeProbe.load(run.folder / "head.safetensors") for run in (plain, poisoned)]
    assert np.array_equal(heads[0].coef_, heads[1].coef_)
