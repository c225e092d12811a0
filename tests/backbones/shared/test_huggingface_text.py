"""Language models: one text alone and among others, positions, layers, heads, and folders of all sorts."""

import json

import pytest
import torch
from language_models import DECODERS, FAMILIES, as_sentence_transformers, network, save, tokenizer
from torch.nn import functional

from probe.backbones.huggingface import HuggingFaceBackbone, load
from probe.backbones.shared import text_network
from probe.backbones.shared.huggingface_text import HuggingFaceTexts
from probe.backbones.shared.text_network import TextNetwork
from probe.core.errors import InputError
from probe.core.ragged import Ragged
from probe.core.texts import Text

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEXTS = [
    "the cat sat on a mat", "", "dog", "one two three red blue green the cat ran far away from home", "🐈 \0 מחשב",
    "the " * 20, "mat mat",
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {family: str(save(root / family, family)) for family in FAMILIES}


def words_of(family):
    return tokenizer(special=family not in DECODERS, types=family == "bert")


def batch(backbone, rows=TEXTS):
    return backbone.collate([backbone.transform(row) for row in rows])


def of_row(value, i):
    """What a batch gives of one row, of all its tokens too."""
    return value.values.split(value.lengths.tolist())[i] if isinstance(value, Ragged) else value[i]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_text_alone_is_what_it_is_among_others(folders, family, monkeypatch):
    backbone = load(folders[family])
    assert isinstance(backbone, HuggingFaceTexts)
    assert backbone.pooling == ("last" if family in DECODERS else "mean")
    together = backbone.extract(batch(backbone), backbone.kinds)
    monkeypatch.setitem(text_network.TOKENS_TOGETHER, "cpu", 64)
    in_groups = backbone.extract(batch(backbone), backbone.kinds)
    for i, text in enumerate(TEXTS):
        alone = backbone.extract(batch(backbone, [text]), backbone.kinds)
        for kind, value in alone.items():
            for other in (together, in_groups):
                torch.testing.assert_close(of_row(other[kind], i), of_row(value, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_model_at_each_position(folders, family):
    text = "the cat sat on a mat"
    given = {position: load(folders[family], pooling=position) for position in ("mean", "first", "last")}
    tokens = words_of(family)(text, return_tensors="pt")
    model = network(family).eval()
    with torch.no_grad():
        states = (model.get_encoder() if family == "t5" else model)(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).last_hidden_state[0]
    expected = {"mean": states.mean(0), "first": states[0], "last": states[-1]}
    found = given["mean"].extract(batch(given["mean"], ["dog " * 9, text]), ["tokens", "token_ids"])
    torch.testing.assert_close(of_row(found["tokens"], 1), states, rtol=1e-5, atol=1e-6)
    assert of_row(found["token_ids"], 1).tolist() == tokens["input_ids"][0].tolist()
    for position, backbone in given.items():
        pooled = backbone.extract(batch(backbone, [text, "dog " * 9]), ["pooled"])["pooled"][0]
        torch.testing.assert_close(pooled, expected[position], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("family", "blocks"), [("llama", "layers.*"), ("gpt2", "h.*"), ("bert", "encoder.layer.*")])
def test_layers_are_read_at_any_position_in_one_pass(folders, family, blocks):
    backbone = load(folders[family], taps=[f"{blocks}:{position}" for position in ("mean", "last", "first", "tokens")])
    found = backbone.extract(batch(backbone), backbone.kinds)
    assert len(backbone.taps) == 8
    states = network(family).eval()(**words_of(family)(TEXTS[0], return_tensors="pt"),
                                    output_hidden_states=True).hidden_states  # fmt: skip
    first = blocks.replace("*", "0")
    torch.testing.assert_close(found[f"{first}:last"][0], states[1][0, -1].detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(of_row(found[f"{first}:tokens"], 0), states[1][0].detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[f"{first}:mean"][0], states[1][0].mean(0).detach(), rtol=1e-5, atol=1e-6)


def test_for_ids_and_lengths_no_network_is_run_and_states_nobody_reads_are_not_kept(folders, monkeypatch):
    backbone = load(folders["bert"])
    assert backbone.ragged == ("tokens", "token_ids")
    monkeypatch.setattr(TextNetwork, "_own", lambda *_: pytest.fail("all states were kept"))
    assert "pooled" in backbone.extract(batch(backbone), ["pooled"])
    monkeypatch.setattr(backbone.network, "forward", lambda **_: pytest.fail("the network was run"))
    found = backbone.extract(batch(backbone), ["token_ids", "length"])
    assert found["length"][:, 0].tolist() == found["token_ids"].lengths.tolist() == [8, 2, 3, 15, 5, 22, 4]
    assert not found["token_ids"].values.is_floating_point()


HEADS = [
    ("llama", "layers.1.self_attn", 6), ("qwen3", "layers.1.self_attn", 8), ("gpt2", "h.1.attn", 6),
    ("gpt_neo", "h.1.attn", 6), ("gpt_neox", "layers.1.attention", 6), ("opt", "decoder.layers.1.self_attn", 6),
    ("bert", "encoder.layer.1.attention", 6), ("modernbert", "layers.1.attn", 6),
]  # fmt: skip


@pytest.mark.parametrize(("family", "attention", "width"), HEADS)
def test_heads_mixed_by_the_projection_are_what_the_attention_gives(folders, family, attention, width):
    backbone = load(folders[family], pooling="last", taps=[f"{attention}:heads"])
    projection = backbone._heads_of(backbone.network.get_submodule(attention))[1]
    given = []
    _ = backbone.kinds  # found by a run of its own
    projection.register_forward_hook(lambda _, __, output: given.append(output.detach()))
    heads = backbone.extract(batch(backbone, TEXTS[:1]), [f"{attention}:heads"])[f"{attention}:heads"]
    assert heads.shape == (1, 4, width)
    mixed = projection(heads.flatten(1)[None])[0]
    torch.testing.assert_close(mixed[0], given[0][0, -1], rtol=1e-5, atol=1e-6)


def test_a_marked_span_is_read_where_it_stands(folders):
    text = "the cat sat on a mat"
    row = Text(text, span=(4, 11))  # cat sat
    states = network("bert").eval()(**tokenizer()(text, return_tensors="pt")).last_hidden_state[0].detach()
    for pooling, expected in (("span", states[2:4].mean(0)), ("span_last", states[3])):
        backbone = load(folders["bert"], pooling=pooling)
        rows = [row, Text("dog dog dog ran far away", span=(0, 3))]
        found = backbone.extract(batch(backbone, rows), ["pooled"])["pooled"]
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-6)
    shifted = load(folders["bert"], pooling="span_last", template="red {text}")
    assert shifted.transform(row)["span"].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    with pytest.raises(InputError, match=r"span, and the rows have none: set dataset\.span_columns"):
        backbone.extract(batch(backbone, ["dog"]), ["pooled"])
    cut = load(folders["bert"], pooling="span", max_length=4)
    with pytest.raises(InputError, match="behind the 4 tokens that are read, or holds none: shorten"):
        cut.transform(Text(text, span=(17, 20)))


def test_pairs_are_read_one_behind_the_other_with_their_types(folders):
    backbone = load(folders["bert"])
    row = backbone.transform(Text("the cat", "dog ran"))
    assert row["input_ids"].tolist() == tokenizer()("the cat", "dog ran")["input_ids"]
    assert row["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_texts_are_cut_where_it_is_said_and_what_was_cut_counts(folders):
    text = "one two three red blue green"
    right, left = (load(folders["bert"], max_length=5, truncation_side=side) for side in ("right", "left"))
    names = tokenizer().convert_ids_to_tokens
    assert names(right.transform(text)["input_ids"]) == ["[CLS]", "one", "two", "three", "[SEP]"]
    assert names(left.transform(text)["input_ids"]) == ["[CLS]", "red", "blue", "green", "[SEP]"]
    assert right.extract(batch(right, [text, "dog"]), ["length"])["length"].tolist() == [[8.0], [3.0]]


def test_a_text_of_100000_characters_is_read_to_the_limit(folders):
    backbone = load(folders["roberta"])
    assert backbone.max_length == 32  # of 34 positions: RoBERTa counts from behind its padding token
    row = backbone.transform("cat " * 25_000)
    assert (len(row["input_ids"]), int(row["length"])) == (32, 25_002)
    assert torch.isfinite(backbone.extract(backbone.collate([row]), ["pooled"])["pooled"]).all()


def test_a_tokenizer_without_a_padding_token_pads_all_the_same(tmp_path):
    backbone = load(str(save(tmp_path, "llama", padding=False)))
    found = backbone.extract(batch(backbone), ["pooled"])["pooled"]
    alone = backbone.extract(batch(backbone, TEXTS[:1]), ["pooled"])["pooled"]
    torch.testing.assert_close(found[0], alone[0], rtol=1e-5, atol=1e-6)


def test_a_template_is_what_the_model_reads(folders):
    backbone, plain = load(folders["bert"], template="the {text} ran"), load(folders["bert"])
    assert torch.equal(backbone.transform("cat")["input_ids"], plain.transform("the cat ran")["input_ids"])
    with pytest.raises(InputError, match=r"template is 'none', expected one that holds \{text\} once"):
        load(folders["bert"], template="none")


def test_a_folder_of_sentence_transformers_pools_as_it_says(tmp_path, folders):
    folder = as_sentence_transformers(save(tmp_path / "st", "bert"), "cls_token")
    backbone, plain = load(str(folder)), load(folders["bert"], pooling="first", max_length=16)
    assert (backbone.pooling, backbone.normalize, backbone.max_length) == ("first", True, 16)
    found, states = (b.extract(batch(b), ["pooled"])["pooled"] for b in (backbone, plain))
    torch.testing.assert_close(found, functional.normalize(states, dim=1))
    assert not load(str(folder), pooling="mean").normalize


def test_modules_of_sentence_transformers_that_are_not_read_are_named(tmp_path):
    folder = as_sentence_transformers(save(tmp_path / "dense", "bert"), **{"3_Dense": "Dense"})
    with pytest.raises(InputError, match=r"pools by Dense, expected .* alone: set backbone\.pooling"):
        load(str(folder))
    assert load(str(folder), pooling="mean").pooling == "mean"
    folder = as_sentence_transformers(save(tmp_path / "max", "bert"), "max_tokens")
    with pytest.raises(InputError, match="pools by pooling_mode_max_tokens"):
        load(str(folder))


def test_the_identity_sees_weights_words_and_reading_but_not_the_folder(tmp_path, folders):
    def identity(folder=folders["bert"], **options):
        return json.dumps(load(str(folder), **options).identity(), sort_keys=True)

    assert identity(save(tmp_path / "copy", "bert")) == identity()
    other = save(tmp_path / "words", "bert")
    words = json.loads((other / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
    (other / "tokenizer.json").write_text(json.dumps(words))
    variants = [
        {"pooling": "last"}, {"max_length": 8}, {"truncation_side": "left"}, {"template": "a {text}"},
        {"normalize": True}, {"precision": "bfloat16"}, {"pretrained": False, "seed": 1},
    ]  # fmt: skip
    assert len({identity(), identity(other), *(identity(**variant) for variant in variants)}) == 2 + len(variants)


def test_bfloat16_is_near(folders):
    exact, near = (load(folders["bert"], precision=precision) for precision in ("float32", "bfloat16"))
    a, b = (x.extract(batch(x), ["pooled"])["pooled"] for x in (exact, near))
    torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)
    assert not torch.equal(a, b)


def test_the_model_says_what_is_wrong(tmp_path, folders):
    (tmp_path / "bare").mkdir()
    network("bert").save_pretrained(tmp_path / "bare")
    with pytest.raises(InputError, match=r"huggingface model .*bare cannot be had .*and the files of its tokenizer"):
        load(str(tmp_path / "bare"))
    for options, told in (
        ({"pooling": "max"}, "pooling is 'max', expected one of mean, last, first, span, span_last"),
        ({"truncation_side": "middle"}, "truncation_side is 'middle', expected right or left"),
        ({"max_length": 99}, "max_length is 99, expected 1 to 32"),
        ({"layout": "sequence"}, "reads texts, layout is of models that read images: leave it out"),
        ({"reads": "sounds"}, "reads is 'sounds', expected images or texts"),
        (
            {"taps": ["encoder.layer.0:cls"]},
            "asks for 'cls', expected one of mean, last, first, span",
        ),
        ({"taps": ["layer.0"]}, "tap layer.0 names no layer of backbone huggingface/bert"),
    ):
        with pytest.raises(InputError, match=told.replace("[", r"\[")):
            load(folders["bert"], **options)
    backbone = load(folders["gpt2"])
    backbone._tokenizer.eos_token = backbone._tokenizer.pad_token = None
    with pytest.raises(InputError, match="the text has no token"):
        backbone.transform("")
    with pytest.raises(InputError, match=r"reads texts, the row is a int: set backbone=tiny"):
        load(folders["bert"]).transform(3)


def test_texts_are_not_compiled_and_the_way_out_works(folders):
    with pytest.raises(InputError, match=r"no two batches are equally long.*: set backbone.compile=false"):
        load(str(folders["bert"]), compile=True)
    assert load(str(folders["bert"]), compile=False).kinds


def test_a_model_of_images_is_read_as_before(tmp_path):
    import transformers

    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.ViTModel(transformers.ViTConfig(**small, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert isinstance(load(str(tmp_path)), HuggingFaceBackbone)
    with pytest.raises(InputError, match="reads images, pooling is of models that read texts: leave it out"):
        load(str(tmp_path), pooling="mean")


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'probe-bench\[transformers\]'"):
        load("some/model", reads="texts")
