import json
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from scratch import scratch

from probe.backbones.huggingface import HuggingFaceBackbone, load
from probe.core.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_without_a_name_it_says_what_to_set():
    with pytest.raises(InputError, match=r"none is given: set backbone\.name"):
        HuggingFaceBackbone()


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'probe-bench\[transformers\]'"):
        HuggingFaceBackbone("some/model")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))


def save(transformers, folder, model):
    torch.manual_seed(0)
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    grid = {"image_size": 32, "patch_size": 8}
    if model == "vit":
        network = transformers.ViTModel(transformers.ViTConfig(**small, **grid))
    elif model == "dinov2":
        config = transformers.Dinov2WithRegistersConfig(**small, **grid, num_register_tokens=3)
        network = transformers.Dinov2WithRegistersModel(config)
    elif model == "mae":
        network = transformers.ViTMAEModel(transformers.ViTMAEConfig(**small, **grid))
    elif model == "deit":
        network = transformers.DeiTModel(transformers.DeiTConfig(**small, **grid))
    elif model == "yolos":
        config = transformers.YolosConfig(**small | {"image_size": [32, 32], "patch_size": 8}, num_detection_tokens=5)
        network = transformers.YolosModel(config)
    elif model == "cvt":
        config = transformers.CvtConfig(embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3])
        network = transformers.CvtModel(config)
    elif model == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        network = transformers.ResNetModel(config)
    else:
        config = transformers.CLIPConfig(
            vision_config={**small, **grid}, text_config={**small, "vocab_size": 50}, projection_dim=8
        )
        network = transformers.CLIPModel(config)
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return network.eval()


@pytest.mark.parametrize(
    ("model", "n_prefix", "shapes"),
    [
        ("vit", 1, {"pooled": (24,), "tokens": (17, 24), "map": (24, 4, 4)}),
        ("dinov2", 4, {"pooled": (24,), "tokens": (20, 24), "map": (24, 4, 4)}),
        ("resnet", 0, {"pooled": (16,), "tokens": (16, 16), "map": (16, 4, 4)}),
        ("clip", 1, {"pooled": (24,), "tokens": (17, 24), "map": (24, 4, 4)}),
    ],
)
def test_a_local_folder_gives_the_models_own_outputs(transformers, tmp_path, image, model, n_prefix, shapes):
    network = save(transformers, tmp_path / model, model)
    backbone = HuggingFaceBackbone(str(tmp_path / model))
    assert (backbone.name, backbone.n_prefix_tokens) == (f"huggingface/{model}", n_prefix)
    batch, before = backbone.transform(image)[None], backbone.hash_weights()
    given = backbone.extract(batch, backbone.kinds)
    with torch.no_grad():
        expected = getattr(network, "vision_model", network)(pixel_values=batch)
    assert {kind: tuple(value.shape[1:]) for kind, value in given.items()} == shapes
    torch.testing.assert_close(given["pooled"], expected.pooler_output.flatten(1))
    assert backbone.hash_weights() == before


def test_transform_is_that_of_the_processor(transformers, tmp_path, image):
    save(transformers, tmp_path, "vit")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    expected = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(HuggingFaceBackbone(str(tmp_path)).transform(image), expected)


def test_identity_sees_weights_and_processor_but_not_the_folder(transformers, tmp_path):
    def identity(folder, **options):
        return json.dumps(HuggingFaceBackbone(str(folder), **options).identity(), sort_keys=True)

    for name in ("a", "b"):
        save(transformers, tmp_path / name, "vit")
    first = identity(tmp_path / "a")
    assert identity(tmp_path / "b") == first
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=3).save_pretrained(tmp_path / "b")
    assert len({first, identity(tmp_path / "b"), identity(tmp_path / "a", pretrained=False, seed=1)}) == 3


def test_a_folder_without_a_model_is_refused(transformers, tmp_path):
    with pytest.raises(InputError, match=r"huggingface model .* cannot be had .*give a folder with config\.json"):
        HuggingFaceBackbone(str(tmp_path))


def test_missing_weights_are_refused_and_strict_false_records_them(transformers, tmp_path):
    network = save(transformers, tmp_path, "vit")
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("layernorm.")}
    network.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(InputError, match=r"2 missing keys \(layernorm\.bias, layernorm\.weight\).*backbone\.strict=f"):
        HuggingFaceBackbone(str(tmp_path))
    facts = HuggingFaceBackbone(str(tmp_path), strict=False).identity()["architecture"]
    assert facts["misfits"] == {"missing": ["layernorm.bias", "layernorm.weight"]}


def test_a_classifier_without_pooler_gives_the_mean_of_its_patches(transformers, tmp_path, image):
    save(transformers, tmp_path, "vit")
    config = transformers.ViTConfig.from_pretrained(tmp_path)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    backbone = HuggingFaceBackbone(str(tmp_path))
    given = backbone.extract(backbone.transform(image)[None], ["pooled", "tokens"])
    torch.testing.assert_close(given["pooled"], given["tokens"][:, 1:].mean(1))
    assert "misfits" not in backbone.identity()["architecture"]


def test_a_masked_autoencoder_sees_all_patches_in_their_order(transformers, tmp_path, image):
    network = save(transformers, tmp_path, "mae")
    backbone = HuggingFaceBackbone(str(tmp_path))
    batch = backbone.transform(image)[None]
    given = backbone.extract(batch, backbone.kinds)
    assert backbone.shapes == {"pooled": (24,), "tokens": (17, 24), "map": (24, 4, 4)}
    with torch.no_grad():
        parts = network.embeddings
        hidden = parts.patch_embeddings(batch) + parts.position_embeddings[:, 1:]
        hidden = torch.cat([parts.cls_token + parts.position_embeddings[:, :1], hidden], dim=1)
        for layer in network.layers:
            hidden = layer(hidden)
    torch.testing.assert_close(given["tokens"], network.layernorm(hidden))
    torch.testing.assert_close(given["pooled"], given["tokens"][:, 1:].mean(1))
    architecture = backbone.identity()["architecture"]
    assert architecture["masking"] == "none, patches in order"
    assert architecture["config"]["mask_ratio"] == 0


def test_both_tokens_of_a_distilled_model_are_left_out_of_the_patches(transformers, tmp_path, image):
    network = save(transformers, tmp_path, "deit")
    backbone = HuggingFaceBackbone(str(tmp_path), taps=["layernorm"])
    batch = backbone.transform(image)[None]
    given = backbone.extract(batch, backbone.kinds)
    with torch.no_grad():
        tokens = network(pixel_values=batch).last_hidden_state
    assert backbone.n_prefix_tokens == 2
    torch.testing.assert_close(given["map"].flatten(2).transpose(1, 2), tokens[:, 2:])
    torch.testing.assert_close(given["layernorm"], tokens[:, 2:].mean(1))
    assert backbone.identity()["n_prefix_tokens"] == {"layernorm": 2, "output": 2}


def test_detection_tokens_behind_the_patches_come_to_the_front(transformers, tmp_path, image):
    network = save(transformers, tmp_path, "yolos")
    backbone = HuggingFaceBackbone(str(tmp_path), taps=["layernorm", "layernorm:tokens"])
    batch = backbone.transform(image)[None]
    given = backbone.extract(batch, backbone.kinds)
    with torch.no_grad():
        tokens = network(pixel_values=batch).last_hidden_state
    assert (backbone.n_prefix_tokens, tokens.shape[1]) == (6, 22)
    torch.testing.assert_close(given["map"].flatten(2).transpose(1, 2), tokens[:, 1:17])
    torch.testing.assert_close(given["tokens"], torch.cat([tokens[:, :1], tokens[:, 17:], tokens[:, 1:17]], dim=1))
    torch.testing.assert_close(given["layernorm:tokens"], given["tokens"])
    torch.testing.assert_close(given["layernorm"], tokens[:, 1:17].mean(1))


def test_a_map_has_no_class_token_in_it(transformers, tmp_path, image):
    save(transformers, tmp_path, "cvt")
    backbone = HuggingFaceBackbone(str(tmp_path))
    given = backbone.extract(backbone.transform(image)[None], backbone.kinds)
    assert (backbone.n_prefix_tokens, backbone.shapes["map"]) == (0, (24, 2, 2))
    torch.testing.assert_close(given["pooled"], given["map"].mean((2, 3)))
    assert backbone.identity()["n_prefix_tokens"] == {"output": 0}


@pytest.mark.parametrize("model", ["vit", "dinov2", "resnet", "clip"])
def test_what_was_right_keeps_its_name(transformers, tmp_path, model):
    save(transformers, tmp_path, model)
    identity = HuggingFaceBackbone(str(tmp_path)).identity()
    assert set(identity) == {"architecture", "weights", "preprocessing", "precision", "reading"}
    assert "masking" not in identity["architecture"]


def test_patches_that_fill_no_grid_are_asked_about(transformers, tmp_path):
    save(transformers, tmp_path, "vit")
    with pytest.raises(InputError, match=r"has 17 tokens, of which 14 .*set backbone\.n_prefix_tokens"):
        _ = HuggingFaceBackbone(str(tmp_path), n_prefix_tokens=3).kinds
    assert HuggingFaceBackbone(str(tmp_path), n_prefix_tokens=3, layout="sequence").n_prefix_tokens == 3


@cache
def contract_case():
    """A folder with a small model, the same whenever it is asked for."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    folder = scratch()
    config = transformers.ViTConfig(**small, image_size=32, patch_size=8)
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return {"name": folder}


@pytest.mark.slow  # compiles
@pytest.mark.parametrize("model", ["vit", "mae", "yolos"])
def test_models_of_images_are_compiled_near_what_they_give_as_they_are(transformers, tmp_path, monkeypatch, model):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    save(transformers, tmp_path / model, model)
    images = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    eager, fast = (load(str(tmp_path / model), compile=flag) for flag in (False, True))
    with torch.inference_mode():
        expected, found = (backbone.extract(images, list(backbone.kinds)) for backbone in (eager, fast))
    assert list(found) == list(expected)
    for kind in found:
        torch.testing.assert_close(found[kind], expected[kind], rtol=1e-3, atol=1e-4)
    assert fast.identity() == {**eager.identity(), "compiled": True}
