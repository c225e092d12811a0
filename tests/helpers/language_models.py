"""Language models of the real architectures with random weights, in folders as `save_pretrained` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "dog",
    "ran",
    "far",
    "away",
    "from",
    "home",
    "red",
    "blue",
    "green",
    "one",
    "two",
    "three",
]
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
SIZE = {"vocab_size": 40, "max_position_embeddings": 32}
FAMILIES = ("bert", "roberta", "modernbert", "gpt2", "gpt_neo", "gpt_neox", "opt", "llama", "qwen3", "t5")
DECODERS = ("gpt2", "gpt_neo", "gpt_neox", "opt", "llama", "mistral", "qwen2", "qwen3")


def network(family: str) -> Any:
    """An untrained model, the same each time."""
    import transformers as t

    torch.manual_seed(0)
    if family == "bert":
        return t.BertModel(t.BertConfig(**SMALL, **SIZE), add_pooling_layer=False)
    if family == "roberta":
        config = t.RobertaConfig(**SMALL, **SIZE | {"max_position_embeddings": 34}, pad_token_id=1)
        return t.RobertaModel(config, add_pooling_layer=False)
    if family == "modernbert":
        special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        return t.ModernBertModel(t.ModernBertConfig(**SMALL, **SIZE, **special))
    if family == "gpt2":
        return t.GPT2Model(t.GPT2Config(vocab_size=40, n_positions=32, n_embd=24, n_layer=2, n_head=4))
    if family == "gpt_neo":
        layers = {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4}
        return t.GPTNeoModel(t.GPTNeoConfig(hidden_size=24, **SIZE, **layers))
    if family == "gpt_neox":
        return t.GPTNeoXModel(t.GPTNeoXConfig(**SMALL, **SIZE))
    if family == "opt":
        config = {k: v for k, v in SMALL.items() if k != "intermediate_size"}
        return t.OPTModel(t.OPTConfig(**config, **SIZE, ffn_dim=32, word_embed_proj_dim=24))
    if family == "llama":
        return t.LlamaModel(t.LlamaConfig(**SMALL, **SIZE, num_key_value_heads=2))
    if family == "mistral":
        return t.MistralModel(t.MistralConfig(**SMALL, **SIZE, num_key_value_heads=2))
    if family == "qwen2":
        return t.Qwen2Model(t.Qwen2Config(**SMALL, **SIZE, num_key_value_heads=2))
    if family == "qwen3":
        return t.Qwen3Model(t.Qwen3Config(**SMALL, **SIZE, num_key_value_heads=2, head_dim=8))
    if family == "t5":
        return t.T5Model(t.T5Config(vocab_size=40, d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4))
    raise ValueError(family)


def tokenizer(special: bool = True, padding: bool = True, types: bool = True) -> Any:
    """Words at white space; `[CLS] text [SEP]` where it adds special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    named = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if special else {"eos_token": "[SEP]"}
    pad: dict[str, Any] = {"pad_token": "[PAD]"} if padding else {}
    pad["model_input_names"] = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", model_max_length=32, **named, **pad)


def save(folder: Path, family: str = "bert", **options: bool) -> Path:
    """A folder with model and tokenizer; decoders have no special tokens."""
    network(family).save_pretrained(folder)
    tokenizer(**{"special": family not in DECODERS, "types": family == "bert", **options}).save_pretrained(folder)
    return folder


def as_sentence_transformers(folder: Path, pooling: str = "mean_tokens", normalize: bool = True, **more: str) -> Path:
    """Adds what sentence-transformers writes beside a model."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    kinds += [(path, kind) for path, kind in more.items()]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    return folder
