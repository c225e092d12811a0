"""Words of classes: the model's own probabilities from one cached state per row."""

import ast
import json

import numpy as np
import pytest
import torch
from language_models import DECODERS, WORDS, network, save, tokenizer
from oracles import files_of
from safetensors import safe_open
from scipy.special import log_softmax, logsumexp
from torch import nn

import probe
from probe.backbones.huggingface import load
from probe.backbones.shared.output_words import OutputWords
from probe.backbones.shared.text_network import TextNetwork
from probe.core.errors import ProbeError
from probe.heads.label_words import LabelWords
from probe.heads.shared.head import Head
from probe.heads.shared.word_head import log_total

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEXTS = ["the cat sat on a mat", "dog", "one two three red blue green"]


def contract_case():
    return {"class_features": np.eye(3, 4)}


def features_of(words, rows):
    """(K, M, D + 1) of ids (K, M)."""
    ids = torch.from_numpy(np.asarray(rows)).flatten()[:, None]
    return words.extract(ids, ["pooled"])["pooled"].reshape(*np.shape(rows), -1).numpy()


def matrix_of(words):
    """(V, D + 1) of all words."""
    return features_of(words, np.arange(words.n_words)[None])[0]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("path", files_of("label_words"), ids=lambda path: path and path.stem)
def test_class_scores_equal_the_released_ones(path, family):
    import transformers as t

    with safe_open(path, "pt") as file:
        data, told = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    made = {"bert": (t.BertForMaskedLM, t.BertConfig), "modernbert": (t.ModernBertForMaskedLM, t.ModernBertConfig)}
    config = json.loads(told[f"{family}_config"])
    if "rope" in config:
        config["rope_parameters"] = ast.literal_eval(config.pop("rope"))
    model = made[family][0](made[family][1](**config)).eval()
    prefix = f"param.{family}."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}, strict=False)
    words = OutputWords.taken_from(model, None, family)
    with torch.no_grad():
        read = model(input_ids=data["input.input_ids"], attention_mask=data["input.attention_mask"]).logits
    states = read[torch.arange(3), data["input.mask_position"]].numpy()
    asked = features_of(words, data["input.verbalizer_ids"])
    head = LabelWords(class_features=asked, vocabulary=matrix_of(words)).fit(states, np.arange(3))
    expected = data[f"output.{family}.class_probability_sum_over_full_vocabulary"].double().log()
    torch.testing.assert_close(torch.from_numpy(head.logits(states)), expected, atol=1e-5, rtol=0)
    without = LabelWords(class_features=asked).fit(states, np.arange(3)).logits(states)
    expected = data[f"output.{family}.class_log_scores"].double()
    torch.testing.assert_close(torch.from_numpy(without), expected, atol=1e-5, rtol=0)
    assert head.predict(states).tolist() == data[f"output.{family}.prediction"].tolist()


def saved(folder, family):
    """A folder of a model with its output matrix."""
    import transformers as t

    made = {"bert": t.BertForMaskedLM, "modernbert": t.ModernBertForMaskedLM, "gpt2": t.GPT2LMHeadModel,
            "llama": t.LlamaForCausalLM}[family]  # fmt: skip
    torch.manual_seed(1)
    model = made(network(family).config).eval()
    model.save_pretrained(folder)
    words = tokenizer(special=family not in DECODERS, types=family == "bert")
    words.mask_token = "[MASK]"
    words.save_pretrained(folder)
    return model, t.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama"])
def test_logits_from_the_cached_state_are_those_of_the_model(tmp_path, family):
    model, words = saved(tmp_path, family)
    masked = family not in DECODERS
    options = {"pooling": "mask", "template": "{text} far [MASK]"} if masked else {"pooling": "last"}
    backbone = load(str(tmp_path), words=True, **options)
    batch = backbone.collate([backbone.transform(text) for text in TEXTS])
    states = backbone.extract(batch, ["pooled"])["pooled"].numpy()
    asked = [["cat", "dog"], ["red", "blue"], ["home", "far"]]
    weights = features_of(backbone.text, [backbone.text.tokenize(row)[:, 0] for row in asked])
    given = {"class_features": weights, "vocabulary": matrix_of(backbone.text)}
    found = LabelWords(**given).fit(states, np.arange(3)).logits(states)
    for row, text in enumerate(TEXTS):
        ids = words(f"{text} far [MASK]" if masked else text, return_tensors="pt")["input_ids"]
        place = int((ids[0] == words.mask_token_id).nonzero()) if masked else -1
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0, place].double().log_softmax(0)
        own = [log_p[words.convert_tokens_to_ids(row)].logsumexp(0) for row in asked]
        np.testing.assert_allclose(found[row], own, atol=2e-6)


def test_a_model_without_its_output_matrix_is_refused_and_gives_features_without_words(tmp_path):
    save(tmp_path, "bert")
    remedy = r"missing keys \(cls\.pred.*: give a model that was saved with its output matrix, or set backbone\.words=f"
    with pytest.raises(ProbeError, match=remedy):
        load(str(tmp_path), words=True, pooling="mask", template="{text} [MASK]")
    backbone = load(str(tmp_path), words=False)
    batch = backbone.collate([backbone.transform(text) for text in TEXTS])
    assert len(backbone.extract(batch, ["pooled"])["pooled"]) == len(TEXTS)


def test_words_that_are_no_single_token_are_named_and_words_of_classes_may_be_told(tmp_path):
    saved(tmp_path, "bert")
    backbone = load(str(tmp_path), words=True, pooling="mask", template="{text} [MASK]")
    with pytest.raises(
        ProbeError, match=r"'red cat', 'nosuch' are no single token of bert.* words|are no single token"
    ):
        backbone.text.tokenize(["red cat", "cat", "nosuch"])
    head = LabelWords(words={"b": ["dog"], "a": ["cat", "mat"]})
    assert head.prompts(["a", "b"]) == [["cat", "mat"], ["dog"]]
    assert LabelWords().prompts(["red_cat", "b"]) == [["red cat"], ["b"]]
    with pytest.raises(
        ProbeError, match=r"words has \['b', 'a'\], expected at least one word for each of \['a', 'c'\]"
    ):
        head.prompts(["a", "c"])


@pytest.mark.parametrize(("template", "n"), [("{text}", 0), ("[MASK] {text} [MASK]", 2)])
def test_one_mask_is_expected(tmp_path, template, n):
    saved(tmp_path, "bert")
    backbone = load(str(tmp_path), words=True, pooling="mask", template=template)
    with pytest.raises(
        ProbeError, match=rf"the text has {n} mask tokens among the 32 that are read, expected one: put"
    ):
        backbone.transform("the cat")
    cut = load(str(tmp_path), words=True, pooling="mask", template="{text} [MASK]", max_length=5)
    with pytest.raises(ProbeError, match=r"shorten the text or set backbone\.truncation_side"):
        cut.transform("the cat sat on a mat")


def test_a_run_asks_for_the_words_of_its_classes_and_other_words_extract_nothing(tmp_path, monkeypatch):
    saved(tmp_path / "bert", "bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(60)]
    data = ((texts, np.arange(60) % 2), {"class_names": ["cat", "dog"]})
    given = {"name": str(tmp_path / "bert"), "words": True, "pooling": "mask", "template": "{text} [MASK]"}
    run = lambda head, **more: probe.run(("huggingface", given | more), data, head, "holdout", quiet=True)  # noqa: E731
    plain = run("label_words")
    plain_features = TextNetwork._features

    def blank_alone(self, rows):
        assert len(rows["input_ids"]) == 1, "rows were extracted again"
        return plain_features(self, rows)

    monkeypatch.setattr(TextNetwork, "_features", blank_alone)
    other = run(("label_words", {"words": {"cat": ["dog"], "dog": ["cat"]}}))
    np.testing.assert_allclose(other.predictions["logits"], plain.predictions["logits"][:, ::-1], rtol=1e-5)
    fitted = run(("mask_fitted", {"Cs": [0.0]}))
    ends = (log_softmax(one.predictions["logits"], axis=1) for one in (fitted, plain))
    np.testing.assert_allclose(*ends, rtol=1e-5)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProbeError, match=r"has no output matrix: set backbone=huggingface backbone\.words=true"):
        run("label_words", words=False)
    with pytest.raises(ProbeError, match=r"head zero_shot compares images with texts, backbone .* has words"):
        run("zero_shot")


def test_a_saved_head_refers_to_the_vocabulary_and_says_probabilities(tmp_path, monkeypatch):
    saved(tmp_path / "gpt2", "gpt2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    data = (([*WORDS[:8]] * 2, np.arange(16) % 2), {"class_names": ["cat", "dog"]})
    given = {"name": str(tmp_path / "gpt2"), "words": True}
    run = probe.run(("huggingface", given), data, "label_words", "holdout", quiet=True)
    shares = np.exp(run.predictions["logits"]).sum(1)
    assert ((shares > 0) & (shares < 0.5)).all()  # two words of 40
    head = Head.load(run.folder / "head.safetensors")
    assert "vocabulary_" in vars(head)
    assert "vocabulary" in safe_open(run.folder / "head.safetensors", "np").metadata()["references"]
    states = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
    assert (np.exp(head.logits(states)).sum(1) < 1).all()


def test_the_sum_over_the_vocabulary_comes_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    states, matrix = rng.normal(size=(13, 6)), rng.normal(size=(29, 7))
    expected = logsumexp(states @ matrix[:, :-1].T + matrix[:, -1], axis=1)
    for n_rows, n_words in ((4096, 4096), (4, 5), (1, 29)):
        monkeypatch.setattr("probe.heads.shared.word_head.ROWS_TOGETHER", n_rows)
        monkeypatch.setattr("probe.heads.shared.word_head.WORDS_TOGETHER", n_words)
        np.testing.assert_allclose(log_total(states, matrix), expected, atol=1e-6)
    with pytest.raises(ProbeError, match=r"vocabulary has shape \(29, 7\), expected weights and bias of width 4 \+ 1"):
        LabelWords(class_features=np.eye(2, 5), vocabulary=matrix).fit(np.eye(4), np.arange(4) % 2)


def test_words_may_be_letters_or_stand_in_a_file(tmp_path):
    (tmp_path / "words.yaml").write_text("sport: [game, team]\nart: film\n")
    assert LabelWords(words=str(tmp_path / "words.yaml")).prompts(["art", "sport"]) == [["film"], ["game", "team"]]
    assert LabelWords(words="letters").prompts(["x", "y"]) == [["A"], ["B"]]
    assert LabelWords(words="names").prompts(["x_z", "y"]) == [["x z"], ["y"]]
    (tmp_path / "odd.yaml").write_text("sport: 3\n")
    for words, told in (("none", "and it cannot be read"), ("odd", "it has no words for sport")):
        with pytest.raises(ProbeError, match=rf"expected names, letters, or a file of yaml.*{told}"):
            LabelWords(words=str(tmp_path / f"{words}.yaml")).prompts(["sport", "art"])
    with pytest.raises(ProbeError, match="there are 27 classes and 26 letters"):
        LabelWords(words="letters").prompts([str(i) for i in range(27)])


def test_models_without_words_are_refused():
    with pytest.raises(ProbeError, match="model x has no output matrix of words alone"):
        OutputWords.taken_from(nn.Linear(2, 2), None, "x")
