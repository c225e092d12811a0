import inspect
import pickle

import numpy as np
import pytest
import torch
import yaml
from known_bayes import correlated_tokens
from moment_rows import equal_means, random_batch, small, tensors
from places import ROOT
from sklearn.base import clone
from torch.nn import functional

from probe.core.errors import InputError
from probe.heads import moment_probing
from probe.heads.linear import LinearProbe
from probe.heads.moment_probing import MomentProbing
from probe.heads.shared.head import Head
from probe.heads.shared.moment_module import MomentProbingModule

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def fitted():
    X = random_batch(60)
    y = np.random.default_rng(1).integers(0, 3, 60)
    return small().fit(X, y), X, y


def test_rows_of_one_length_with_a_mask_are_fitted_as_without(fitted):
    head, X, y = fitted
    mask = np.ones(X["tokens"].shape[:2], dtype=bool)
    again = clone(head).fit({**X, "mask": mask}, y)
    np.testing.assert_allclose(again.logits({**X, "mask": mask}), head.logits(X), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="a mask was given for some of the training and validation rows"):
        clone(head).fit({**X, "mask": mask}, y, validation=(X, y))


def contract_case():
    return {"hidden_width": 14, "n_groups": 2, "epochs": (3,), "learning_rates": (1e-2,), "warmup_epochs": 1}


def number_case():
    return {"hidden_width": 14, "n_groups": 2, "epochs": (2,), "learning_rates": (1e-2,), "warmup_epochs": 1}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_equal_means_other_covariance_is_seen_by_moment_probing_alone(second_moment, device):
    train, y = equal_means(1500)
    test, y_test = equal_means(600, seed=1)
    linear = LinearProbe(Cs=[1.0]).fit(train["pooled"], y).score(test["pooled"], y_test)
    head = small(
        second_moment=second_moment, hidden_width=64, n_groups=4, epochs=(6,), learning_rates=(1e-2,), device=device
    )
    assert abs(linear - 0.5) < 0.07
    assert head.fit(train, y).score(test, y_test) >= 0.97


def test_accuracy_is_that_of_bayes_where_covariances_alone_differ():
    train, y, _ = correlated_tokens(8000)
    test, y_test, bayes = correlated_tokens(1000, seed=1)
    head = small(hidden_width=64, n_groups=4, epochs=(10,), learning_rates=(1e-2,)).fit(train, y)
    assert 0.97 < bayes < 0.99
    assert head.score(test, y_test) >= bayes - 3 * np.sqrt(bayes * (1 - bayes) / len(y_test))


def test_accuracy_misses_bayes_where_the_order_of_tokens_is_the_class():
    rng = np.random.default_rng(0)
    tokens, y = rng.standard_normal((600, 10, 8)).astype(np.float32), rng.integers(0, 2, 600)
    half = np.where(y == 1, 3, -3)[:, None, None]
    tokens[:, :5] += half
    tokens[:, 5:] -= half
    X = {"pooled": tokens.mean(axis=1), "tokens": tokens}
    train, test = ({kind: value[rows] for kind, value in X.items()} for rows in (slice(400), slice(400, None)))
    bayes = np.mean((tokens[400:, :5].sum(axis=(1, 2)) > tokens[400:, 5:].sum(axis=(1, 2))) == y[400:])
    assert bayes == 1
    assert abs(small().fit(train, y[:400]).score(test, y[400:]) - 0.5) < 0.11


@pytest.mark.parametrize("layout", ["vit", "cnn"])
def test_same_seed_same_bits_and_another_seed_others(fitted, layout):
    _, X, y = fitted
    first, again, other = (small(layout=layout, random_state=s).fit(X, y).logits(X) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_global_random_state_is_neither_read_nor_moved(fitted):
    head, X, y = fitted
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert np.array_equal(small().fit(X, y).logits(X), head.logits(X))
    assert torch.equal(torch.get_rng_state(), before)


def test_memmaps_of_half_precision_train_to_the_same_bits_as_arrays(tmp_path, fitted):
    _, X, y = fitted
    X = {kind: value.astype(np.float16) for kind, value in X.items()}
    for kind, value in X.items():
        np.save(tmp_path / f"{kind}.npy", value)
    mapped = {kind: np.load(tmp_path / f"{kind}.npy", mmap_mode="r") for kind in X}
    assert np.array_equal(small().fit(mapped, y).logits(mapped), small().fit(X, y).logits(X))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["vit", "cnn"])
def test_cuda_agrees_with_the_cpu(layout, fitted):
    _, X, y = fitted
    expected, found = (small(layout=layout, device=device).fit(X, y).logits(X) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))


def test_grid_is_searched_on_validation_and_recorded():
    (X, y), validation, test = equal_means(600), equal_means(200, seed=1), equal_means(300, seed=2)
    head = small(learning_rates=(1e-7, 1e-2), epochs=(1, 6)).fit(X, y, validation=validation)
    assert head.selection_["on"] == "validation"
    assert len(head.selection_["searched"]) == 4
    assert head.selection_["chosen"] == {"epochs": 6, "learning_rate": 1e-2}
    best = max(head.selection_["searched"], key=lambda tried: tried["score"])
    assert {k: best[k] for k in ("epochs", "learning_rate")} == head.selection_["chosen"]
    assert head.score(*test) > 0.9


def test_refit_equals_training_on_train_and_validation_with_the_winner():
    (X, y), (X_validation, y_validation) = equal_means(80), equal_means(40, seed=1)
    both = {kind: np.concatenate([X[kind], X_validation[kind]]) for kind in X}
    head = small(learning_rates=(1e-3, 1e-2)).fit(X, y, validation=(X_validation, y_validation))
    chosen = head.selection_["chosen"]["learning_rate"]
    alone = small(learning_rates=(chosen,)).fit(both, np.concatenate([y, y_validation]))
    assert np.array_equal(head.logits(X), alone.logits(X))
    kept = small(learning_rates=(1e-3, 1e-2), refit=False).fit(X, y, validation=(X_validation, y_validation))
    assert np.array_equal(kept.logits(X), small(learning_rates=(chosen,)).fit(X, y).logits(X))
    # And the losses told are those of the training that gave the weights.
    assert head.loss_per_epoch_ == alone.loss_per_epoch_ != kept.loss_per_epoch_


def test_the_loss_of_each_epoch_is_kept_and_falls():
    X, y = equal_means(200)
    losses = small(epochs=(5,), learning_rates=(1e-2,)).fit(X, y).loss_per_epoch_
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_without_validation_the_grid_is_searched_on_held_out_training_rows():
    X, y = equal_means(60)
    head = small(learning_rates=(1e-3, 1e-2)).fit(X, y)
    assert head.selection_["on"] == "a tenth of the training rows"
    one_each = {kind: value[:2] for kind, value in X.items()}
    head = small(learning_rates=(1e-3, 1e-2)).fit(one_each, [0, 1])
    assert head.selection_ == {
        "on": "nothing, for want of rows",
        "searched": [],
        "chosen": {"epochs": 4, "learning_rate": 1e-3},
    }


def trained_by_hand(X, y, *, weight_decay, label_smoothing, ema_decay):
    """Three epochs of three steps at 3e-3, the first of them warm-up: AdamW, cosine and average, written out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MomentProbingModule(12, 12, 3, hidden_width=32, n_groups=2)
    random, t = np.random.default_rng(0), 0
    first, second, average = ({n: torch.zeros_like(p) for n, p in module.named_parameters()} for _ in range(3))
    for name, p in module.named_parameters():
        average[name].copy_(p.detach())
    for _ in range(3):
        for rows in np.array_split(random.permutation(60), 3):
            batch = tensors({kind: value[np.sort(rows)] for kind, value in X.items()})
            targets = functional.one_hot(torch.from_numpy(y[np.sort(rows)]), 3) * (1 - label_smoothing)
            loss = -((targets + label_smoothing / 3) * module(batch).log_softmax(1)).sum(1).mean()
            gradients = torch.autograd.grad(loss, list(module.parameters()))
            rate = 3e-3 * ((t + 1) / 4 if t < 3 else 0.5 * (1 + np.cos(np.pi * (t - 3) / 6)))
            t += 1
            with torch.no_grad():
                for (name, p), g in zip(module.named_parameters(), gradients, strict=True):
                    first[name] = 0.9 * first[name] + 0.1 * g
                    second[name] = 0.999 * second[name] + 0.001 * g**2
                    p *= 1 - rate * weight_decay * (p.ndim > 1)
                    p -= rate * first[name] / (1 - 0.9**t) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                    decay = min(ema_decay, (1 + t) / (10 + t))
                    average[name] = decay * average[name] + (1 - decay) * p
    return average


def test_products_in_bfloat16_learn_and_predict_in_float32(fitted):
    head, X, y = fitted
    narrow = small(products="bfloat16").fit(X, y)
    assert not np.array_equal(narrow.projection_weight_, head.projection_weight_)
    np.testing.assert_allclose(narrow.loss_per_epoch_, head.loss_per_epoch_, rtol=0.02)
    logits = narrow.logits(X)
    assert np.array_equal(narrow.set_params(products="float32").logits(X), logits)


def test_products_whose_gradients_are_off_are_refused_and_float32_is_the_way_out(fitted, monkeypatch):
    _, X, y = fitted
    monkeypatch.setattr(moment_probing, "MOST_APART", 1e-6)
    said = r"products=bfloat16 gives gradients .* in step 1, .*: set head.products=float32"
    with pytest.raises(InputError, match=said):
        small(products="bfloat16").fit(X, y)
    small(products="float32").fit(X, y)


@pytest.mark.parametrize("ema_decay", [None, 0.3, 0.99])
@pytest.mark.parametrize(("weight_decay", "label_smoothing"), [(0.0, 0.0), (2.0, 0.0), (0.0, 0.3)])
def test_training_is_adamw_with_warm_up_cosine_smoothed_labels_and_average(
    fitted, weight_decay, label_smoothing, ema_decay
):
    _, X, y = fitted
    parameters = {"weight_decay": weight_decay, "label_smoothing": label_smoothing, "ema_decay": ema_decay}
    head = small(epochs=(3,), batch_size=20, **parameters).fit(X, y)
    expected = trained_by_hand(X, y, **parameters | {"ema_decay": ema_decay or 0.0})
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(head, name.replace(".", "_") + "_"), value, atol=1e-4, err_msg=name)


def test_defaults_are_those_of_the_released_code():
    head = MomentProbing()
    assert (head.second_moment, head.layout, head.hidden_width, head.n_groups) == ("as_released", "vit", 512, 4)
    assert (head.weight_decay, head.warmup_epochs, head.epochs) == (0.05, 5, (30,))
    assert isinstance(MomentProbingModule(8, 8, 2, hidden_width=32).reduction[1], torch.nn.GELU)


def test_saved_pickled_and_cloned_heads_predict_the_same(tmp_path, fitted):
    head, X, y = fitted
    head.save(tmp_path / "head.safetensors")
    for copy in (Head.load(tmp_path / "head.safetensors"), pickle.loads(pickle.dumps(head)), clone(head).fit(X, y)):
        assert np.array_equal(copy.logits(X), head.logits(X))
        assert np.array_equal(copy.predict(X), head.predict(X))


@pytest.mark.parametrize("second_moment", ["as_released", "centred"])
def test_constant_features_one_token_and_single_row_classes_stay_finite(second_moment):
    X = {"pooled": np.zeros((6, 4), np.float32), "tokens": np.zeros((6, 1, 4), np.float32)}
    head = small(second_moment=second_moment).fit(X, [0, 0, 0, 0, 1, 2])
    assert np.isfinite(head.predict_proba(X)).all()
    module = MomentProbingModule(4, 4, 3, hidden_width=32, second_moment=second_moment)
    torch.nn.init.zeros_(module.norm.weight)
    functional.cross_entropy(module(tensors(X)), torch.tensor([0, 0, 0, 0, 1, 2])).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() < 1e3 for p in module.parameters())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layout": "swin"}, r"layout is 'swin': choose one of \['vit', 'cnn'\]"),
        ({"second_moment": "raw"}, "second_moment is 'raw': choose one of"),
        ({"products": "float16"}, r"products is 'float16': choose one of \['float32', 'bfloat16'\]"),
        ({"n_groups": 3}, "3 groups do not divide a width of 32"),
        ({"n_groups": 8}, "8 groups of a width of 32 have 4 channels each .* need 7: raise hidden_width"),
        ({"n_prefix_tokens": 10}, "n_prefix_tokens is 10 and there are 10 tokens"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1.0, expected \[0, 1\)"),
        ({"epochs": (0,), "batch_size": 0}, r"epochs is \(0,\).*; batch_size is 0, expected a whole number from 1"),
        ({"learning_rates": ()}, r"learning_rates is \(\), expected positive numbers"),
        ({"learning_rates": (1e30,)}, "diverged at learning rate 1e\\+30: give smaller learning_rates"),
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters, message, fitted):
    _, X, y = fitted
    with pytest.raises(InputError, match=message):
        small(**parameters).fit(X, y)


def test_kinds_that_are_missing_or_of_another_width_are_refused(fitted):
    head, X, y = fitted
    with pytest.raises(InputError, match=r"MomentProbing consumes \['pooled', 'tokens'\], got \['pooled'\]"):
        small().fit({"pooled": X["pooled"]}, y)
    with pytest.raises(InputError, match=r"MomentProbing consumes \['pooled', 'tokens'\], got ndarray"):
        small().fit(X["pooled"], y)
    with pytest.raises(InputError, match=r"tokens has shape \(60, 12\): give 3 axes"):
        small().fit({**X, "tokens": X["pooled"]}, y)
    with pytest.raises(InputError, match="kinds of different lengths were given"):
        small().fit({**X, "pooled": X["pooled"][:5]}, y)
    bad = X["tokens"].copy()
    bad[7, 2, 1] = np.nan
    with pytest.raises(InputError, match="row 7 of tokens holds NaN or inf, expected finite features: leave that row"):
        small().fit({**X, "tokens": bad}, y)
    with pytest.raises(InputError, match="give features of the backbone that the head was fitted on"):
        head.predict(random_batch(width=13))


def test_yaml_lists_every_parameter_with_its_python_default():
    written = yaml.safe_load((ROOT / "conf" / "head" / "moment_probing.yaml").read_text())
    assert written.pop("_target_") == "probe.heads.moment_probing.MomentProbing"
    defaults = {name: p.default for name, p in inspect.signature(MomentProbing).parameters.items()}
    assert written == {name: list(v) if isinstance(v, tuple) else v for name, v in defaults.items()}
