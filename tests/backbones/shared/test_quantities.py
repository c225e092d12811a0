"""What blocks of transformers add to the residual stream: it all adds up, in every family of the table."""

import json

import pytest
import timm
import torch
from language_models import network
from oracles import files_of
from safetensors import safe_open
from safetensors.torch import load_file
from vision_transformers import VITS, open_clip_vit, positions_of, shake, timm_vit

from probe.backbones.shared.families import FAMILIES, blocks_of, scale_of
from probe.backbones.shared.text_network import TextNetwork
from probe.backbones.timm import TimmBackbone
from probe.core.errors import InputError

PRE_NORM = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neo", "gpt_neox", "opt", "modernbert")


class Plain(TextNetwork):
    """A network of tokens, which are given as they are."""

    def __init__(self, made, taps, pooling="last"):
        super().__init__(made, name="plain", pooling=pooling, taps=taps)

    def _blank(self):
        ids = torch.ones(1, 3, dtype=torch.int64)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "length": torch.tensor([3])}


def batch_of(ids):
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "length": torch.full((len(ids),), ids.shape[1])}


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
    positions = positions_of(name)
    backbone, images = timm_vit(name, [tap for position in positions for tap in taps_at(position, 2)])
    for position in positions:
        assert_adds_up(backbone, images, position)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "LayerScale"])
def test_the_same_holds_of_open_clips(tmp_path, scaled):
    backbone, images = open_clip_vit(tmp_path, taps_at("cls", 2), scaled)
    assert_adds_up(backbone, images, "cls")


def test_the_heads_of_bert_add_up_to_its_attention_output():
    made = shake(network("bert"))
    backbone = Plain(made, ["blocks.*:contribution:last"])
    found = {}
    dense = made.encoder.layer[1].attention.output.dense
    dense.register_forward_hook(lambda m, i, output: found.update(dense=output))
    given = backbone.extract(batch_of(torch.randint(5, 20, (2, 6))), ["blocks.1:contribution:last"])
    torch.testing.assert_close(given["blocks.1:contribution:last"].sum(1) + dense.bias, found["dense"][:, -1])


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
