"""Every backbone of `conf/backbone` keeps the contract of `probe.core.base.Backbone`.

A backbone's own test file may have `contract_case() -> dict`: parameters that keep it from the network, and small.
"""

import inspect
import json
import pickle
from functools import cache

import numpy as np
import places
import pytest
import torch
from contract_cases import contract_case
from hydra.utils import get_method, get_object, instantiate
from PIL import Image

from probe.core.base import Backbone
from probe.core.errors import InputError
from probe.core.kinds import KINDS
from probe.core.rows import ROWS
from probe.features.extraction.batches import collate

CONF = places.CONF / "backbone"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def config(name):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@cache
def make(name):
    case = contract_case("backbones", name)
    return instantiate({**config(name), **(case() if case else {})}, _convert_="all")


@pytest.fixture
def backbone(name):
    return make(name)


def rows(backbone):
    rng = np.random.default_rng(0)
    if backbone.reads == "vectors":
        return list(rng.normal(size=(3, 5)))
    if backbone.reads == "series":
        return list(rng.normal(size=(3, 30, 2)))
    return [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]


def batch_of(backbone, first=0, last=3):
    return collate(backbone, [backbone.transform(row) for row in rows(backbone)[first:last]])


def test_yaml_lists_every_parameter_with_the_python_default(name):
    given = config(name)
    target = get_object(given.pop("_target_"))
    defaults = {p.name: p.default for p in inspect.signature(target).parameters.values()}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()} == given


def test_it_has_the_attributes(backbone):
    assert isinstance(backbone, Backbone)
    assert backbone.kinds
    assert backbone.reads in ROWS
    assert backbone.n_prefix_tokens >= 0
    assert backbone.n_parameters >= 0


def test_features_are_finite_float32_of_the_declared_shapes(backbone):
    features = backbone.extract(batch_of(backbone), backbone.kinds)
    assert tuple(features) == tuple(backbone.kinds)
    for kind, value in features.items():
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert value.shape[0] == 3
        assert kind not in KINDS or value.ndim == KINDS[kind].n_axes


def test_each_row_has_its_own_features_whatever_its_company(backbone):
    together = backbone.extract(batch_of(backbone), ["pooled"])["pooled"]
    alone = torch.cat([backbone.extract(batch_of(backbone, row, row + 1), ["pooled"])["pooled"] for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_kinds_are_given_singly_as_together(backbone):
    batch = batch_of(backbone)
    together = backbone.extract(batch, backbone.kinds)
    for kind in backbone.kinds:
        assert torch.equal(backbone.extract(batch, [kind])[kind], together[kind])


def test_frozen_means_frozen(backbone):
    before = backbone.hash_weights() if hasattr(backbone, "hash_weights") else backbone.identity()
    features = backbone.extract(batch_of(backbone), backbone.kinds)
    again = backbone.extract(batch_of(backbone), backbone.kinds)
    assert all(torch.equal(features[kind], again[kind]) for kind in features)
    after = backbone.hash_weights() if hasattr(backbone, "hash_weights") else backbone.identity()
    assert before == after
    assert not any(value.requires_grad for value in features.values())
    network = getattr(backbone, "network", torch.nn.Identity().eval())
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_identity_is_json_and_the_same_every_time(backbone, name):
    first = json.dumps(backbone.identity(), sort_keys=True, allow_nan=False)
    backbone.extract(batch_of(backbone), backbone.kinds)
    again = make.__wrapped__(name)
    assert first == json.dumps(backbone.identity(), sort_keys=True) == json.dumps(again.identity(), sort_keys=True)


def test_a_pickled_copy_gives_the_same_features(backbone):
    batch = batch_of(backbone)
    copy = pickle.loads(pickle.dumps(backbone))
    assert torch.equal(copy.transform(rows(backbone)[0]), backbone.transform(rows(backbone)[0]))
    assert torch.equal(copy.extract(batch, ["pooled"])["pooled"], backbone.extract(batch, ["pooled"])["pooled"])


def test_rows_of_the_wrong_sort_are_refused_with_the_fix(backbone):
    wrong = Image.new("RGB", (4, 4)) if backbone.reads == "vectors" else np.zeros(5)
    with pytest.raises(InputError, match="set backbone="):
        backbone.transform(wrong)


def test_unknown_kinds_are_refused(backbone):
    with pytest.raises(InputError, match="nonsense"):
        backbone.extract(batch_of(backbone), ["nonsense"])


def test_to_moves_and_returns_the_backbone(backbone):
    assert backbone.to("cpu") is backbone


def test_modules_named_like_libraries_do_not_hide_them():
    import sklearn
    import timm

    assert "probe" not in timm.__file__.split("/")
    assert "probe" not in sklearn.__file__.split("/")
    assert get_method("probe.datasets.sklearn.load").__module__ == "probe.datasets.sklearn"
