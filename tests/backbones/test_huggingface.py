import json

import numpy as np
import pytest
import torch
from PIL import Image

from probe.backbones.huggingface import HuggingFaceBackbone
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
