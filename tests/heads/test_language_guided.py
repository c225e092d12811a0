import numpy as np
import pytest
from few_shots import case, excess_error, few_shots
from oracles import files_of
from safetensors.numpy import load_file

from probe.core.errors import InputError
from probe.heads.language_guided import LanguageGuided


def contract_case():
    return case() | {"alphas": [0.1]}


@pytest.mark.parametrize("path", files_of("language_guided"), ids=lambda path: path and path.stem)
def test_targets_map_and_logits_equal_the_released_definition(path):
    data = load_file(path)
    X, y, texts = data["input.features"], data["input.labels"], data["input.text_targets_raw"]
    # Texts of another width than the rows: the map is there to change it.
    head = LanguageGuided(class_features=texts, temperature=1.0, alphas=[float(data["hyper.ridge_lambda"])])
    head.fit(X, y)
    np.testing.assert_allclose(head.targets_, data["output.targets"][head.classes_], atol=1e-10)
    np.testing.assert_allclose(head.map_, data["output.ridge.A"], atol=1e-9)
    scale = data["output.ridge.cosine_logits"] / head.logits(X)
    np.testing.assert_allclose(scale, scale[0, 0], rtol=1e-8)
    centred = LanguageGuided(class_features=texts, centre=True).fit(X, y)
    np.testing.assert_allclose(centred.targets_, data["output.targets_centred"][head.classes_], atol=1e-10)


def test_streaming_equals_fitting_at_once_and_forgets_nothing():
    texts, (X, y), _, (X_test, _) = few_shots(shots=20)
    at_once = LanguageGuided(class_features=texts).fit(X, y)
    streamed = LanguageGuided(class_features=texts)
    for k in range(5):
        streamed.partial_fit(X[y == k], y[y == k], classes=np.arange(5))
        assert set(streamed.predict(X_test)) <= set(range(k + 1))
    np.testing.assert_allclose(streamed.map_, at_once.map_, atol=1e-8)
    assert streamed.alpha_ == at_once.alpha_
    assert streamed.selection_["on"] == "generalised cross-validation"


def test_a_class_without_rows_is_found_by_its_text_where_that_is_asked_for():
    """Rows are a linear function of texts and noise, which is what the map learns from the other classes."""
    rng = np.random.default_rng(0)
    texts, turn = rng.standard_normal((30, 8)), rng.standard_normal((8, 16))
    y = np.repeat(np.arange(30), 20)
    X = texts[y] @ turn + 0.3 * rng.standard_normal((600, 16))
    head = LanguageGuided(class_features=texts, predict_unseen=True)
    head.partial_fit(X[y < 25], y[y < 25], classes=np.arange(30))
    assert head.score(X[y >= 25], y[y >= 25]) > 0.6
    mixed = LanguageGuided(class_features=texts[rng.permutation(30)], predict_unseen=True)
    mixed.partial_fit(X[y < 25], y[y < 25], classes=np.arange(30))
    assert mixed.score(X[y >= 25], y[y >= 25]) < 0.3
    assert (
        LanguageGuided(class_features=texts).partial_fit(X[y < 25], y[y < 25], classes=np.arange(30)).score(X, y) < 0.9
    )


def test_rotating_the_texts_moves_no_logit():
    texts, (X, y), _, (X_test, _) = few_shots()
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((16, 16)))
    plain, turned = (
        LanguageGuided(class_features=t, alphas=[1.0]).fit(X, y).logits(X_test) for t in (texts, texts @ Q)
    )
    np.testing.assert_allclose(turned, plain, atol=1e-7)


def test_the_penalty_is_that_of_the_validation_rows_which_are_then_fitted_too():
    texts, (X, y), (X_val, y_val), (X_test, y_test) = few_shots()
    head = LanguageGuided(class_features=texts, alphas=7).fit(X, y, validation=(X_val, y_val))
    scores = {c["alpha"]: c["score"] for c in head.selection_["searched"]}
    assert scores[head.alpha_] == max(scores.values())
    both = LanguageGuided(class_features=texts, alphas=[head.alpha_]).fit(np.vstack([X, X_val]), np.hstack([y, y_val]))
    np.testing.assert_allclose(head.map_, both.map_, atol=1e-8)
    assert head.score(X_test, y_test) > 0.6


def test_attributes_stand_for_texts_of_the_same_numbers(tmp_path):
    texts, (X, y), _, (X_test, _) = few_shots()
    file = tmp_path / "classes.csv"
    lines = [f"class {k}," + ",".join(map(repr, row)) for k, row in enumerate(texts.tolist())]
    file.write_text("\n".join(["name," + ",".join("abcdefghijklmnop"), *lines]))
    expected = LanguageGuided(class_features=texts).fit(X, y).logits(X_test)
    for given in (texts, str(file)):
        head = LanguageGuided(attributes=given)
        assert not head.reads_texts
        np.testing.assert_allclose(head.fit(X, y).logits(X_test), expected)
    assert LanguageGuided(attributes=str(file)).named_files() == [str(file)]
    assert LanguageGuided().reads_texts


def test_a_class_without_attributes_is_named():
    texts, (X, y), _, _ = few_shots()
    with pytest.raises(InputError, match="1 classes have no whole description, the first is class 4 of 5"):
        LanguageGuided(attributes=texts[:4]).fit(X, y)


def test_texts_that_are_not_there_are_refused():
    _, (X, y), _, _ = few_shots()
    with pytest.raises(InputError, match="language_guided has no class_features"):
        LanguageGuided().fit(X, y)


def test_is_near_the_bayes_error_of_gaussians_whose_means_the_texts_say():
    in_standard_errors, in_points = excess_error(lambda texts: LanguageGuided(class_features=texts))
    assert in_standard_errors > -4
    assert in_points < 2.5
