"""What Hydra raises, in one sentence: without its plumbing, with a way out that exists."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException

from probe.command.config import build, compose
from probe.command.explaining import explained
from probe.core.errors import InputError


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("hed=ncm", "the configuration has no hed: did you mean head?"),
        ("head=linaer", "there is no head=linaer: did you mean linear? There are asymmetric, attentive, "),
        ("head=", "there is no head=: choose one of asymmetric, attentive, "),
        ("backbone=resnet18", "there is no backbone=resnet18: write backbone=timm backbone.name=resnet18"),
        ("backbone=ViT-B-32", "write backbone=open_clip backbone.name=ViT-B-32"),
        ("backbone=facebook/dinov2-base", "write backbone=huggingface backbone.name=facebook/dinov2-base"),
        ("backbone=nosuch", "there is no backbone=nosuch: choose one of huggingface, huggingface_series, identity, "),
        ("dataset=CIFAR10", "write dataset=torchvision dataset.name=cifar10"),
        ("head=LogisticRegression", "write head=sklearn head.estimator=sklearn.linear_model.LogisticRegression"),
        (
            "backbone.name=resnet18",
            "it is a setting of backbone=huggingface and of backbone=huggingface_series and of",
        ),
        ("head.cs=1", "head has no cs: did you mean Cs?"),
        ("head.Cs=[1", "'head.Cs=[1' cannot be read: write key=value, with brackets and quotation marks closed"),
    ],
)
def test_one_sentence_names_what_was_meant(word: str, sentence: str) -> None:
    with pytest.raises(HydraException) as caught:
        compose([word])
    said = explained(caught.value)
    assert sentence in said
    assert not any(plumbing in said.lower() for plumbing in ("hydra", "struct", "omegaconf", "override"))


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            "probe_test_broken.Head",
            "(ModuleNotFoundError: No module named 'probe_test_nowhere'): mend the module",
        ),
        ("probe_test_lost.Head", "Head is not there, probe_test_lost has no Head: did you mean Heads? There are Heads"),
        ("probe_test_none.Head", "cannot be imported (ModuleNotFoundError: No module named 'probe_test_none'): mend"),
    ],
)
def test_a_plug_in_that_cannot_be_built_says_why(
    target: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "probe_test_broken.py").write_text("import probe_test_nowhere\n")
    (tmp_path / "probe_test_lost.py").write_text("import json\n\n\nclass Heads:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = compose(["dataset=iris", "backbone=identity"])
    with pytest.raises(InputError) as caught:
        build({**config, "head": {"_target_": target}}, "")
    assert sentence in str(caught.value)
    assert not caplog.records
    sys.modules.pop("probe_test_lost", None)
