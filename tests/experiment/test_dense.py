"""Images with masks from the dataset to the run folder: any head on patches, geometry, views, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest

from probe.backbones.raw import RawInput
from probe.backbones.shared.views import MultiView
from probe.backbones.timm import TimmBackbone
from probe.backbones.tiny import TinyBackbone
from probe.core.errors import DoesNotFit, InputError
from probe.core.targets.mask import Mask
from probe.datasets import shapes
from probe.datasets.shared.mask_rows import ArrayMasks, MaskPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.experiment.dense import grid_of_tokens, predictions, tallies
from probe.experiment.extracting import Extracting
from probe.experiment.reading import fetch_map, read
from probe.experiment.request import Run
from probe.experiment.run import check, draw, run
from probe.experiment.watching import prepare
from probe.features.store import FeatureStore
from probe.heads.attentive import Attentive
from probe.heads.dense_linear import DenseLinear
from probe.heads.knn import KNearest
from probe.heads.linear import LinearProbe
from probe.heads.ncm import NearestClassMean
from probe.heads.shared.head import Head
from probe.heads.shared.patch_head import PatchHead
from probe.protocols.class_incremental import ClassIncremental
from probe.protocols.full import Full
from probe.protocols.official import Official
from probe.protocols.rows import RandomRows

STAGES = ["stages.0", "stages.1", "stages.2"]


@pytest.fixture(scope="module")
def tiny():
    return TinyBackbone(taps=[f"{stage}:map" for stage in STAGES])


@pytest.fixture(scope="module")
def scenes():
    return shapes.load(n_train=40, n_test=12)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FeatureStore(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def asked(tiny, scenes, store, tmp_path):
    def build(head, **options):
        given = {"backbone": tiny, "dataset": scenes, "protocol": Full()} | options
        return Run(head=head, store=store, folder=tmp_path / "runs", device="cpu", **given)

    return build


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_pooled_head_runs_on_masks_under_its_own_name(asked):
    folder = run(asked(LinearProbe(Cs=[0.01, 0.1]), reads={"map": ["stages.1", "map"]}))
    found = result(folder)
    assert found["labels"]["head"] == "linear(Cs=[0.01,0.1])"
    assert found["labels"]["backbone"] == "tiny(map=stages.1+map)"
    assert found["extraction"]["reads"] == {"map": ["stages.1:map", "map"]}
    assert found["patches"]["grid"] == [8, 8]
    assert found["selection"]["on"] == "validation"
    assert 0.13 < found["metrics"]["miou"]["value"] < 0.5
    assert Head.load(folder / "head.safetensors").coef_.shape[1] == 96 + 512


def test_options_of_patches_are_part_of_the_run_and_its_label(asked):
    plain, soft = (run(asked(NearestClassMean(), patches=p)) for p in ({}, {"label": "soft", "per_class": 2}))
    assert result(plain)["labels"]["head"] == "ncm"
    assert result(soft)["labels"]["head"] == "ncm(patches.label=soft,patches.per_class=2)"
    assert plain != soft
    assert result(soft)["patches"]["n"] < result(plain)["patches"]["n"]


def test_what_a_run_tallies_is_what_the_head_says_of_each_pixel(asked, tiny, scenes):
    drawn = draw(check(asked(NearestClassMean())))
    rows = read(drawn)
    head = PatchHead(NearestClassMean()).fit(rows.train.X, rows.train.targets)
    maps = np.concatenate(
        [tiny.extract(tiny.transform(scenes.partitions["test"][i])[None], ["map"])["map"].numpy() for i in range(12)]
    )
    import torch

    logits = torch.nn.functional.interpolate(torch.from_numpy(head.logits(maps)).float(), (32, 32), mode="bilinear")
    wanted = head.classes_[logits.argmax(1).numpy()]
    found = np.stack([*predictions(head, rows.test)])
    assert (found == wanted).mean() > 0.99  # float16 is stored
    tally = tallies(head, rows.test, 6)
    assert sum(int(one.count.sum()) for one in tally) == 12 * 32 * 32


@pytest.mark.parametrize("head", [LinearProbe(Cs=[0.01, 1.0]), DenseLinear(epochs=1, lrs=[0.01, 0.1])])
def test_no_pixel_or_feature_of_a_test_image_reaches_a_fit(asked, scenes, head):
    fitted, test, train = {}, scenes.partitions["test"], scenes.partitions["train"]
    for poisoned in (False, True):
        codes = ArrayMasks(np.stack([test.masks[i] * (not poisoned) for i in range(12)]))
        pixels = np.stack([np.asarray(test[i]) // (5 if poisoned else 1) for i in range(12)])
        images = ArrayPartition(pixels, codes.counts(6), [str(i) for i in range(12)], target=Mask())
        rows = {
            "train": train.subset(np.arange(32)),
            "validation": train.subset(np.arange(32, 40)),
            "test": MaskPartition(images, codes, codes.fingerprint),
        }
        dataset = make_dataset(f"scenes {poisoned}", scenes.class_names, rows, target=Mask(), rows="images")
        fitted[poisoned] = (
            run(asked(head, dataset=dataset, protocol=Official(), reads={"map": "stages.1"})) / "head.safetensors"
        ).read_bytes()
    assert fitted[False] == fitted[True]


def test_masks_of_any_size_are_seen_and_predicted_through_the_geometry(store, tiny, tmp_path):
    """Wide images whose left half is class 1 wherever it is bright: what is cropped away is predicted all the same."""
    random = np.random.default_rng(0)
    masks = np.zeros((30, 40, 80), np.uint8)
    masks[:, 20:] = 1
    images = np.where(masks[..., None] == 1, 220, 30) + random.integers(0, 20, (30, 40, 80, 3))
    codes = ArrayMasks(masks)
    part = MaskPartition(
        ArrayPartition(images.astype(np.uint8), codes.counts(2), [str(i) for i in range(30)], target=Mask()),
        codes, codes.fingerprint,
    )  # fmt: skip
    rows = {"train": part.subset(np.arange(20)), "test": part.subset(np.arange(20, 30))}
    dataset = make_dataset("halves", ("dark", "bright"), rows, target=Mask(), rows="images")
    request = Run(tiny, dataset, Full(), LinearProbe(Cs=[1.0]), store, tmp_path / "runs", device="cpu",
                  reads={"map": "stages.0"})  # fmt: skip
    assert result(run(request))["metrics"]["pixel_accuracy"]["value"] > 0.93


def test_flips_and_windows_of_views_move_masks_with_them(asked, tiny):
    for kind, n in (("flips", 2), ("windows", 5)):
        backbone = MultiView(tiny, n=n, kind=kind)
        rows = read(draw(check(asked(NearestClassMean(), backbone=backbone, reads={"map": "stages.1"}))))
        n_train = len(rows.train.y)
        assert len(rows.train.X) == len(rows.train.targets) == n * n_train
        first = rows.train.targets[:n_train]
        last = rows.train.targets[-n_train:]
        if kind == "flips":
            np.testing.assert_array_equal(last, first[:, :, ::-1])
        else:
            np.testing.assert_array_equal(last, first[:, 16:, 16:].repeat(2, 1).repeat(2, 2))
        head = PatchHead(NearestClassMean()).fit(rows.train.X, rows.train.targets)
        assert next(predictions(head, rows.test)).shape == (32, 32)


def test_a_flipped_view_of_a_symmetric_head_predicts_the_mirrored_mask(asked, tiny, scenes):
    """The mean over an image and its mirror image does not know left from right."""
    backbone = MultiView(tiny, n=2, kind="flips")
    rows = read(draw(check(asked(NearestClassMean(), backbone=backbone, reads={"map": "stages.0"}))))
    head = PatchHead(NearestClassMean()).fit(rows.train.X, rows.train.targets)
    swapped = replace(rows.test, X=type(rows.test.X)(rows.test.X.array, np.roll(rows.test.X.indices, len(rows.test.y))))
    mirrored = [found[:, ::-1] for found in predictions(head, swapped)]
    expected = [*predictions(head, rows.test)]
    assert np.mean(np.stack(mirrored) == np.stack(expected)) > 0.999


def test_tokens_are_read_as_the_map_that_they_fill(asked, store, scenes):
    vit = TimmBackbone("test_vit", pretrained=False, img_size=32)
    assert grid_of_tokens(vit, "tokens") == vit.shapes["map"][1:]
    request = check(asked(NearestClassMean(), backbone=vit, reads={"map": "tokens"})).asked
    maps = fetch_map(request, "test").arrays["map"]
    wanted = fetch_map(replace(request, reads={"map": "map"}), "test").arrays["map"]
    np.testing.assert_array_equal(maps[:], wanted[:])


def test_tokens_of_one_byte_cost_half_a_point_at_most(asked, store, scenes):
    dtypes = [{}, {"tokens": "int8"}]
    runs = [run(asked(NearestClassMean(), reads={"map": "tokens"}, features={"dtypes": d})) for d in dtypes]
    scores = [result(folder)["metrics"]["miou"]["value"] for folder in runs]
    assert abs(scores[0] - scores[1]) <= 0.005


def test_few_images_choose_on_folds_of_images(asked):
    folder = run(asked(LinearProbe(Cs=[0.01, 1.0]), protocol=RandomRows(12), reads={"map": "stages.1"}))
    assert "folds" in result(folder)["selection"]["on"]


def test_backbones_without_a_map_are_refused_by_name(asked):
    with pytest.raises(
        DoesNotFit, match=r"head ncm reads map, backbone raw gives \['pooled'\]: it has no .*, set another backbone$"
    ):
        check(asked(NearestClassMean(), backbone=RawInput(), reads={}))


def test_a_class_without_training_pixels_is_refused_by_name(asked, scenes):
    dataset = replace(scenes, class_names=(*scenes.class_names, "star"), partitions={
        name: MaskPartition(
            ArrayPartition(np.stack([np.asarray(part[i]) for i in range(len(part))]),
                           np.pad(part.labels, ((0, 0), (0, 1))), part.ids, target=Mask()),
            part.masks, part.pixels_digest)
        for name, part in scenes.partitions.items()})  # fmt: skip
    with pytest.raises(InputError, match=r"train \(40 images\) has no pixel of 1 of 7 classes \(star\)"):
        check(asked(NearestClassMean(), dataset=dataset))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shuffle_labels": True}, r"no control=shuffled_labels: leave it out"),
        ({"standardize": True}, r"there is no standardize: leave it out"),
        ({"protocol": ClassIncremental()}, r"there is no protocol class_incremental: leave it out"),
        ({"reads": {"map": []}}, r"reads\.map lists no layer.*set reads\.map=map"),
        ({"reads": {"map": "stages.9"}}, r"head ncm reads stages\.9.*set backbone\.taps="),
        ({"patches": {"label": "hard"}}, r"patches\.label is 'hard', expected one of majority, soft"),
    ],
)
def test_what_has_no_meaning_for_masks_is_refused(asked, options, text):
    with pytest.raises(InputError, match=text):
        check(asked(NearestClassMean(), **options))


def test_views_that_masks_cannot_follow_are_refused(asked, tiny):
    with pytest.raises(InputError, match=r"views\.use=draw .* set views\.use=mean"):
        check(asked(NearestClassMean(), backbone=MultiView(tiny, n=2, kind="flips", use="draw")))
    with pytest.raises(DoesNotFit, match=r"crops are drawn by the pixels"):
        check(asked(NearestClassMean(), backbone=MultiView(tiny, n=2)))


def test_heads_of_other_kinds_are_refused_with_those_that_fit(asked):
    with pytest.raises(
        DoesNotFit, match=r"has a class per pixel, head attentive fits .*dense_linear, dense_tokens.*linear"
    ):
        check(asked(Attentive()))


def test_several_layers_are_for_masks_alone(asked, tiny):
    from probe.datasets.sklearn import load

    with pytest.raises(InputError, match=r"reads\.map lists 3 layers.*dataset digits has one class per row"):
        check(asked(KNearest(), dataset=load("digits"), reads={"map": STAGES}))


def test_what_is_extracted_for_masks_is_the_map_that_heads_read(asked):
    settings = {"partitions": None, "kinds": None, "engine": "processes", "workers": None}
    assert Extracting.of(asked(NearestClassMean(), reads={"map": STAGES[:2]}), settings).kinds == (
        "stages.0:map", "stages.1:map")  # fmt: skip


def test_a_network_that_trains_is_not_watched_on_masks(asked):
    with pytest.raises(InputError, match=r"has a class per pixel, which no network is watched on yet"):
        prepare(asked(NearestClassMean()))
