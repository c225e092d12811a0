import functools
import os

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from probe.backbones.timm import TimmBackbone
from probe.core.errors import InputError

VIT = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3}
CNN = "resnet10t"


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8))


def cnn(**options):
    return TimmBackbone(CNN, **{"pretrained": False, **options})


def vit(**options):
    return TimmBackbone("vit_tiny_patch16_224", **{"pretrained": False, "model_kwargs": VIT, **options})


def normalised(backbone, image):
    """A batch of one image as timm's own transform gives it."""
    config = timm.data.resolve_model_data_config(backbone.network)
    config["input_size"] = (3, *backbone.image_size)
    return timm.data.create_transform(**config, is_training=False)(image)[None]


def test_cnn_gives_its_own_pooling_its_map_and_the_positions_as_tokens(image):
    backbone = cnn()
    given = backbone.extract(backbone.transform(image)[None], backbone.kinds)
    with torch.no_grad():
        output = backbone.network.forward_features(normalised(backbone, image))
        pooled = backbone.network.forward_head(output, pre_logits=True)
    assert torch.equal(given["map"], output)
    assert torch.equal(given["tokens"], output.flatten(2).transpose(1, 2))
    assert torch.equal(given["pooled"], pooled)
    assert backbone.n_prefix_tokens == 0


def test_vit_gives_tokens_with_prefix_first_and_a_map_of_the_patches(image):
    backbone = vit()
    given = backbone.extract(backbone.transform(image)[None], backbone.kinds)
    with torch.no_grad():
        output = backbone.network.forward_features(normalised(backbone, image))
        pooled = backbone.network.forward_head(output, pre_logits=True)
    assert backbone.shapes == {"pooled": (48,), "tokens": (17, 48), "map": (48, 4, 4)}
    assert backbone.n_prefix_tokens == 1
    assert torch.equal(given["tokens"], output)
    assert torch.equal(given["pooled"], pooled)
    assert torch.equal(given["map"][0, :, 1, 2], output[0, 1 + 4 + 2])


def test_channels_last_maps_are_turned(image):
    small = {"img_size": 64, "window_size": 4, "depths": (1, 1)}
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", False, model_kwargs=small)
    given = backbone.extract(backbone.transform(image)[None], ["map", "pooled"])
    with torch.no_grad():
        output = backbone.network.forward_features(normalised(backbone, image))
    assert torch.equal(given["map"], output.permute(0, 3, 1, 2))
    torch.testing.assert_close(given["pooled"], given["map"].mean((2, 3)))


def test_models_with_several_outputs_give_pooled_alone():
    assert TimmBackbone("crossvit_tiny_240", False).kinds == ("pooled",)


@pytest.mark.parametrize("pool", ["avg", "cls", "none"])
def test_other_poolings_read_the_final_tokens(image, pool):
    backbone = vit(pool=pool)
    given = backbone.extract(backbone.transform(image)[None], backbone.kinds)
    tokens = given["tokens"]
    expected = {"avg": tokens[:, 1:].mean(1), "cls": tokens[:, 0], "none": None}[pool]
    assert (given.get("pooled") is None) if expected is None else torch.equal(given["pooled"], expected)


def test_models_that_keep_class_tokens_alone_have_no_patches():
    assert TimmBackbone("pit_ti_224", False).shapes == {"pooled": (256,), "tokens": (1, 256)}
    with pytest.raises(InputError, match=r"there is no patch to average: set backbone.pool=own"):
        _ = TimmBackbone("pit_ti_224", False, pool="avg").kinds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("build", [cnn, vit])
def test_images_travel_as_bytes_and_the_network_sees_what_timm_gives(build, precision, image, monkeypatch):
    backbone, seen = build(precision=precision), []
    features = backbone._features
    monkeypatch.setattr(backbone, "_features", lambda batch: seen.append(batch) or features(batch))
    pixels = backbone.transform(image)
    backbone.extract(pixels[None], ["pooled"])
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert torch.equal(seen[-1], normalised(backbone, image))
    assert backbone._layout == torch.channels_last
    assert seen[-1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("build", [cnn, vit])
def test_bytes_have_the_features_of_the_floats_that_timm_gives(build, image):
    backbone = build()
    floats = normalised(backbone, image)
    before = floats.clone()
    found, expected = (backbone.extract(batch, backbone.kinds) for batch in (backbone.transform(image)[None], floats))
    assert all(torch.equal(found[kind], expected[kind]) for kind in backbone.kinds)
    assert torch.equal(floats, before)


def test_greyscale_is_read_as_rgb():
    assert cnn().transform(Image.new("L", (50, 40))).shape == (3, 176, 176)


def test_img_size_and_crop_change_transform_and_identity(image):
    plain, small, cropped = (
        vit(model_kwargs=None),
        vit(model_kwargs=None, img_size=96),
        vit(model_kwargs=None, crop_pct=0.5),
    )
    assert small.shapes["tokens"] == (1 + 36, 192)
    assert not torch.equal(plain.transform(image), cropped.transform(image))
    assert len({str(b.identity()) for b in (plain, small, cropped)}) == 3
    assert cropped.identity()["preprocessing"]["crop_pct"] == 0.5


def test_checkpoint_round_trip_leaves_the_classifier_out(tmp_path, image):
    torch.manual_seed(5)
    network = timm.create_model(CNN, num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "seven.safetensors")
    backbone = cnn(pretrained=True, checkpoint=str(tmp_path / "seven.safetensors"))
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(normalised(backbone, image)), pre_logits=True)
    torch.testing.assert_close(backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"], expected)
    assert backbone.name == "timm/resnet10t:seven"
    assert "misfits" not in backbone.identity()["architecture"]


def test_position_embeddings_of_another_size_are_resampled_by_timm(tmp_path):
    large = timm.create_model("vit_tiny_patch16_224", **{**VIT, "img_size": 96})
    torch.save(large.state_dict(), tmp_path / "large.pth")
    backbone = vit(checkpoint=str(tmp_path / "large.pth"))
    assert torch.equal(backbone.network.blocks[0].attn.qkv.weight, large.blocks[0].attn.qkv.weight)
    assert backbone.shapes["tokens"] == (17, 48)


def test_misfitting_checkpoint_is_refused_and_strict_false_records_it(tmp_path):
    state = timm.create_model(CNN).state_dict()
    del state["layer1.0.conv1.weight"], state["layer2.0.conv1.weight"]
    save_file(state | {"extra": torch.zeros(1)}, tmp_path / "a.safetensors")
    path = str(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"2 missing keys \(layer1\.0\.conv1\.weight.*1 unexpected keys \(extra\)"):
        cnn(checkpoint=path)
    facts = cnn(checkpoint=path, strict=False).identity()["architecture"]
    assert facts["misfits"] == {
        "missing": ["layer1.0.conv1.weight", "layer2.0.conv1.weight"],
        "unexpected": ["extra"],
    }


def test_random_weights_follow_the_seed():
    assert cnn().identity() == cnn().identity() != cnn(seed=1).identity()
    assert cnn().name == "timm/resnet10t-random"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "resnet19"}, r"timm has no model 'resnet19', close to it are .*resnet18.*one of the \d+ names"),
        ({"name": "resnet18.nobody_in1k"}, r"no weights 'resnet18\.nobody_in1k', there are resnet18\.a1_in1k"),
        ({"name": CNN, "model_kwargs": {"nonsense": 1}}, "does not take model_kwargs {'nonsense': 1}"),
        ({"name": CNN, "pool": "max"}, "pool is 'max', expected one of own, avg, cls, none"),
        ({"name": CNN, "pool": "cls"}, "no prefix tokens: set backbone.pool=avg"),
        ({"name": CNN, "crop_pct": 1.5}, r"crop_pct is 1\.5, expected a share in \(0, 1\]"),
        ({"name": "tf_mixnet_s", "model_kwargs": {"in_chans": 4}}, "tf_mixnet_s reads 4 channels, expected 3, or 1"),
    ],
)
def test_impossible_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        TimmBackbone(**{"pretrained": False, **options})


def test_a_failed_download_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    expected = r"resnet10t cannot be had \(We couldn't connect.*backbone\.checkpoint=<path>.*pretrained=false"
    with pytest.raises(InputError, match=expected):
        TimmBackbone(CNN)


def test_local_dir_is_read_as_timm_reads_it(tmp_path):
    network = timm.create_model(CNN, num_classes=3)
    timm.models.save_for_hf(network, tmp_path, model_config={"num_classes": 3})
    backbone = TimmBackbone(f"local-dir:{tmp_path}")
    assert torch.equal(backbone.network.conv1[0].weight, network.conv1[0].weight)


class Touches:
    """Runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_local_dir_is_not_unpickled_by_a_timm_that_would(tmp_path, monkeypatch):
    torch.save({"weight": Touches(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    older = functools.partial(torch.load, weights_only=False)
    monkeypatch.setattr(timm, "create_model", lambda name, **_: older(tmp_path / "pytorch_model.bin"))
    with pytest.raises(InputError, match="cannot be had"):
        TimmBackbone(f"local-dir:{tmp_path}")
    assert not (tmp_path / "ran").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def embeddings(size, **options):
    torch.manual_seed(3)
    network = timm.create_model("vit_tiny_patch16_224", **{**VIT, "img_size": size}, **options).eval()
    torch.nn.init.normal_(network.pos_embed)
    return network


def test_a_checkpoint_of_the_size_of_the_images_is_not_resampled(tmp_path):
    network = embeddings(96)
    torch.save({"model": network.state_dict()}, tmp_path / "a.pth")
    arguments = {key: value for key, value in VIT.items() if key != "img_size"}
    backbone = vit(model_kwargs=arguments, img_size=96, checkpoint=str(tmp_path / "a.pth"))
    assert torch.equal(backbone.network.pos_embed, network.pos_embed)


def test_a_checkpoint_of_another_size_is_resampled_once(tmp_path):
    network = embeddings(96)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    arguments = {key: value for key, value in VIT.items() if key != "img_size"}
    backbone = vit(model_kwargs=arguments, img_size=128, checkpoint=str(tmp_path / "a.pth"))
    network.set_input_size(img_size=(128, 128))
    torch.testing.assert_close(backbone.network.pos_embed, network.pos_embed)


def test_a_checkpoint_of_the_networks_own_size_is_resampled_as_ever(tmp_path):
    network = embeddings(224)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    arguments = {key: value for key, value in VIT.items() if key != "img_size"}
    backbone = vit(model_kwargs=arguments, img_size=96, checkpoint=str(tmp_path / "a.pth"))
    network.set_input_size(img_size=(96, 96))
    assert torch.equal(backbone.network.pos_embed, network.pos_embed)


def test_the_teacher_of_a_training_script_is_found_in_its_file(tmp_path):
    state = cnn().network.state_dict()
    torch.save({"model": {f"teacher.backbone.{key}": value for key, value in state.items()}}, tmp_path / "a.pth")
    for prefix in (None, "teacher.backbone."):
        backbone = cnn(seed=5, checkpoint=str(tmp_path / "a.pth"), checkpoint_prefix=prefix)
        assert backbone.hash_weights() == cnn().hash_weights()


def test_a_model_of_one_channel_reads_brightness(image):
    backbone = cnn(model_kwargs={"in_chans": 1})
    pixels = backbone.transform(image)
    assert pixels.shape[0] == 1
    assert torch.equal(pixels, backbone.transform(image.convert("L")))
    assert backbone.identity()["preprocessing"]["mean"] == [pytest.approx(sum((0.485, 0.456, 0.406)) / 3)]
    assert backbone.extract(pixels[None], ["pooled"])["pooled"].shape == (1, 512)


def test_a_model_that_gives_maps_alone_gives_the_last(image):
    backbone = cnn(model_kwargs={"features_only": True})
    assert backbone.shapes == {"pooled": (512,), "tokens": (36, 512), "map": (512, 6, 6)}
    batch = backbone.transform(image)[None]
    given = backbone.extract(batch, ["pooled", "map"])
    torch.testing.assert_close(given["pooled"], given["map"].mean((2, 3)))


def test_a_tapped_map_is_read_by_its_own_axes_and_named_anew_where_they_were_confused():
    batch = torch.rand(1, 3, 224, 224)
    plain = TimmBackbone("swin_tiny_patch4_window7_224", pretrained=False, taps=["layers.3"])
    swin = TimmBackbone("swin_tiny_patch4_window7_224", pretrained=False, taps=["patch_embed.proj", "layers.3"])
    given = swin.extract(batch, swin.taps)
    with torch.no_grad():
        first = swin.network.patch_embed.proj(batch)
    torch.testing.assert_close(given["patch_embed.proj"], first.mean((2, 3)))
    assert swin.shapes["layers.3"] == (768,)
    assert swin.identity() == {**plain.identity(), "channels_last": {"patch_embed.proj": False}}


def contract_case():
    return {"name": "resnet10t", "pretrained": False, "img_size": 64}
