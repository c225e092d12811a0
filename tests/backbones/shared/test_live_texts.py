"""Language models that a program holds: what is read of them, what is not touched, and what names them."""

import pytest
import torch
from language_models import network, save, tokenizer
from torch import nn

from probe.backbones.huggingface import load
from probe.backbones.shared.borrowed import Borrowed
from probe.backbones.shared.huggingface_text import HuggingFaceTexts
from probe.backbones.shared.live_texts import LiveModel, is_tokenizer
from probe.core.errors import InputError
from probe.core.source import is_unknown

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEXTS = ["the cat sat on a mat", "dog"]


def pooled(backbone):
    return backbone.extract(backbone.collate([backbone.transform(text) for text in TEXTS]), ["pooled"])["pooled"]


def live(model, words=None, **options):
    return HuggingFaceTexts(LiveModel.of(model, words or tokenizer()), **options)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_features_are_those_of_the_same_model_in_a_folder(tmp_path, family):
    special = family == "bert"
    folder = save(tmp_path, family)
    words = tokenizer(special=special or family == "t5", types=special)
    ours = live(network(family).train(), words)
    torch.testing.assert_close(pooled(ours), pooled(load(str(folder))))
    assert ours.pooling == load(str(folder)).pooling


def test_a_head_on_the_model_has_no_part_and_the_model_stays_as_it_is():
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification(network("bert").config).train()
    model.bert.load_state_dict(network("bert").state_dict(), strict=False)
    words = tokenizer()
    torch.testing.assert_close(pooled(live(model, words, truncation_side="left")), pooled(live(network("bert"))))
    assert model.training
    assert model.bert.pooler is not None
    assert words.truncation_side == "right"


def test_one_that_trains_is_read_where_its_weights_lie():
    model = network("bert")
    backbone = live(Borrowed(model))
    before = pooled(backbone)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight += 1
    assert not torch.equal(pooled(backbone), before)
    assert is_unknown(backbone.identity())
    assert not is_unknown(live(Borrowed(model, named=True)).identity())


def test_weights_words_options_and_hooks_name_the_features():
    def identity(model=None, words=None, **options):
        return live(model or network("bert"), words, **options).identity()

    hooked, other = network("bert"), network("bert")
    hooked.encoder.layer[0].register_forward_hook(lambda *_: None)
    with torch.no_grad():
        other.encoder.layer[0].output.dense.bias[0] += 1e-3
    assert identity() == identity(network("bert").train())
    variants = [identity(hooked), identity(other), identity(words=tokenizer(special=False)), identity(pooling="first")]
    assert all(variant != identity() for variant in variants)


def test_what_is_no_model_of_texts_is_refused():
    assert is_tokenizer(tokenizer())
    assert not is_tokenizer(lambda image: image)
    with pytest.raises(InputError, match="backbone is a ReLU with a tokenizer, expected a model of transformers"):
        live(nn.ReLU())
    from transformers import ViTConfig, ViTModel

    with pytest.raises(InputError, match=r"is a ViTModel with a tokenizer, and it has no words: give \(model, transf"):
        live(ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)))
