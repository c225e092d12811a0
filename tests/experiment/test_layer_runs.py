"""Runs on tapped layers and single attention heads, through the store."""

import numpy as np
import pytest
from first_rows import first_rows
from torch import nn

from probe.backbones.identity import IdentityBackbone
from probe.backbones.module import ModuleBackbone
from probe.backbones.timm import TimmBackbone
from probe.command.sweep import show_run
from probe.core.errors import DoesNotFit
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.moment_probing import MomentProbing
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.protocols.full import Full
from probe.results.reader import read_result

HEADS = "blocks.1.attn:heads"


@pytest.fixture(scope="module")
def backbone():
    return TimmBackbone("test_vit", pretrained=False, img_size=32, taps=[HEADS, "blocks.0"])


@pytest.fixture
def request_of(tmp_path, backbone):
    dataset = first_rows(load("digits"), 120)

    def build(reads, head=None):
        store, folder = FeatureStore(tmp_path / "cache"), tmp_path / "runs"
        head = head or NearestClassMean()
        return Run(backbone, dataset, Full(), head, store, folder, device="cpu", reads={"pooled": reads})

    return build


def test_a_head_is_fitted_on_one_attention_head_of_a_layer(request_of, backbone):
    request = request_of(f"{HEADS}.1")
    folder = run(request)
    stored = request.store.get(backbone, request.dataset, "train", [HEADS], device="cpu")
    assert stored.seconds == 0
    assert stored.arrays[HEADS].shape == (120, 2, 32)
    expected = NearestClassMean().fit(np.asarray(stored.arrays[HEADS][:, 1]), stored.labels)
    np.testing.assert_array_equal(Head.load(folder / "head.safetensors").centroids_, expected.centroids_)


def test_all_layers_and_attention_heads_come_from_one_pass(request_of, monkeypatch):
    run(request_of("pooled"))
    monkeypatch.setattr(TimmBackbone, "extract", None)
    names = {run(request_of(read)).name for read in (f"{HEADS}.0", f"{HEADS}.1", "blocks.0")}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (f"{HEADS}.2", rf"reads\.pooled asks for attention head 2 of {HEADS}, there are 2: count from 0"),
        (HEADS, rf"an array of 2 axes, {HEADS} of backbone .* has 3.*to one attention head of it, {HEADS}\.0"),
        (
            "blocks.3.attn:heads.0",
            rf"reads blocks\.3\.attn:heads, backbone .* gives .*: set backbone\.taps=\[{HEADS},blocks\.0,"
            r"blocks\.3\.attn:heads\]$",
        ),
        ("tokens", "tokens of backbone .* has 3: set reads.pooled to another layer"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_extracted(request_of, read, text):
    request = request_of(read)
    with pytest.raises(DoesNotFit, match=text):
        run(request)
    assert not request.store.root.exists()


def test_heads_of_tokens_do_not_read_vectors(request_of):
    request = request_of("pooled", MomentProbing())
    with pytest.raises(DoesNotFit, match=r"reads tokens as an array of 3 axes, blocks\.0"):
        run(Run(**{**vars(request), "reads": {"tokens": "blocks.0"}}))


class OnePooled(nn.Module):
    """A network that gives a vector per image and nothing else."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, x):
        return self.body(x).mean(dim=(2, 3))


def test_a_head_of_tokens_is_refused_with_the_override_that_gives_them(request_of):
    request = vars(request_of("pooled", MomentProbing(hidden_width=16, n_groups=2, epochs=(1,)))) | {"reads": {}}
    network = {"target": f"{__name__}:OnePooled", "size": 16}
    with pytest.raises(DoesNotFit) as refused:
        run(Run(**request | {"backbone": ModuleBackbone(**network)}))
    assert str(refused.value) == (
        f"head moment_probing reads tokens, backbone module/{__name__}:OnePooled gives ['pooled']: set "
        "backbone.taps=[<layer>:tokens] and reads.tokens=<layer>:tokens, or head=linear, which reads pooled"
    )
    assert not request["store"].root.exists()
    # What it says works.
    tapped = ModuleBackbone(**network, taps=["body:tokens"])
    assert (run(Run(**request | {"backbone": tapped, "reads": {"tokens": "body:tokens"}})) / "result.json").exists()


def test_a_backbone_without_layers_asks_for_another(request_of):
    request = vars(request_of("pooled", MomentProbing())) | {"reads": {}, "backbone": IdentityBackbone()}
    request["dataset"] = load("iris")
    with pytest.raises(
        DoesNotFit,
        match=r"head moment_probing reads tokens, backbone identity gives \['pooled'\]: it has no layers to tap, set "
        "another backbone, or head=linear, which reads pooled",
    ):
        run(Run(**request))
    assert not request["store"].root.exists()


def test_a_run_on_the_logits_of_a_classifier_says_so_and_one_below_does_not(tmp_path, capsys):
    dataset, store = first_rows(load("digits"), 60), FeatureStore(tmp_path / "cache")
    backbone = ModuleBackbone(
        "timm:create_model", {"model_name": "test_resnet", "num_classes": 10}, size=32, taps=["global_pool"]
    )

    def result(reads):
        folder = run(
            Run(backbone, dataset, Full(), NearestClassMean(), store, tmp_path, device="cpu", reads={"pooled": reads})
        )
        show_run(folder, was_there=False)
        return read_result(folder)

    (note,) = result("pooled")["notes"]
    assert "is what its last layer fc gives, 10 numbers, which are logits if that is a classifier" in note
    assert f"note: {note}" in capsys.readouterr().out
    assert "notes" not in result("global_pool")
    assert "note:" not in capsys.readouterr().out


def test_rows_that_the_backbone_does_not_read_are_refused_before_anything_is_extracted(tmp_path, backbone):
    request = Run(backbone, load("iris"), Full(), NearestClassMean(), FeatureStore(tmp_path / "cache"), tmp_path)
    with pytest.raises(DoesNotFit, match=r"reads images, the rows of dataset iris are vectors: set backbone=identity"):
        run(request)
    assert list(tmp_path.iterdir()) == []
