"""The masked-word head as a classifier: the model's own probabilities, and what priors take out of them."""

import numpy as np
import pytest
import torch
from language_models import WORDS, network, tokenizer
from scipy.special import log_softmax, logsumexp

import probe
from probe.backbones.huggingface import load
from probe.core.errors import ProbeError
from probe.heads.label_words import LabelWords
from probe.heads.mask_zero_shot import MaskZeroShot

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEMPLATE = "{text} far [MASK]"


def contract_case():
    return {"class_features": np.eye(3, 4)}


@pytest.fixture
def drawn():
    """States, classes, three words of each with their biases, and a vocabulary that holds them."""
    rng = np.random.default_rng(0)
    vocabulary = rng.normal(size=(50, 9))
    words = vocabulary[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]
    return rng.normal(size=(20, 8)).astype(np.float32), np.arange(20) % 3, words, vocabulary


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def folder(request, tmp_path_factory):
    """A model with its masked-word head, and it in a folder."""
    import transformers as t

    kind = {"bert": t.BertForMaskedLM, "modernbert": t.ModernBertForMaskedLM}[request.param]
    torch.manual_seed(1)
    model, words = kind(network(request.param).config).eval(), tokenizer(types=request.param == "bert")
    path = tmp_path_factory.mktemp(request.param)
    words.mask_token = "[MASK]"
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path, model


def test_without_a_prior_it_is_the_words_alone(drawn):
    X, y, words, vocabulary = drawn
    given = {"class_features": words, "vocabulary": vocabulary}
    found = MaskZeroShot(**given).fit(X, y).logits(X)
    np.testing.assert_array_equal(found, LabelWords(**given).fit(X, y).logits(X))
    every = log_softmax(X @ vocabulary[:, :-1].T + vocabulary[:, -1], axis=1)
    np.testing.assert_allclose(found[:, 1], logsumexp(every[:, 4:7], axis=1), atol=1e-6)


def test_an_empty_text_has_even_scores_once_its_prior_is_out(drawn):
    X, y, words, vocabulary = drawn
    head = MaskZeroShot(calibrate="empty", class_features=words, vocabulary=vocabulary, blank_features=X[0]).fit(X, y)
    np.testing.assert_allclose(head.logits(X[:1]), 0, atol=1e-6)


def test_a_bias_of_words_moves_nothing_once_the_batch_is_taken_out(drawn):
    X, y, words, _ = drawn
    more = words + np.array([0.0, 3.0, -2.0])[:, None, None] * np.eye(9)[8]
    even = [MaskZeroShot(calibrate="batch", class_features=w[:, :1]).fit(X, y).prior_ for w in (words, more)]
    assert not np.allclose(*even)
    head = MaskZeroShot(calibrate="batch", class_features=words).fit(X, y)
    log_p = log_softmax(LabelWords(class_features=words).fit(X, y).logits(X), axis=1)
    np.testing.assert_allclose(head.prior_, np.log(np.exp(log_p).mean(0)))


def test_no_label_is_read(drawn):
    X, y, words, vocabulary = drawn
    given = {"class_features": words, "vocabulary": vocabulary, "calibrate": "batch"}
    first, second = (MaskZeroShot(**given).fit(X, labels).logits(X) for labels in (y, np.roll(y, 1)))
    np.testing.assert_array_equal(first, second)


def test_an_order_of_classes_permutes_columns(drawn):
    X, y, words, vocabulary = drawn
    plain = MaskZeroShot(class_features=words, vocabulary=vocabulary, calibrate="batch").fit(X, y).logits(X)
    turned = MaskZeroShot(class_features=words[[2, 0, 1]], vocabulary=vocabulary, calibrate="batch").fit(X, y).logits(X)
    np.testing.assert_allclose(turned, plain[:, [2, 0, 1]], atol=1e-12)


@pytest.mark.parametrize("calibrate", ["none", "empty"])
def test_a_run_says_what_the_model_says(folder, calibrate, tmp_path, monkeypatch):
    path, model = folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(12)]
    data = ((texts, np.arange(12) % 2), {"class_names": ["cat", "dog"]})
    given = {"name": str(path), "words": True, "pooling": "mask", "template": TEMPLATE}
    run = probe.run(("huggingface", given), data, ("mask_zero_shot", {"calibrate": calibrate}), "holdout", quiet=True)
    backbone = load(**given)

    def says(text):
        batch = {k: v for k, v in backbone.collate([backbone.transform(text)]).items() if k not in ("slot", "length")}
        place = int((batch["input_ids"][0] == backbone._tokenizer.mask_token_id).nonzero())
        with torch.no_grad():
            log_p = model(**batch).logits[0, place].double().log_softmax(0).numpy()
        return log_p[backbone._tokenizer.convert_tokens_to_ids(["cat", "dog"])]

    tested = [texts[int(i)] for i in run.predictions["row"]]
    expected = np.array([says(text) for text in tested]) - (says("") if calibrate == "empty" else 0)
    np.testing.assert_allclose(run.predictions["logits"], expected, atol=2e-6)


def test_what_is_read_elsewhere_than_at_the_mask_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ((["cat", "dog", "mat", "home"] * 2, np.arange(8) % 2), {"class_names": ["cat", "dog"]})
    for given, told in (
        ({"words": True}, r"mask_zero_shot reads the state at the mask.*set backbone\.pooling=mask"),
        ({}, r"has no output matrix: set backbone=huggingface backbone\.words=true"),
    ):
        with pytest.raises(ProbeError, match=told):
            probe.run(("huggingface", {"name": str(folder[0])} | given), data, "mask_zero_shot", "holdout", quiet=True)


def test_parameters_that_cannot_work_are_refused(drawn):
    X, y, words, _ = drawn
    for wrong, told in (
        ({"calibrate": "bias"}, "calibrate is 'bias', expected none, empty, batch"),
        ({"calibrate": "empty"}, "has no blank_features: run it, give"),
        ({"class_features": None}, r"MaskZeroShot has no class_features: run it with backbone\.words=true"),
    ):
        with pytest.raises(ProbeError, match=told):
            MaskZeroShot(**{"class_features": words} | wrong).fit(X, y)
