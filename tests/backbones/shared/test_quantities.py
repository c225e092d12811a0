"""What blocks of transformers add to the residual stream: it all adds up, in every family of the table."""

import json

import open_clip
import pytest
import timm
import torch
from language_models import network, save
from oracles import files_of
from safetensors import safe_open
from safetensors.torch import load_file

from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.shared.families import FAMILIES, blocks_of, scale_of
from probe.backbones.shared.huggingface_text import HuggingFaceTexts
from probe.backbones.shared.text_network import TextNetwork
from probe.backbones.timm import TimmBackbone
from probe.core.errors import InputError

PRE_NORM = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "gpt_neox", "opt", "modernbert")
SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 4, "img_size": 32, "patch_size": 16}
VITS = {
    "vit_tiny_patch16_224": {},
    "vit_base_patch16_siglip_224": {},
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "deit3_small_patch16_224": {},
    "beit_base_patch16_224": {"init_values": 0.5, "img_size": 224},
    "eva02_tiny_patch14_224": {},
    "vit_small_patch16_dinov3": {},
}


class Plain(TextNetwork):
    """A network of tokens, which are given as they are."""

    def __init__(self, made, taps, pooling="last"):
        super().__init__(made, name="plain", pooling=pooling, taps=taps)

    def _blank(self):
        ids = torch.ones(1, 3, dtype=torch.int64)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "length": torch.tensor([3])}


def batch_of(ids):
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "length": torch.full((len(ids),), ids.shape[1])}


def shake(made):
    """Weights so large that no part is small beside the embeddings."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 1 / weight[:1].numel() ** 0.5 if weight.ndim > 1 else 0.5)
    return made


def taps_at(position, n_blocks):
    kinds = [f"blocks.{i}:{part}:{position}" for i in range(n_blocks) for part in ("contribution", "mlp")]
    return ["embed:" + position, *kinds, f"blocks.{n_blocks - 1}:{position}"]


def assert_adds_up(backbone, batch, position):
    blocks = blocks_of(backbone.network)
    given = backbone.extract(batch, taps_at(position, len(blocks.paths)))
    total = given[f"embed:{position}"]
    for i, path in enumerate(blocks.paths):
        block = backbone.network.get_submodule(path)
        bias = block.get_submodule(blocks.family.output).bias
        scale = scale_of(block, blocks.family.scales[0])
        if bias is not None:
            total = total + (bias if scale is None else bias * scale)
        total = total + given[f"blocks.{i}:contribution:{position}"].sum(1) + given[f"blocks.{i}:mlp:{position}"]
    stream = given[f"blocks.{len(blocks.paths) - 1}:{position}"]
    assert (total - stream).norm() <= 1e-5 * stream.norm()
    assert (given[f"embed:{position}"] - stream).norm() > 0.1 * stream.norm()


@pytest.mark.parametrize("family", PRE_NORM)
def test_embeddings_heads_biases_and_mlps_are_the_stream_before_the_final_norm(family):
    ids = torch.randint(5, 20, (2, 6), generator=torch.Generator().manual_seed(0))
    made = shake(network(family))
    for position in ("last", "mean"):
        assert_adds_up(Plain(made, taps_at(position, 2)), batch_of(ids), position)


@pytest.mark.parametrize("name", VITS)
def test_the_same_holds_of_timms_vision_transformers(name):
    options = {**SMALL, **VITS[name]}
    size = options.pop("img_size")
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    positions = ("mean",) if "siglip" in name else ("cls", "mean")
    taps = [tap for position in positions for tap in taps_at(position, 2)]
    backbone = TimmBackbone(name, pretrained=False, img_size=size, model_kwargs=options, taps=taps)
    shake(backbone.network)
    for position in positions:
        assert_adds_up(backbone, images, position)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "LayerScale"])
def test_the_same_holds_of_open_clips(tmp_path, scaled):
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    vision |= {"ls_init_value": 0.5} if scaled else {}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    name = f"probe-test-quantities-{scaled}"
    (tmp_path / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    backbone = OpenClipBackbone(name, pretrained=None, taps=taps_at("cls", 2))
    assert_adds_up(backbone, images, "cls")


def test_the_heads_of_bert_add_up_to_its_attention_output():
    made = shake(network("bert"))
    backbone = Plain(made, ["blocks.*:contribution:last"])
    found = {}
    dense = made.encoder.layer[1].attention.output.dense
    dense.register_forward_hook(lambda m, i, output: found.update(dense=output))
    given = backbone.extract(batch_of(torch.randint(5, 20, (2, 6))), ["blocks.1:contribution:last"])
    torch.testing.assert_close(given["blocks.1:contribution:last"].sum(1) + dense.bias, found["dense"][:, -1])


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "bert", "gpt2"])
def test_attention_weights_times_values_are_the_heads(tmp_path, family):
    save(tmp_path / family, family)
    taps = ["blocks.1:attn", "blocks.1:heads:last"]
    options = {"attention": "eager", "max_length": 12, "pooling": "last"}
    backbone = HuggingFaceTexts(str(tmp_path / family), taps=taps, **options)
    config = backbone.network.config
    H = config.num_attention_heads
    attention = blocks_of(backbone.network)
    block = backbone.network.get_submodule(attention.paths[1])
    values = {}

    def keep(joint):
        if family == "gpt_neox":  # interleaved by head
            return joint.unflatten(-1, (H, 3, -1))[..., 2, :]
        return joint.unflatten(-1, (3, H, -1))[..., 2, :, :] if family == "gpt2" else joint

    where = {
        "llama": "self_attn.v_proj", "bert": "attention.self.value", "gpt2": "attn.c_attn",
        "gpt_neox": "attention.query_key_value",
    }[family]  # fmt: skip
    block.get_submodule(where).register_forward_hook(lambda m, i, output: values.update(v=keep(output)))
    row = backbone.transform("the cat sat on a mat")
    given = backbone.extract(backbone.collate([row]), backbone.taps)
    v, n = values["v"], len(row["input_ids"])
    if family in ("llama", "bert"):
        shared = getattr(config, "num_key_value_heads", H)
        v = v.unflatten(-1, (shared, -1)).repeat_interleave(H // shared, dim=2)
    patterns = given["blocks.1:attn"]
    assert patterns.shape == (1, H, 12, 12)
    assert not patterns[:, :, n:].any()
    expected = torch.einsum("ht,thd->hd", patterns[0, :, n - 1, :n], v[0])
    torch.testing.assert_close(given["blocks.1:heads:last"][0], expected, rtol=1e-4, atol=1e-5)


def test_swapping_two_heads_swaps_their_taps_alone():
    made = shake(network("llama"))
    ids = torch.randint(5, 20, (2, 6))
    before = Plain(made, ["blocks.1:heads"]).extract(batch_of(ids), ["blocks.1:heads"])["blocks.1:heads"]
    attention = made.layers[1].self_attn
    order = torch.arange(24).view(4, 6)[[1, 0, 2, 3]].flatten()  # of query heads that share a key
    with torch.no_grad():
        attention.q_proj.weight.copy_(attention.q_proj.weight[order])
        attention.o_proj.weight.copy_(attention.o_proj.weight[:, order])
    after = Plain(made, ["blocks.1:heads"]).extract(batch_of(ids), ["blocks.1:heads"])["blocks.1:heads"]
    torch.testing.assert_close(after, before[:, [1, 0, 2, 3]])


def test_parts_have_one_name_in_all_families():
    taps = ["embed", "blocks.*:last", "norm:last", "blocks.*:heads:last", "blocks.0:neurons", "blocks.0:mlp:first"]
    for family in ("llama", "gpt2"):
        backbone = Plain(network(family), taps)
        assert backbone.shapes["blocks.1:heads:last"] == (4, 6)
        assert backbone.shapes["blocks.0:mlp:first"] == (24,)
        assert backbone.taps == (
            "embed", "blocks.0:last", "blocks.1:last", "norm:last", "blocks.0:heads:last", "blocks.1:heads:last",
            "blocks.0:neurons", "blocks.0:mlp:first",
        )  # fmt: skip
        ids = batch_of(torch.randint(5, 20, (2, 6)))
        given = backbone.extract(ids, [*backbone.taps, "pooled"])
        torch.testing.assert_close(given["norm:last"], given["pooled"])
        assert (given["blocks.1:last"] - given["norm:last"]).norm() > 0.1 * given["norm:last"].norm()


def test_blocks_of_a_family_that_is_not_known_are_found_all_the_same():
    made = network("t5").encoder
    backbone = Plain(made, ["embed:first", "blocks.*:mean"])
    assert backbone.taps == ("embed:first", "blocks.0:mean", "blocks.1:mean")
    assert backbone.shapes["blocks.1:mean"] == (24,)


@pytest.mark.parametrize(
    ("family", "tap", "text"),
    [
        (
            "t5",
            "blocks.0:contribution",
            r"of no family in which that is known \(Llama.*ModernBERT.*\): tap embed or blo",
        ),
        (
            "llama",
            "norm:neurons",
            r"asks for neurons of norm, which is no block of backbone plain: tap blocks\.<number>",
        ),
        ("bert", "norm", r"asks for the norm behind the last block, backbone plain has none that is known: tap blocks"),
        ("llama", "blocks.7", r"tap blocks\.7 counts beyond the 2 blocks of backbone plain: count from 0"),
        ("llama", "blocks.0:mlp:cls", r"asks for 'mlp:cls', expected one of mlp:mean, mlp:last, mlp:first"),
    ],
)
def test_what_a_family_does_not_have_is_refused_with_what_it_has(family, tap, text):
    with pytest.raises(InputError, match=text):
        Plain(network(family).encoder if family == "t5" else network(family), [tap])


def test_a_network_without_blocks_has_none():
    with pytest.raises(InputError, match=r"backbone timm/resnet10t-random has no list of blocks: name its own layers"):
        TimmBackbone("resnet10t", pretrained=False, taps=["embed"])


def test_attention_weights_want_short_texts_and_eager_attention(tmp_path):
    folder = str(save(tmp_path / "llama", "llama"))
    with pytest.raises(InputError, match=r"the network gives none: set backbone\.attention=eager"):
        _ = HuggingFaceTexts(folder, taps=["blocks.0:attn"], max_length=8, attention="sdpa").shapes
    with pytest.raises(InputError, match=r"expected texts of at most 64 tokens: set backbone\.max_length=64 or less"):
        _ = TimmBackbone("test_vit", pretrained=False, img_size=32, taps=["blocks.0:attn"]).shapes
    with pytest.raises(InputError, match=r"attention is 'flash', expected eager or sdpa: set backbone\.attention so"):
        HuggingFaceTexts(folder, attention="flash")
    eager, plain = (HuggingFaceTexts(folder, attention=kind) for kind in ("eager", None))
    assert eager.identity() != plain.identity()


def read(path):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        return tensors, file.metadata()


def weights(tensors, family):
    start = f"param.{family}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


@pytest.mark.parametrize("path", [*files_of("taps_gpt2"), *files_of("taps_llama")])
def test_taps_of_language_models_are_those_of_the_reference(path):
    import transformers as t

    tensors, told = read(path)
    family = next(name.split(".")[1] for name in tensors if name.startswith("output."))
    config = json.loads(told[f"{family}_config"])
    if "rope" in config:
        config["rope_parameters"] = json.loads(config.pop("rope").replace("'", '"'))
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    kind = {"gpt2": (t.GPT2Config, t.GPT2Model), "llama": (t.LlamaConfig, t.LlamaModel)}[family]
    made = kind[1](kind[0](**config, **ends)).eval()
    made.load_state_dict(weights(tensors, family), strict=False)
    ids = tensors[f"input.{family}.input_ids"]
    backbone = Plain(made, ["embed:last", "blocks.*:last", "norm:last"]
                     + [f"blocks.*:{q}:last" for q in ("heads", "contribution", "mlp", "neurons")])  # fmt: skip
    given = backbone.extract(batch_of(ids), backbone.taps)
    names = {"embed:last": "resid_0", "norm:last": "final_normed"}
    for i in range(2):
        names |= {f"blocks.{i}:last": f"resid_{i + 1}", f"blocks.{i}:heads:last": f"z_{i}"}
        names |= {f"blocks.{i}:{q}:last": f"{q}_{i}" for q in ("contribution", "mlp", "neurons")}
    for tap, name in names.items():
        torch.testing.assert_close(given[tap], tensors[f"output.{family}.{name}"][:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", files_of("taps_vit"))
def test_taps_of_a_vision_transformer_are_those_of_the_reference(path):
    tensors, told = read(path)
    options = json.loads(told["vit_kwargs"])
    made = timm.models.VisionTransformer(**options)
    made.load_state_dict(weights(tensors, "vit"))
    size, _ = options.pop("img_size"), options.pop("num_classes", 0)
    for position in ("cls", "mean"):
        parts = [f"blocks.*:{q}:{position}" for q in ("heads", "contribution", "mlp", "neurons")]
        taps = [f"embed:{position}", f"blocks.*:{position}", *parts]
        backbone = TimmBackbone(
            "vit_tiny_patch16_224", pretrained=False, img_size=size, model_kwargs=options, taps=taps
        )
        backbone.network.load_state_dict(made.state_dict(), strict=False)
        given = backbone.extract(tensors["input.vit.images"], backbone.taps)
        for i in range(2):
            names = {f"blocks.{i}:{position}": f"resid_{i + 1}", f"blocks.{i}:heads:{position}": f"z_{i}"}
            names |= {f"blocks.{i}:{q}:{position}": f"{q}_{i}" for q in ("contribution", "mlp", "neurons")}
            for tap, name in names.items():
                expected = tensors[f"output.vit.{name}"]
                expected = expected[:, 0] if position == "cls" else expected[:, 1:].mean(1)
                torch.testing.assert_close(given[tap], expected, rtol=1e-5, atol=1e-5)


def test_every_family_of_the_table_is_tried_here():
    tried = {blocks_of(network(family)).family.name for family in (*PRE_NORM, "bert")}
    assert {family.name for family in FAMILIES} - tried == {
        "timm's vision transformers", "open_clip's vision transformers",
    }  # fmt: skip
