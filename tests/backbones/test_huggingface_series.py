import numpy as np
import pytest
import torch
from scratch import scratch

from probe.backbones.huggingface_series import SeriesModel, chronos_words
from probe.core.errors import InputError

transformers = pytest.importorskip("transformers")
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2}
CHRONOS = {
    "tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
    "n_tokens": 64, "n_special_tokens": 2, "pad_token_id": 0, "eos_token_id": 1, "use_eos_token": True,
    "context_length": 64,
}  # fmt: skip


def config(kind, **more):
    if kind == "patchtst":
        sizes = {"context_length": 32, "patch_length": 8, "patch_stride": 4, "d_model": 16, "ffn_dim": 32}
        return transformers.PatchTSTConfig(**SMALL, **sizes, **more)
    if kind == "timesfm":
        sizes = {"patch_length": 8, "context_length": 64, "horizon_length": 8, "hidden_size": 16, "head_dim": 8}
        return transformers.TimesFmConfig(**SMALL, **sizes, intermediate_size=32, **more)
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return transformers.T5Config(**sizes, chronos_config={**CHRONOS, **more})


def folder(kind, **more):
    torch.manual_seed(5)
    path, made = scratch(), config(kind, **more)
    transformers.AutoModel.from_config(made).save_pretrained(path)
    return path


def contract_case():
    return {"name": folder("patchtst")}


@pytest.fixture(params=["patchtst", "timesfm", "chronos"], scope="module")
def backbone(request):
    return SeriesModel(folder(request.param))


def series(*lengths, channels=2):
    random = np.random.default_rng(0)
    return [3 * random.normal(size=(length, channels)).cumsum(axis=0) + 1 for length in lengths]


def features(backbone, rows, kind="pooled"):
    return backbone.extract(backbone.collate([backbone.transform(row) for row in rows]), [kind])[kind]


def test_a_folder_gives_a_token_for_each_variate_and_their_mean(backbone):
    rows = series(32, 32)
    tokens = features(backbone, rows, "tokens")
    assert tokens.shape == (2, 2, 16)
    torch.testing.assert_close(features(backbone, rows), tokens.mean(dim=1))
    turned = features(backbone, [row[:, ::-1].copy() for row in rows], "tokens")
    torch.testing.assert_close(turned, tokens.flip(1), rtol=0, atol=1e-5)


def test_rows_of_other_lengths_beside_a_row_and_pad_values_change_nothing(backbone):
    rows = series(32, 19, 70, 10)
    batch = backbone.collate([backbone.transform(row) for row in rows])
    together = backbone.extract(batch, ["pooled"])["pooled"]
    alone = torch.cat([features(backbone, [row]) for row in rows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    batch["series"][~batch["mask"]] = 1e3
    torch.testing.assert_close(backbone.extract(batch, ["pooled"])["pooled"], together, rtol=0, atol=1e-5)
    assert torch.isfinite(together).all()


def test_the_last_steps_of_a_longer_series_are_read(backbone):
    (row,) = series(200)
    other = row.copy()
    other[:100] += 50
    torch.testing.assert_close(features(backbone, [row]), features(backbone, [other]), rtol=0, atol=0)


def test_features_are_those_of_the_model_itself():
    path = folder("patchtst", do_mask_input=True)
    model = transformers.PatchTSTModel.from_pretrained(path, do_mask_input=False).eval()
    (row,) = series(32, channels=1)
    with torch.no_grad():
        expected = model(past_values=torch.tensor(row, dtype=torch.float32)[None]).last_hidden_state.mean(dim=(1, 2))
    backbone = SeriesModel(path)
    torch.testing.assert_close(features(backbone, [row]), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(features(backbone, [row]), features(backbone, [row]), rtol=0, atol=0)


def test_chronos_reads_numbers_over_their_mean_magnitude():
    backbone = SeriesModel(folder("chronos"))
    (row,) = series(40)
    # A power of two, so that nothing is rounded into another bin.
    torch.testing.assert_close(features(backbone, [row]), features(backbone, [8 * row]), rtol=0, atol=0)
    seen = {}
    encoder = backbone.network.get_encoder()
    handle = encoder.register_forward_pre_hook(lambda _, args, given: seen.update(given), with_kwargs=True)
    features(backbone, [np.array([[-1.0], [0.0], [1.0], [2.0]])])
    handle.remove()
    centres = np.linspace(-15, 15, 61)
    expected = [int(np.abs(centres - value).argmin()) + 3 for value in (-1, 0, 1, 2)]
    assert seen["input_ids"].tolist() == [[*expected, 1]]
    with pytest.raises(InputError, match="makes words by ChronosBolt, expected MeanScaleUniformBins"):
        SeriesModel(folder("chronos", tokenizer_class="ChronosBolt"))
    with pytest.raises(InputError, match="is causal, expected one with an encoder: give one of the chronos-t5 models"):
        SeriesModel(folder("chronos", model_type="causal"))


def drawn_config(kind, seed):
    """A configuration of sizes drawn at random, and its context."""
    rng = np.random.default_rng(seed)
    heads, patch = int(rng.integers(1, 4)), int(rng.integers(2, 9))
    context = patch * int(rng.integers(3, 9))
    layers = {"num_hidden_layers": int(rng.integers(1, 4)), "num_attention_heads": heads}
    if kind == "patchtst":
        sizes = {"context_length": context, "patch_length": patch, "patch_stride": int(rng.integers(1, patch + 1)),
                 "d_model": 8 * heads, "ffn_dim": 24, "scaling": ["std", "mean", None][seed % 3],
                 "use_cls_token": False, "do_mask_input": seed % 2 == 0}  # fmt: skip
        return transformers.PatchTSTConfig(**layers, **sizes), context
    sizes = {"patch_length": patch, "context_length": context, "horizon_length": patch, "head_dim": 8,
             "hidden_size": 8 * heads, "intermediate_size": 24}  # fmt: skip
    return transformers.TimesFmConfig(**layers, **sizes), context


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["patchtst", "timesfm"])
def test_features_of_any_configuration_are_those_of_the_model_whatever_stands_beside_a_row(kind, seed, tmp_path):
    torch.manual_seed(seed)
    made, context = drawn_config(kind, seed)
    model = transformers.AutoModel.from_config(made).eval()
    model.save_pretrained(tmp_path)
    backbone = SeriesModel(str(tmp_path))
    rows = series(context, context + 7, max(3, context // 3), context - 1, channels=3)
    together = features(backbone, rows, "tokens")
    assert together.shape == (4, 3, made.d_model if kind == "patchtst" else made.hidden_size)
    torch.testing.assert_close(torch.cat([features(backbone, [row], "tokens") for row in rows]), together, atol=1e-5,
                               rtol=1e-4)  # fmt: skip
    for row, found in zip(rows, together, strict=True):
        whole = torch.tensor(row[-context:].T, dtype=torch.float32)
        n_patches = -(-whole.shape[1] // made.patch_length)
        missing = context - whole.shape[1]
        padded = torch.nn.functional.pad(whole, (missing, 0))
        there = (torch.arange(context) >= missing).expand_as(padded)
        with torch.no_grad():
            if kind == "patchtst":
                model.do_mask_input, model.masking = False, torch.nn.Identity()
                states = model(past_values=padded[..., None], past_observed_mask=there[..., None]).last_hidden_state[
                    :, 0
                ]
            else:  # padded to its whole context, as it was trained; patches of nothing say nothing
                states = model(past_values=padded, past_values_padding=(~there).float(),
                               freq=torch.zeros(3, 1, dtype=torch.int32)).last_hidden_state[:, -n_patches:]  # fmt: skip
        torch.testing.assert_close(found, states.mean(dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.1, -2.5, 3.25, 0.0, 7.75, -0.3, 1000.0], [2049, 2047, 2052, 2049, 2056, 2049, 2991]),
        ([0.0, 0.0, 0.0], [2049, 2049, 2049]),
        ([1e-12, -3e-12, 2e-12], [2117, 1844, 2185]),
        ([5.0, 5.0, 5.0], [2185, 2185, 2185]),
        ([-1000.0, 0.001, 1.0, *[0.01] * 40], [3, 2049, 2055, *[2049] * 40]),
    ],
)
def test_words_are_those_of_the_released_tokenizer(row, expected):
    # By MeanScaleUniformBins of chronos-forecasting 2.3.2.
    facts = {**CHRONOS, "n_tokens": 4096}
    assert chronos_words(torch.tensor([row]), facts).tolist() == [[*expected, 1]]
    assert chronos_words(torch.tensor([row]), facts | {"use_eos_token": False}).tolist() == [expected]


def test_weights_variates_and_normalisation_are_part_of_the_identity():
    path = folder("timesfm")
    made = [SeriesModel(path), SeriesModel(path, pretrained=False), SeriesModel(path, normalize="instance")]
    made.append(SeriesModel(path, pooling="variates"))
    assert len({str(backbone.identity()) for backbone in made}) == 4
    assert str(SeriesModel(path).identity()) == str(made[0].identity())
    assert path not in str(made[0].identity())
    assert features(made[3], series(16)).shape == (1, 32)


def test_a_model_of_several_channels_reads_them_together_and_no_others():
    backbone = SeriesModel(folder("patchtst", num_input_channels=3))
    assert features(backbone, series(32, channels=3), "tokens").shape == (1, 3, 16)
    with pytest.raises(InputError, match=r"a series has 2 channels, backbone huggingface/.* was made for 3"):
        features(backbone, series(32))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "backbone=huggingface_series needs a model, none is given: set backbone.name="),
        ({"name": "nowhere", "pooling": "last"}, "pooling is 'last', expected one of mean, variates"),
        ({"name": "nowhere", "normalize": "z"}, "normalize is 'z', expected one of none, instance"),
    ],
)
def test_what_it_cannot_be_is_refused(options, text):
    with pytest.raises(InputError, match=text):
        SeriesModel(**options)


def test_models_of_other_rows_are_refused_by_name(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a vit, expected one of patchtst, timesfm, chronos: set backbone=huggin"):
        SeriesModel(str(tmp_path))
