import numpy as np
import pytest
import torch
from few_shots import case, excess_error, few_shots
from oracles import files_of
from safetensors.torch import load_file
from torch.nn.functional import one_hot

from probe.core.errors import InputError
from probe.heads.knn import KNearest
from probe.heads.tip_adapter import TipAdapter, train_keys
from probe.heads.zero_shot import ZeroShot


def contract_case():
    return case() | {"alphas": 3, "betas": 3}


def oracle(path):
    data = load_file(path)
    numbers = {
        name: value.double().numpy() if value.is_floating_point() else value.numpy() for name, value in data.items()
    }
    head = TipAdapter(class_features=numbers["input.text_weights"], temperature=0.01)
    return head, numbers


@pytest.mark.parametrize("path", files_of("tip_adapter"), ids=lambda path: path and path.stem)
def test_keys_logits_and_accuracies_equal_the_released_ones(path):
    head, data = oracle(path)
    views, labels = data["input.train_views"].mean(axis=0), data["input.train_labels"]
    beta, alpha = data["hyper.init_beta_alpha"]
    first = head.set_params(alphas=[alpha], betas=[beta]).fit(views, labels)
    np.testing.assert_allclose(first.keys_, data["output.cache_keys"], atol=1e-7)
    np.testing.assert_allclose(first.logits(data["input.val_features"]), data["output.val.tip_logits_init"], atol=1e-5)
    none = head.set_params(alphas=[0.0]).fit(views, labels)
    np.testing.assert_allclose(
        none.logits(data["input.test_features"]), data["output.test.zero_shot_logits"], atol=1e-5
    )
    beta, alpha = data["output.searched_beta_alpha"]
    found = head.set_params(alphas=[alpha], betas=[beta]).fit(views, labels)
    logits = found.logits(data["input.test_features"])
    np.testing.assert_allclose(logits, data["output.test.tip_logits_searched"], atol=1e-5)
    assert 100 * (logits.argmax(axis=1) == data["input.test_labels"]).mean() == pytest.approx(
        data["output.test.tip_acc_searched"]
    )


@pytest.mark.parametrize("path", files_of("tip_adapter"), ids=lambda path: path and path.stem)
def test_the_grid_has_the_released_accuracies_where_it_is_theirs(path):
    head, data = oracle(path)
    ends, steps = data["hyper.search_scale_step"][:2], data["hyper.search_scale_step"][2:].astype(int)
    betas, alphas = (0.1 + np.arange(n) * (end - 0.1) / n for end, n in zip(ends, steps, strict=True))
    head.set_params(alphas=alphas.tolist(), betas=betas.tolist())
    head.fit(data["input.train_views"].mean(axis=0), data["input.train_labels"],
             validation=(data["input.val_features"], data["input.val_labels"]))  # fmt: skip
    found = {(c["beta"], c["alpha"]): 100 * c["score"] for c in head.selection_["searched"]}
    expected = data["output.search_val_acc_grid_beta_by_alpha"]
    for b, beta in enumerate(betas):
        for a, alpha in enumerate(alphas):
            assert found[beta, alpha] == pytest.approx(expected[b, a])


@pytest.mark.parametrize("path", files_of("tip_adapter"), ids=lambda path: path and path.stem)
def test_trained_keys_and_losses_equal_the_released_ones(path):
    head, data = oracle(path)
    beta, alpha = data["hyper.init_beta_alpha"]
    head.set_params(alphas=[alpha], betas=[beta]).fit(
        data["input.train_views"].mean(axis=0), data["input.train_labels"]
    )
    view = torch.from_numpy(data["input.train_views"][0])
    view = view / view.norm(dim=1, keepdim=True)
    labels = torch.from_numpy(data["input.train_labels"])
    keys, losses = train_keys(
        torch.from_numpy(head.keys_), one_hot(labels).double(), view, view @ torch.from_numpy(head.coef_).T, labels,
        epochs=3, batch_size=256, learning_rate=0.001, seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(losses, data["output.tip_f.losses"], atol=1e-5)
    np.testing.assert_allclose(keys, data["output.tip_f.keys_after_3_epochs"], atol=1e-6)
    head.keys_ = keys
    logits = head.logits(data["input.test_features"])
    np.testing.assert_allclose(logits, data["output.tip_f.test_logits_after_epoch2"], atol=1e-4)


def test_alpha_zero_is_zero_shot_and_so_is_beta_zero_where_classes_are_equally_frequent():
    texts, (X, y), _, (X_test, _) = few_shots()
    expected = ZeroShot(class_features=texts).fit(X, y).logits(X_test)
    for alpha, beta in ((0.0, 5.0), (3.0, 0.0)):
        found = TipAdapter(class_features=texts, alphas=[alpha], betas=[beta]).fit(X, y).logits(X_test)
        np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-3)


def test_beta_to_infinity_is_the_nearest_key():
    texts, (X, y), _, (X_test, _) = few_shots()
    nearest = KNearest(ks=[1], metrics=["cosine"], vote="uniform").fit(X, y).predict(X_test)
    head = TipAdapter(class_features=texts, temperature=1e250, alphas=[1.0], betas=[300.0]).fit(X, y)
    np.testing.assert_array_equal(head.predict(X_test), nearest)


def test_a_key_as_query_adds_alpha_to_its_class():
    texts, (X, y), _, _ = few_shots(shots=1)
    without, with_it = (TipAdapter(class_features=texts, alphas=[a], betas=[500.0]).fit(X, y).logits(X) for a in (0, 2))
    np.testing.assert_allclose((with_it - without)[np.arange(len(y)), y], 2, atol=1e-6)


def test_rotating_rows_and_texts_moves_no_logit():
    texts, (X, y), _, (X_test, _) = few_shots()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((16, 16)))
    plain = TipAdapter(class_features=texts, alphas=[1.0], betas=[5.0]).fit(X, y).logits(X_test)
    turned = TipAdapter(class_features=texts @ Q, alphas=[1.0], betas=[5.0]).fit(X @ Q, y).logits(X_test @ Q)
    np.testing.assert_allclose(turned, plain, atol=1e-8)


@pytest.mark.parametrize("train", [False, True])
def test_is_above_zero_shot_and_chooses_on_validation_rows(train):
    texts, (X, y), validation, (X_test, y_test) = few_shots()
    head = TipAdapter(class_features=texts, alphas=21, betas=11, train=train).fit(X, y, validation=validation)
    assert head.score(X_test, y_test) > ZeroShot(class_features=texts).fit(X, y).score(X_test, y_test) + 0.05
    assert len(head.selection_["searched"]) == 21 * 11
    assert {c["alpha"] for c in head.selection_["searched"]} >= {0.0, 10.0}
    assert head.at({"alpha": 0.0, "beta": 5.0}).alpha_ == 0
    assert len(head.keys_) == len(y)
    if train:
        assert head.losses_[-1] < head.losses_[0]
        alone = TipAdapter(class_features=texts, train=True, epochs=2).fit(X, y)
        assert (alone.alpha_, alone.beta_) == (1.17, 1.0)


def test_without_validation_rows_each_row_is_judged_by_the_others():
    texts, (X, y), _, _ = few_shots()
    head = TipAdapter(class_features=texts, alphas=[1.0, 2.0], betas=[5.0]).fit(X, y)
    assert head.selection_["on"] == "leave-one-out"
    right = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        alone = TipAdapter(class_features=texts, alphas=[1.0], betas=[5.0]).fit(X[rest], y[rest])
        right.append(alone.predict(X[[i]])[0] == y[i])
    assert head.selection_["searched"][0]["score"] == pytest.approx(np.mean(right))


def test_settings_that_are_none_and_texts_that_are_not_there_are_refused():
    texts, (X, y), _, _ = few_shots()
    with pytest.raises(InputError, match="tip_adapter has no class_features: run it with a backbone that has a text"):
        TipAdapter().fit(X, y)
    with pytest.raises(InputError, match=r"alphas is \[-1\], expected a count or numbers from 0"):
        TipAdapter(class_features=texts, alphas=[-1]).fit(X, y)
    with pytest.raises(InputError, match="epochs is 0"):
        TipAdapter(class_features=texts, epochs=0).fit(X, y)


def test_is_near_the_bayes_error_of_gaussians_whose_means_the_texts_say():
    in_standard_errors, in_points = excess_error(lambda texts: TipAdapter(class_features=texts))
    assert in_standard_errors > -4
    assert in_points < 2.5
