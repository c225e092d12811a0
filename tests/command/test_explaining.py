"""What Hydra raises, in one sentence: without its plumbing, with a way out that exists."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException

from probe.command.config import compose
from probe.command.explaining import explained


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
