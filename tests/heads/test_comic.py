import numpy as np
import pytest
import torch
from oracles import files_of
from safetensors.numpy import load_file
from torch.nn.functional import binary_cross_entropy_with_logits

from probe.core.errors import InputError
from probe.heads.comic import Comic, MultiFocal
from probe.heads.shared.head import Head
from probe.heads.shared.multi_focal import head_tail_balance, modifiers, multi_focal, recalled

FILES = pytest.mark.parametrize("path", files_of("comic"), ids=lambda path: getattr(path, "stem", "none"))
QUICK = {"learning_rates": [0.03], "weight_decays": [0.0], "epochs": 15}


def tensor(array):
    return torch.from_numpy(array.astype(np.float64)).requires_grad_()


def draw(n=300, seed=0, hidden=0.0):
    """Rows with a frequent, a common and a rare label, of which a share is unknown; and the labels themselves."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    truth = (X[:, :3] + 0.3 * rng.normal(size=(n, 3)) > [-0.3, 0.5, 1.5]).astype(np.int64)
    unknown = rng.random((n, 3)) < hidden
    unknown[:, 0] &= ~unknown[:, 1:].all(axis=1)
    return X, np.where(unknown, -1, truth), truth


@FILES
def test_losses_and_their_gradients_are_the_released_ones(path):
    data = load_file(path)
    targets, counts = torch.from_numpy(data["input.labels"] == 1), torch.from_numpy(data["input.class_counts"]).double()
    omega = modifiers(counts, 1 / 6)
    np.testing.assert_allclose(omega, data["output.weight_power_1_6"], rtol=1e-6)
    for name, focal in {
        "mfm_g4_0": (0, 4, 0.05, omega),
        "mfm_g3_0": (0, 3, 0.05, omega),
        "mfm_g2_1_noclip": (1, 2, 0.0, omega),
        "asl_g4_0": (0, 4, 0.05, None),
        "asl_default_g4_1": (1, 4, 0.05, None),
        "asl_focal_2_2": (2, 2, 0.0, None),
        "asl_plain_bce": (0, 0, 0.0, None),
    }.items():
        logits = tensor(data["input.logits"])
        loss = multi_focal(logits, targets, *focal).sum()
        loss.backward()
        np.testing.assert_allclose(loss.item(), data[f"output.{name}"], rtol=2e-6, err_msg=name)
        np.testing.assert_allclose(logits.grad, data[f"grad.{name}.logits"], rtol=1e-4, atol=2e-6, err_msg=name)


@FILES
def test_unknown_labels_as_negatives_are_what_the_release_makes_of_them(path):
    data = load_file(path)
    targets = torch.from_numpy((data["input.labels"] == 1) & (data["input.observed_mask"] == 1))
    omega = modifiers(torch.from_numpy(data["input.class_counts"]).double(), 1 / 6)
    loss = multi_focal(tensor(data["input.logits"]), targets, 0, 4, 0.05, omega).sum().item()
    assert loss == pytest.approx(float(data["output.mfm_g4_0_missing_as_negative"]), rel=1e-6)


@FILES
def test_the_balance_of_head_and_tail_is_the_released_one(path):
    data = load_file(path)
    targets, counts = torch.from_numpy(data["input.labels"] == 1), torch.from_numpy(data["input.class_counts"]).double()
    three = {name: tensor(data[f"input.{name}_logits"]) for name in ("balance", "head", "tail")}
    focal = {"gamma_positive": 0, "gamma_negative": 3, "clip": 0.05, "omega": modifiers(counts, 1 / 6)}
    loss = head_tail_balance(*three.values(), targets, torch.ones_like(targets), **focal)
    loss.backward()
    assert loss.item() == pytest.approx(float(data["output.head_tail_mfm"]), rel=1e-6)
    for name, logits in three.items():
        expected = data[f"grad.head_tail_mfm.{name}_logits"]
        np.testing.assert_allclose(logits.grad, expected, atol=2e-4 * np.abs(expected).max(), err_msg=name)


@FILES
def test_recalled_labels_and_their_counts_are_the_released_ones(path):
    data = load_file(path)
    labels = data["input.rlc_labels"]
    more = recalled(tensor(data["input.logits"]), torch.from_numpy(labels == 0), 0.7).numpy()
    np.testing.assert_array_equal(labels + more, data["output.rlc.corrected_labels"])
    counts = torch.from_numpy(data["input.class_counts"] + more.sum(axis=0))
    np.testing.assert_array_equal(counts, data["output.rlc.counts_after_first_call"])
    np.testing.assert_allclose(modifiers(counts.double(), 1 / 6), data["output.rlc.weight_after_first_call"], rtol=1e-6)


def test_with_all_labels_known_and_gamma_0_it_is_bce():
    X, y, _ = draw(60)
    head = Comic(gamma_negative=0, gamma_class=0, clip=0, balance=False)
    logits, codes = torch.randn(2, 60, 3, 3, dtype=torch.float64), torch.from_numpy(y)
    objective = MultiFocal(head, (y == 1).sum(axis=0))
    objective.begin(5)
    expected = (
        binary_cross_entropy_with_logits(logits[:, :, 0], codes.double().expand(2, -1, -1), reduction="none")
        .sum((1, 2))
        .sum()
        / 60
    )
    assert objective.loss(logits, {"codes": codes}).item() == pytest.approx(expected.item(), rel=1e-12)
    fitted = head.set_params(learning_rates=[0.1], weight_decays=[0.0], epochs=60, batch_size=60).fit(X, y)
    frequent = 1 / (1 + np.exp(-fitted.logits(X)))
    np.testing.assert_allclose(frequent.mean(axis=0), y.mean(axis=0), atol=0.02)  # the stationary point of BCE


def test_equal_counts_have_equal_modifiers_and_rare_labels_larger_ones():
    assert modifiers(torch.tensor([7.0, 7.0]), 1 / 3).tolist() == [1, 1]
    found = modifiers(torch.tensor([100.0, 10.0, 1.0, 0.0]), 1 / 3)
    assert (found.diff()[:2] > 0).all()
    assert found[2] == found[3]


def test_easy_negatives_have_no_loss_and_no_gradient():
    logits = torch.tensor([[-3.0, -4.0]], requires_grad=True)
    multi_focal(logits, torch.zeros(1, 2, dtype=torch.bool), 0, 4, 0.05).sum().backward()
    assert not logits.grad.any()


def test_correction_turns_no_known_label_and_none_at_1():
    logits, unknown = torch.randn(50, 4), torch.rand(50, 4) < 0.5
    assert not (recalled(logits, unknown, 0.7) & ~unknown).any()
    assert not recalled(logits, unknown, 1.0).any()


def test_poisoned_unknown_labels_move_nothing():
    X, y, truth = draw(hidden=0.4)
    other = np.where(y == -1, -1, truth)
    found = [Comic(**QUICK).fit(X, targets).logits(X[:20]) for targets in (y, other)]
    np.testing.assert_array_equal(*found)
    # Nor does a label of which nothing is known move those beside it.
    alone = [Comic(balance=False, gamma_class=0, **QUICK).fit(X, t).logits(X[:20]) for t in (y[:, [0, 1]], y)]
    np.testing.assert_allclose(alone[0], alone[1][:, :2], atol=1e-5)


def test_most_recalled_labels_are_there():
    X, y, truth = draw(600, hidden=0.5)
    head = Comic(**QUICK).fit(X, y)
    more = recalled(torch.from_numpy(head.logits(X)), torch.from_numpy(y == -1), 0.7).numpy()
    assert more.sum() > 50
    assert truth[more].mean() > 0.8
    assert truth[more].sum() > 0.4 * truth[y == -1].sum()


def test_a_saved_head_says_the_same_and_leaves_its_helpers_behind(tmp_path):
    X, y, _ = draw(80, hidden=0.2)
    head = Comic(**QUICK).fit(X, y, validation=(X[:30], y[:30]))
    assert head.weights_ == ["balance_weight_", "balance_bias_", "mean_", "deviation_"]
    head.save(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(Head.load(tmp_path / "head.safetensors").logits(X), head.logits(X))
    assert set(np.unique(head.predict(X))) <= {0, 1}


def test_wrong_parameters_are_refused_together():
    with pytest.raises(InputError, match=r"gamma_class is -1.*clip is 1.*correction is 0.*unknown is 'x', expected ig"):
        Comic(gamma_class=-1, clip=1, correction=0, unknown="x").fit(*draw(20)[:2])
