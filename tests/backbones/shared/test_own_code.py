"""What else is installed changes no feature: kernels of other packages are left out, or refused."""

import importlib
import sys
import warnings

import pytest
import torch
from language_models import tokenizer

from probe.backbones.shared.huggingface_text import HuggingFaceTexts
from probe.backbones.shared.live_texts import LiveModel
from probe.backbones.shared.own_code import handed_over
from probe.core.errors import InputError

CODE = "transformers.models.qwen3_5.modeling_qwen3_5"
KERNEL = """
import torch

def chunk_gated_delta_rule(query, key, value, g, beta, **more):
    return torch.zeros_like(value), None
"""


def model(code):
    """One block of linear attention, one of the usual kind."""
    from transformers import Qwen3_5TextConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    linear = {f"linear_{n}_head_dim": 6 for n in ("key", "value")} | {
        f"linear_num_{n}_heads": 2 for n in ("key", "value")
    }
    types = ["linear_attention", "full_attention"]
    config = Qwen3_5TextConfig(
        **sizes, **linear, vocab_size=40, max_position_embeddings=32, num_hidden_layers=2, head_dim=8, layer_types=types
    )
    return code.Qwen3_5TextModel(config).eval()


def features(network):
    backbone = HuggingFaceTexts(LiveModel(network, tokenizer(special=False), "qwen", {}), pooling="last")
    batch = backbone.collate([backbone.transform(text) for text in ("the cat sat on a mat", "a dog ran")])
    return backbone, backbone.extract(batch, ["pooled"])["pooled"], batch


def test_installed_kernels_run_in_no_model(tmp_path, monkeypatch):
    warnings.simplefilter("ignore")
    code = importlib.import_module(CODE)
    _, before, _ = features(model(code))
    (tmp_path / "fla" / "ops").mkdir(parents=True)
    (tmp_path / "fla" / "__init__.py").write_text("")
    (tmp_path / "fla" / "ops" / "__init__.py").write_text("")
    (tmp_path / "fla" / "ops" / "gated_delta_rule.py").write_text(KERNEL)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        code = importlib.reload(code)
        network = model(code)
        backbone, found, batch = features(network)
        assert torch.equal(found, before)
        with torch.no_grad():
            other = network(batch["input_ids"][:1], attention_mask=batch["attention_mask"][:1], use_cache=False)[0]
        assert not torch.allclose(other[0, 5], before[0])  # what runs the model by itself takes the kernel
        assert len(handed_over(network, "qwen")) == 1
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fla"]:
            del sys.modules[name]
        monkeypatch.undo()
        importlib.reload(code)
    assert handed_over(network, "qwen") == ()
    assert backbone.identity()["architecture"] == features(network)[0].identity()["architecture"]


def test_code_that_cannot_be_taken_out_is_refused():
    network = model(importlib.import_module(CODE))
    network.layers[0].linear_attn.chunk = type("chunk", (), {"__module__": "fla.ops", "__call__": lambda self: None})()
    with pytest.raises(
        InputError, match=r"runs code of fla, which .*: pip uninstall flash-linear-attention, or pip in"
    ):
        handed_over(network, "qwen")
