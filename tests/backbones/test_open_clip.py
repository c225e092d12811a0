import contextlib
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.shared import parts
from probe.core.errors import InputError

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "probe-test-vit": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "probe-test-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
    "probe-test-timm": {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"},
}


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    for name, tower in TOWERS.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXT}))
    open_clip.add_model_config(folder)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))


def build(name="probe-test-vit", **options):
    return OpenClipBackbone(name, **{"pretrained": None, **options})


def normalised(image, name="probe-test-vit"):
    """A batch of one image as open_clip's own transform gives it."""
    _, _, transform = open_clip.create_model_and_transforms(name, pretrained_text=False)
    return transform(image)[None]


@pytest.mark.parametrize("name", TOWERS)
def test_pooled_is_what_encode_image_gives(name, image):
    backbone = build(name)
    with torch.no_grad():
        expected = backbone._model.encode_image(normalised(image, name))
    assert backbone.shapes["pooled"] == (24,)
    torch.testing.assert_close(backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"], expected)


@pytest.mark.parametrize(
    ("name", "tokens", "grid", "n_prefix"),
    [
        ("probe-test-vit", (17, 32), (32, 4, 4), 1),
        ("probe-test-resnet", (4, 256), (256, 2, 2), 0),
        ("probe-test-timm", (4, 512), (512, 2, 2), 0),
    ],
)
def test_tokens_and_map_of_each_sort_of_tower(name, tokens, grid, n_prefix):
    backbone = build(name)
    assert backbone.shapes == {"pooled": (24,), "tokens": tokens, "map": grid}
    assert backbone.n_prefix_tokens == n_prefix


def test_class_token_before_the_projection_is_the_pooled_feature(image):
    backbone = build(projection=False)
    given = backbone.extract(backbone.transform(image)[None], ["pooled", "tokens"])
    assert given["pooled"].shape == (1, 32)
    torch.testing.assert_close(given["pooled"], given["tokens"][:, 0])


def test_projection_of_the_unprojected_is_the_projected(image):
    plain, projected = build(projection=False), build()
    batch = plain.transform(image)[None]
    with torch.no_grad():
        expected = plain.extract(batch, ["pooled"])["pooled"] @ projected.network.proj
    torch.testing.assert_close(projected.extract(batch, ["pooled"])["pooled"], expected)
    assert build("probe-test-timm", projection=False).shapes["pooled"] == (512,)


def test_normalised_features_have_unit_length_and_another_identity(image):
    backbone = build(normalize=True)
    pooled = backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"]
    torch.testing.assert_close(pooled.norm(dim=-1), torch.ones(1))
    identities = [build(**o).identity() for o in ({}, {"normalize": True}, {"projection": False}, {"seed": 1})]
    assert len({json.dumps(i, sort_keys=True) for i in identities}) == 4


def test_images_travel_as_bytes_and_the_network_sees_what_open_clip_gives(image, monkeypatch):
    backbone, seen = build(), []
    features = backbone._features
    monkeypatch.setattr(backbone, "_features", lambda batch: seen.append(batch) or features(batch))
    pixels = backbone.transform(image)
    backbone.extract(pixels[None], ["pooled"])
    assert pixels.dtype == torch.uint8
    assert torch.equal(seen[-1], normalised(image))


def test_text_features_are_those_of_encode_text():
    backbone = build()
    text = backbone.text
    tokens = text.tokenize(["a photo of a cat", "a photo of a dog"])
    assert tokens.shape == (2, 77)
    features = text.extract(torch.stack([text.transform(row) for row in tokens]), ["pooled"])["pooled"]
    with torch.no_grad():
        expected = backbone._model.encode_text(torch.from_numpy(tokens), normalize=True)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2))
    assert text.temperature == pytest.approx(0.07)


def test_text_identity_sees_text_weights_alone():
    plain, beside, inside = build(), build(normalize=True), build()
    with torch.no_grad():
        beside._model.visual.proj += 1
        beside._model.logit_scale += 1
        inside._model.text_projection += 1
    assert plain.text.identity() == beside.text.identity() != inside.text.identity()


def test_text_tower_is_frozen_and_leaves_the_image_tower_where_it_is():
    backbone = build()
    text = backbone.text.to("meta")
    assert not any(p.requires_grad or p.is_meta for p in backbone.network.parameters())
    assert all(p.is_meta and not p.requires_grad for p in text.network.parameters())
    assert not any(module.training for module in text.network.modules())


def test_images_before_the_projection_have_no_texts_beside_them():
    with pytest.raises(InputError, match=r"images before their projection.*set backbone\.projection=true"):
        _ = build(projection=False).text


def test_checkpoint_round_trip(tmp_path, image):
    torch.manual_seed(9)
    model = open_clip.create_model("probe-test-vit", pretrained_text=False).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "mine.safetensors")
    backbone = build(checkpoint=str(tmp_path / "mine.safetensors"))
    with torch.no_grad():
        expected = model.encode_image(normalised(image))
    torch.testing.assert_close(backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"], expected)
    assert backbone.name == "open_clip/probe-test-vit:mine"


def test_misfitting_checkpoint_is_refused_and_strict_false_records_it(tmp_path):
    state = open_clip.create_model("probe-test-vit", pretrained_text=False).state_dict()
    del state["visual.proj"]
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"1 missing keys \(visual\.proj\); 1 unexpected keys \(extra\)"):
        build(checkpoint=str(tmp_path / "a.pt"))
    facts = build(checkpoint=str(tmp_path / "a.pt"), strict=False).identity()["architecture"]
    assert facts["misfits"] == {"missing": ["visual.proj"], "unexpected": ["extra"]}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "ViT-B-33"}, r"no model 'ViT-B-33', close to it are ViT-B-32"),
        ({"name": "ViT-B-32", "pretrained": "mine"}, r"no weights 'mine' of ViT-B-32, there are openai.*to null"),
        ({"name": "probe-test-resnet", "projection": False}, r"pools and projects in one step: set backbone\.proj"),
        ({"checkpoint": "nowhere.pt"}, r"checkpoint nowhere\.pt is no file"),
    ],
)
def test_impossible_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        build(**options)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"a\.pt cannot be read .*give an undamaged file"):
        build(checkpoint=str(tmp_path / "a.pt"))


def test_a_failed_download_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise RuntimeError("Failed to download")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(InputError, match=r"weights openai of open_clip model ViT-B-32 cannot.*pretrained=null"):
        OpenClipBackbone("ViT-B-32", pretrained="openai")


def test_weights_trained_with_quickgelu_get_it(monkeypatch):
    seen = {}

    def stop(name, **options):
        seen.update(options)
        raise RuntimeError("stop here")

    monkeypatch.setattr(open_clip, "create_model", stop)
    for tag, expected in (("openai", True), ("laion2b_s34b_b79k", False)):
        with pytest.raises(InputError):
            OpenClipBackbone("ViT-B-32", pretrained=tag)
        assert seen["force_quick_gelu"] is expected


def contract_case():
    return {"name": "ViT-S-32-alt", "pretrained": None}


def test_a_folder_of_a_model_runs_no_code_through_its_tokenizer(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    mark, tower = tmp_path / "ran", TOWERS["probe-test-vit"]
    text = TEXT | {"hf_tokenizer_name": "own", "tokenizer_kwargs": {"trust_remote_code": True}}
    told = {"embed_dim": 24, "vision_cfg": tower, "text_cfg": text}
    files = {
        "open_clip_config.json": json.dumps({"model_cfg": told, "preprocess_cfg": {}}),
        "config.json": json.dumps({"model_type": "bert"}),
        "tokenizer_config.json": json.dumps(
            {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
        ),
        "own.py": f"open({str(mark)!r}, 'w').close()\nfrom transformers import BertTokenizer as Own\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    handed, made = [], open_clip.factory.HFTokenizer
    monkeypatch.setattr(open_clip.factory, "HFTokenizer", lambda *a, **k: handed.append(k) or made(*a, **k))
    backbone = build(f"local-dir:{tmp_path}")
    # Versions of transformers differ in whether they refuse such a tokenizer or take one of their own.
    with contextlib.suppress(InputError):
        backbone.text.tokenize(["a"])
    assert [given["trust_remote_code"] for given in handed] == [False]
    assert not mark.exists()


@pytest.mark.parametrize("name", TOWERS)
def test_copies_of_a_tower_run_side_by_side_and_leave_it_as_it_is(name, monkeypatch):
    backbone = build(name)
    monkeypatch.setattr(parts, "PART_PIXELS", 2 * backbone.image_size[0] ** 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    batch, weights = torch.randint(0, 256, (8, 3, *backbone.image_size), dtype=torch.uint8), backbone.hash_weights()
    expected = backbone._run(batch, [])["pooled"]
    assert len(backbone._replicas(2)) == 2
    torch.testing.assert_close(backbone.extract(batch, ["pooled"])["pooled"], expected, rtol=1e-4, atol=1e-5)
    assert backbone.hash_weights() == weights
