"""Several views of each image: how they are made, stored, averaged and drawn."""

import json

import numpy as np
import pytest
import torch
from first_rows import first_rows
from PIL import Image
from sklearn.base import clone

from probe.backbones.shared.views import MultiView, views_of
from probe.backbones.tiny import TinyBackbone
from probe.command import subcommands as commands
from probe.core.arrays import DrawnViews, RowReader, RowStack, RowSubset, at_epoch
from probe.core.errors import DoesNotFit, InputError
from probe.datasets.sklearn import load
from probe.experiment.request import Run
from probe.experiment.run import run
from probe.features.store import FeatureStore
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.linear_sgd import LinearSGD
from probe.heads.moment_probing import MomentProbing
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.protocols.full import Full


@pytest.fixture(scope="module")
def tiny():
    return TinyBackbone(pretrained=False)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def request_of(tmp_path, tiny):
    dataset = first_rows(load("digits"), 60)

    def build(head, **views):
        backbone = MultiView(tiny, **views)
        store = FeatureStore(tmp_path / "cache")
        return Run(backbone, dataset, Full(), head, store, tmp_path / "runs", device="cpu")

    return build


def test_views_are_cut_where_they_should_be():
    pixels = np.arange(80 * 100, dtype=np.uint16).reshape(80, 100)
    image = Image.fromarray(np.stack([pixels // 256, pixels % 256, pixels * 0], 2).astype(np.uint8))
    array = np.asarray(image)
    np.testing.assert_array_equal(np.asarray(views_of(image, "flips", 2, 0)[0]), array[:, ::-1])
    wanted = [array[:70, :70], array[:70, -70:], array[-70:, :70], array[-70:, -70:]]
    assert [c.tobytes() for c in views_of(image, "corners", 5, 0)] == [w.tobytes() for w in wanted]
    np.testing.assert_array_equal(np.asarray(views_of(image, "scales", 3, 0)[-1]), array[20:60, 25:75])


def test_crops_follow_from_seed_and_pixels_alone(image):
    first = [view.tobytes() for view in views_of(image, "crops", 4, 0)]
    assert first == [view.tobytes() for view in views_of(image.copy(), "crops", 4, 0)]
    assert first[:2] == [view.tobytes() for view in views_of(image, "crops", 3, 0)]
    changed = image.copy()
    changed.putpixel((0, 0), (1, 2, 3))
    sizes = [
        [view.size for view in views]
        for views in (views_of(image, "crops", 4, 0), views_of(image, "crops", 4, 1), views_of(changed, "crops", 4, 0))
    ]
    assert sizes[0] != sizes[1]
    assert sizes[0] != sizes[2]


def test_crops_keep_their_area_and_proportions_and_some_are_mirrored():
    image = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3)))
    views = views_of(image, "crops", 300, 0)
    shares = np.array([[view.width / 200, view.height / 100] for view in views])
    area, aspect = shares.prod(1), shares[:, 0] / shares[:, 1]
    # Rounding to whole pixels, and the cut at the whole side, move both a little.
    assert 0.33 < area.min() < 0.4
    assert area.max() > 0.9
    assert 0.72 < aspect.min() < aspect.max() < 1.4
    mirrored = np.mean([np.asarray(view)[0, 0, 0] > np.asarray(view)[0, -1, 0] for view in views])
    assert 0.4 < mirrored < 0.6


@pytest.mark.parametrize(("kind", "n"), [("flips", 2), ("corners", 5), ("scales", 3), ("crops", 4)])
def test_each_view_has_the_features_that_it_has_alone(tiny, image, kind, n):
    backbone = MultiView(tiny, n, kind)
    batch = backbone.transform(image)[None]
    given = backbone.extract(batch, ["pooled", "tokens"])
    assert given["pooled"].shape == (1, n, 512)
    assert given["tokens"].shape == (1, n, 16, 512)
    assert torch.equal(given["pooled"][:, 0], tiny.extract(tiny.transform(image)[None], ["pooled"])["pooled"])
    for view in range(n):
        assert torch.equal(given["pooled"][:, view], tiny.extract(batch[:, view], ["pooled"])["pooled"])


def test_identity_names_the_views_and_the_seed_of_crops_but_not_their_use(tiny):
    arguments = [(2, "crops"), (3, "crops"), (2, "crops", 1), (2, "flips"), (2, "scales")]
    identities = {json.dumps(MultiView(tiny, *a).identity(), sort_keys=True) for a in arguments}
    assert len(identities) == 5
    assert MultiView(tiny, 2, "flips").identity() == MultiView(tiny, 2, "flips", 7, "draw").identity()
    assert tiny.identity() != MultiView(tiny).identity()


def test_frozen_means_frozen(tiny, image):
    before, backbone = tiny.hash_weights(), MultiView(tiny, 3)
    backbone.extract(backbone.transform(image)[None], ["pooled"])
    assert tiny.hash_weights() == before
    assert not any(module.training for module in tiny.network.modules())


def test_the_mean_over_views_is_what_heads_read(request_of, tiny):
    request = request_of(NearestClassMean(), n=3)
    folder = run(request)
    stored = request.store.get(request.backbone, request.dataset, "train", ["pooled"], device="cpu")
    assert stored.seconds == 0
    assert stored.arrays["pooled"].shape == (60, 3, 512)
    expected = NearestClassMean().fit(stored.arrays["pooled"][:].mean(1), stored.labels)
    centroids = Head.load(folder / "head.safetensors").centroids_
    np.testing.assert_allclose(centroids, expected.centroids_, rtol=1e-5, atol=1e-6)  # means in float32


def test_use_changes_the_run_but_extracts_nothing_anew(request_of, monkeypatch):
    head = LinearSGD(epochs=2)
    mean = run(request_of(head, n=2, use="mean"))
    monkeypatch.setattr(TinyBackbone, "extract", None)
    drawn = run(request_of(head, n=2, use="draw"))
    assert mean != drawn
    labels = [json.loads((folder / "result.json").read_text())["labels"]["backbone"] for folder in (mean, drawn)]
    assert labels == ["tiny-random 2 crops", "tiny-random 2 crops drawn"]


def test_heads_that_do_not_train_by_epochs_draw_nothing(request_of):
    request = request_of(NearestClassMean(), n=2, use="draw")
    with pytest.raises(DoesNotFit, match=r"head ncm does not train epoch by epoch.*set views\.use=mean"):
        run(request)
    assert not request.store.root.exists()


def test_drawn_views_are_the_same_again_differ_by_epoch_and_cover_all():
    array = np.arange(50 * 4).reshape(50, 4, 1)
    drawn = DrawnViews(array, seed=3)
    np.testing.assert_array_equal(drawn[:], array[:, 0])
    first, again, second = (at_epoch(drawn, epoch)[:] % 4 for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first.ravel()) == {0, 1, 2, 3}
    assert 0.1 < (first == second).mean() < 0.5
    assert (at_epoch(DrawnViews(array, seed=4), 0)[:] % 4 != first).any()


def test_a_row_draws_the_same_view_of_every_kind_however_it_is_reached():
    one, other = np.arange(40).reshape(10, 4, 1), 100 + np.arange(40).reshape(10, 4, 1)
    rows = np.array([7, 2, 2])
    kinds = RowReader({"a": RowSubset(DrawnViews(one, 0), rows), "b": RowSubset(DrawnViews(other, 0), rows)})
    seen, whole = kinds.at_epoch(5)[:], at_epoch(DrawnViews(one, 0), 5)[:]
    np.testing.assert_array_equal(seen["a"], whole[rows])
    np.testing.assert_array_equal(seen["b"], 100 + whole[rows])
    np.testing.assert_array_equal(at_epoch(RowStack([DrawnViews(one, 0)]), 5)[rows], whole[rows])


@pytest.mark.parametrize(
    "head",
    [
        LinearSGD(epochs=3, lrs=[0.1]),
        MomentProbing(epochs=[2], learning_rates=[1e-3]),
        DualHeadKD(arm="ce", epochs=[2], learning_rates=[1e-2]),
    ],
    ids=lambda head: type(head).__name__,
)
def test_training_on_drawn_views_sees_views_beyond_the_first(head):
    rng, y = np.random.default_rng(0), np.arange(30) % 3
    views = {
        "pooled": rng.normal(size=(30, 3, 8)).astype(np.float32),
        "tokens": rng.normal(size=(30, 3, 9, 8)).astype(np.float32),
    }
    same = {kind: np.repeat(array[:, :1], 3, axis=1) for kind, array in views.items()}

    def logits(arrays, wrap):
        X = {kind: RowSubset(wrap(arrays[kind]), np.arange(30)) for kind in head.consumes}
        X = X["pooled"] if len(X) == 1 else X
        return clone(head).fit(X, y).logits(X)

    plain, drawn = logits(views, lambda a: a[:, 0]), logits(views, lambda a: DrawnViews(a, 0))
    assert not np.allclose(plain, drawn)
    np.testing.assert_array_equal(drawn, logits(views, lambda a: DrawnViews(a, 0)))
    np.testing.assert_array_equal(plain, logits(same, lambda a: DrawnViews(a, 0)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3, "flips"), r"views\.n is 3, expected 2 for flips"),
        ((4, "corners"), r"views\.n is 4, expected 5 for corners"),
        ((1, "crops"), r"views\.n is 1, expected at least 2 for crops"),
        ((2, "tiles", 0, "all"), r"views\.kind is 'tiles'.*; views\.use is 'all', expected one of mean, draw"),
    ],
)
def test_impossible_views_are_refused(tiny, arguments, text):
    with pytest.raises(InputError, match=text):
        MultiView(tiny, *arguments)


def test_rows_of_numbers_have_no_views(tiny):
    with pytest.raises(InputError, match=r"made of images, this dataset's rows are ndarray: set views\.n=1"):
        MultiView(tiny).transform(np.zeros(3))


def test_describe_shows_every_view(tmp_path, capsys):
    sizes = []
    for n in (1, 3):
        sheet = tmp_path / f"{n}.png"
        overrides = ["backbone.pretrained=false", "dataset=digits", f"views.n={n}"]
        assert commands.describe([*overrides, "--sheet", str(sheet), "--batch-size", "2"]) == 0
        with Image.open(sheet) as picture:
            sizes.append(picture.width)
    assert "pooled 3x512" in capsys.readouterr().out
    assert sizes[1] > sizes[0]
