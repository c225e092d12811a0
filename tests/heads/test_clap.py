import numpy as np
import pytest
import torch
from few_shots import case, excess_error, few_shots
from oracles import files_of
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from probe.core.errors import InputError
from probe.heads.clap import CLAP, cosine_logits, multipliers_of, penalty
from probe.heads.zero_shot import ZeroShot


def contract_case():
    return case()


@pytest.mark.parametrize("path", files_of("clap"), ids=lambda path: path and path.stem)
def test_multipliers_objective_and_gradient_equal_the_released_ones(path):
    data = {name: v.double() if v.is_floating_point() else v for name, v in load_file(path).items()}
    F, texts, labels = data["input.train_features_raw"], data["input.text_embeddings_raw"], data["input.train_labels"]
    F, scale = F / F.norm(dim=1, keepdim=True), float(data["hyper.logit_scale_exp"])
    first = cosine_logits(F, texts, scale)
    torch.testing.assert_close(first, data["output.zs_lp.initial_logits_train"], atol=1e-5, rtol=0)
    multipliers = multipliers_of(first, labels)
    torch.testing.assert_close(multipliers, data["output.l2.multipliers"], atol=1e-6, rtol=0)
    given = data["given.prototypes"].clone().requires_grad_()
    logits = cosine_logits(F, given, scale)
    torch.testing.assert_close(logits, data["output.l2.logits_at_given"], atol=1e-5, rtol=0)
    loss, held = cross_entropy(logits, labels), penalty(given, texts, multipliers)
    torch.testing.assert_close(loss, data["output.l2.ce_at_given"], atol=1e-5, rtol=0)
    torch.testing.assert_close(held, data["output.l2.penalty_at_given"], atol=1e-5, rtol=0)
    (loss + held).backward()
    torch.testing.assert_close(given.grad, data["grad.l2.prototypes"], atol=1e-5, rtol=1e-5)
    head = CLAP(class_features=texts.numpy(), temperature=1 / scale).fit(F.numpy(), labels.numpy())
    np.testing.assert_allclose(head.multipliers_, data["output.l2.multipliers"], atol=1e-6)
    assert head.loss_ <= cross_entropy(first, labels)


def test_it_begins_at_zero_shot_and_ends_above_it():
    texts, (X, y), _, (X_test, y_test) = few_shots()
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    begin = CLAP(class_features=texts, max_iter=1).fit(X, y)
    zero_shot = ZeroShot(class_features=texts).fit(X, y)
    head = CLAP(class_features=texts).fit(X, y)
    assert head.loss_ < begin.loss_
    assert head.score(X_test, y_test) > zero_shot.score(X_test, y_test) + 0.03


def test_validation_rows_take_no_part():
    texts, (X, y), validation, _ = few_shots()
    plain, other = CLAP(class_features=texts).fit(X, y), CLAP(class_features=texts).fit(X, y, validation=validation)
    np.testing.assert_array_equal(plain.prototypes_, other.prototypes_)
    assert not hasattr(other, "selection_")


def test_what_the_text_does_well_moves_less():
    texts, (X, y), _, _ = few_shots(n_classes=2, noise=0.2)
    head = CLAP(class_features=texts).fit(X, y)
    assert ((head.multipliers_ > 0) & (head.multipliers_ <= 1)).all()


def test_what_is_no_number_of_steps_and_texts_that_are_not_there_are_refused():
    texts, (X, y), _, _ = few_shots()
    with pytest.raises(InputError, match="clap has no class_features"):
        CLAP().fit(X, y)
    with pytest.raises(InputError, match="max_iter is 0, expected at least 1"):
        CLAP(class_features=texts, max_iter=0).fit(X, y)


def test_is_near_the_bayes_error_of_gaussians_whose_means_the_texts_say():
    in_standard_errors, in_points = excess_error(lambda texts: CLAP(class_features=texts))
    assert in_standard_errors > -4
    assert in_points < 2.5
