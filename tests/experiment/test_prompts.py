"""Zero-shot classification from texts to a run folder, with a random CLIP model."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from first_rows import first_rows

from probe.backbones.open_clip import OpenClipBackbone
from probe.backbones.shared.views import MultiView
from probe.backbones.tiny import TinyBackbone
from probe.core.base import Dataset
from probe.core.errors import DoesNotFit, InputError
from probe.core.hashing import hash_tensors
from probe.datasets.sklearn import load
from probe.experiment.prompts import prompts_of
from probe.experiment.request import Run, Teacher
from probe.experiment.run import run, run_once
from probe.features.store import FeatureStore
from probe.heads.clap import CLAP
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.language_guided import LanguageGuided
from probe.heads.lp_plus_plus import LPPlusPlus
from probe.heads.shared.head import Head
from probe.heads.tip_adapter import TipAdapter
from probe.heads.zero_shot import ZeroShot
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.few_shot import FewShot
from probe.protocols.full import Full

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


@pytest.fixture(scope="module", autouse=True)
def small_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    text = json.dumps({"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT})
    (folder / "probe-test-zero-shot.json").write_text(text)
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def backbone():
    return OpenClipBackbone("probe-test-zero-shot", pretrained=None)


@pytest.fixture(scope="module")
def dataset():
    return first_rows(load("digits"), 200)


@pytest.fixture
def request_of(tmp_path, backbone, dataset):
    def build(head=None, **options):
        settings = {"backbone": backbone, "dataset": dataset, "protocol": Full(), "device": "cpu"} | options
        store = FeatureStore(tmp_path / "cache")
        return Run(head=head or ZeroShot(), store=store, folder=tmp_path / "runs", **settings)

    return build


def result(folder: Path):
    return json.loads((folder / "result.json").read_text())


def test_logits_of_a_run_are_those_of_the_model_itself(request_of, backbone, dataset):
    request = request_of(ZeroShot(["a {}.", "the {}."]))
    folder = run(request)
    image = dataset.partitions["test"][3]
    _, _, transform = open_clip.create_model_and_transforms("probe-test-zero-shot", pretrained_text=False)
    with torch.no_grad():
        seen = backbone._model.encode_image(transform(image.convert("RGB"))[None], normalize=True)
        tokens = open_clip.get_tokenizer("probe-test-zero-shot")(
            [f"{article} {name}." for name in dataset.class_names for article in ("a", "the")]
        )
        read = backbone._model.encode_text(tokens, normalize=True).reshape(10, 2, 24).mean(1)
        expected = backbone._model.logit_scale.exp() * seen @ (read / read.norm(dim=1, keepdim=True)).T
    head = Head.load(folder / "head.safetensors")
    pooled = backbone.extract(backbone.transform(image)[None], ["pooled"])["pooled"].numpy()
    np.testing.assert_allclose(head.logits(pooled), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_a_run_moves_no_weight_of_either_tower(request_of, backbone):
    before = hash_tensors(backbone._model.state_dict())
    run(request_of())
    assert hash_tensors(backbone._model.state_dict()) == before
    assert not any(module.training for module in backbone._model.modules())
    assert not any(p.requires_grad for p in backbone._model.parameters())


def test_texts_are_extracted_once(request_of, monkeypatch):
    run(request_of())
    monkeypatch.setattr("probe.backbones.shared.open_clip_text.OpenClipText.extract", None)
    folder, is_new = run_once(request_of(protocol=FewShot(k=2)))
    assert is_new
    assert result(folder)["metrics"]["top1"]["value"] >= 0


def test_what_changes_a_logit_changes_the_run(request_of, dataset):
    renamed = Dataset(dataset.name, tuple(f"number {n}" for n in dataset.class_names), dataset.partitions)
    requests = [
        request_of(),
        request_of(ZeroShot("cifar")),
        request_of(ZeroShot(temperature=0.5)),
        request_of(dataset=renamed),
    ]
    assert len({run(request).name for request in requests}) == 4
    folder, is_new = run_once(request_of(ZeroShot("generic")))
    assert not is_new
    assert result(folder)["labels"]["head"] == "zero_shot"


def test_normalised_images_give_the_same_logits(request_of):
    plain, unit = (
        run(request_of(backbone=OpenClipBackbone("probe-test-zero-shot", pretrained=None, normalize=normalize)))
        for normalize in (False, True)
    )
    log_losses = [result(folder)["metrics"]["log_loss"]["value"] for folder in (plain, unit)]
    assert log_losses[0] == pytest.approx(log_losses[1], rel=1e-4)


@pytest.mark.parametrize("options", [{"calibrate": True}, {"protocol": ClassIncremental(n_tasks=2)}])
def test_other_ways_to_run_find_the_same_logits(request_of, options):
    plain, other = (result(run(request_of(**more)))["metrics"] for more in ({}, options))
    assert other["top1"] == plain["top1"]
    assert len(other) > len(plain)


def test_views_of_images_have_the_texts_of_their_backbone(request_of, backbone):
    plain, flipped = (result(run(request_of(backbone=b)))["texts"] for b in (backbone, MultiView(backbone, 2, "flips")))
    assert plain == flipped
    with pytest.raises(DoesNotFit, match="backbone tiny-random 2 crops has no text tower"):
        run(request_of(backbone=MultiView(TinyBackbone(pretrained=False))))


def test_another_tokenizer_makes_other_prompts(backbone, dataset, monkeypatch):
    first = prompts_of(ZeroShot(), backbone, dataset, {})
    monkeypatch.setattr(type(backbone.text), "tokenize", lambda self, texts: np.ones((len(texts), 77), np.int64))
    second = prompts_of(ZeroShot(), backbone, dataset, {})
    assert first.dataset.partitions["texts"].ids == second.dataset.partitions["texts"].ids
    assert first.describe() != second.describe()


def test_backbones_without_texts_are_refused_before_anything_is_extracted(request_of):
    unprojected = OpenClipBackbone("probe-test-zero-shot", pretrained=None, projection=False)
    tapped = OpenClipBackbone("probe-test-zero-shot", pretrained=None, taps=["ln_post"])
    cases = [
        ({"backbone": TinyBackbone()}, DoesNotFit, "backbone tiny has no text tower: set backbone=open_clip"),
        ({"backbone": unprojected}, DoesNotFit, r"before their projection.*set backbone\.projection=true"),
        ({"backbone": tapped, "reads": {"pooled": "ln_post"}}, DoesNotFit, "layer ln_post has no texts beside it"),
    ]
    for options, kind, text in cases:
        request = request_of(**options)
        with pytest.raises(kind, match=text):
            run(request)
        assert not request.store.root.exists()


def test_it_does_not_teach(request_of, backbone):
    with pytest.raises(InputError, match="head zero_shot cannot teach"):
        run(request_of(DualHeadKD(), teacher=Teacher(backbone, ZeroShot())))


@pytest.mark.parametrize(
    "head",
    [
        TipAdapter(alphas=3, betas=2),
        TipAdapter(train=True, epochs=2, alphas=3, betas=2),
        LPPlusPlus(max_iter=20),
        CLAP(max_iter=20),
        LanguageGuided(),
    ],
    ids=["tip_adapter", "trained", "lp_plus_plus", "clap", "language_guided"],
)
def test_few_shot_heads_read_the_texts_of_a_run(request_of, head):
    plain = run(request_of(protocol=FewShot(k=2)))
    folder = run(request_of(head, protocol=FewShot(k=2)))
    assert result(folder)["texts"]["prompts"] == result(plain)["texts"]["prompts"]
    assert result(folder)["protocol"]["rows"] == result(plain)["protocol"]["rows"]
    with pytest.raises(DoesNotFit, match="backbone tiny-random has no text tower: set backbone=open_clip"):
        run(request_of(head, backbone=TinyBackbone(pretrained=False)))


def test_language_guided_learns_class_after_class(request_of):
    tasks = result(run(request_of(LanguageGuided(), protocol=ClassIncremental(n_tasks=2))))
    at_once = result(run(request_of(LanguageGuided(alphas=[1.0]))))
    in_tasks = result(run(request_of(LanguageGuided(alphas=[1.0]), protocol=ClassIncremental(n_tasks=2))))
    assert in_tasks["metrics"]["top1"]["value"] == pytest.approx(at_once["metrics"]["top1"]["value"], abs=0.02)
    assert "average_incremental_accuracy" in tasks["metrics"] or len(tasks["metrics"]) > len(at_once["metrics"])


def test_texts_of_classes_are_read_without_a_bar_where_none_is_wanted(request_of, capfd):
    run(request_of(ZeroShot(), features={"progress": False}))
    assert "texts" not in capfd.readouterr().err
    run(request_of(ZeroShot(templates="cifar"), features={"progress": True}))
    assert "texts" in capfd.readouterr().err
