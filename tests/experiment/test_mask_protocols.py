"""Images with masks under every protocol that draws images, and tested on the masks of another dataset."""

import json
from dataclasses import replace

import numpy as np
import pytest

from probe.backbones.tiny import TinyBackbone
from probe.core.errors import InputError
from probe.core.targets.mask import Mask
from probe.datasets import shapes
from probe.datasets.shared.mask_rows import ArrayMasks, MaskPartition
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.row_facts import know
from probe.experiment.ensembles.ensemble import combine
from probe.experiment.ensembles.members import read_member
from probe.experiment.request import Run
from probe.experiment.run import check, draw, prepare, run, run_once
from probe.experiment.transfer import transfer
from probe.features.store import FeatureStore
from probe.heads.ncm import NearestClassMean
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.domain_incremental import DomainIncremental
from probe.protocols.easy_to_hard import EasyToHard
from probe.protocols.few_shot import FewShot
from probe.protocols.fraction import Fraction
from probe.protocols.full import Full
from probe.protocols.gzsl import GZSL
from probe.protocols.holdout import Holdout
from probe.protocols.label_noise import LabelNoise
from probe.protocols.long_tail import LongTail
from probe.protocols.official import Official
from probe.protocols.recorded import Recorded
from probe.protocols.rows import RandomRows
from probe.results.reader import read_predictions

ORDER = [3, 0, 5, 1, 2, 4]
"""Where the other dataset has the classes of the shapes."""


@pytest.fixture(scope="module")
def scenes():
    return shapes.load(n_train=60, n_test=12)


@pytest.fixture(scope="module")
def tiny():
    return TinyBackbone(taps=["stages.1:map"])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FeatureStore(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def asked(tiny, scenes, store, tmp_path):
    def build(**options):
        given = {"backbone": tiny, "dataset": scenes, "protocol": Full(), "head": NearestClassMean()} | options
        return Run(store=store, folder=tmp_path / "runs", device="cpu", reads={"map": "stages.1"}, **given)

    return build


def result(folder):
    return json.loads((folder / "result.json").read_text())


def images(part):
    return np.stack([np.asarray(part[i]) for i in range(len(part))])


def other(scenes, order=ORDER, name="other", names=None):
    """The scenes with their classes in another order, perhaps under other names."""
    places, n_classes, parts = np.full(256, 255, np.uint8), max(order) + 1, {}
    places[: len(order)] = order
    for part, whole in scenes.partitions.items():
        codes = ArrayMasks(places[np.stack([whole.masks[i] for i in range(len(whole))])])
        rows = ArrayPartition(images(whole), codes.counts(n_classes), list(whole.ids), target=Mask())
        parts[part] = MaskPartition(rows, codes, codes.fingerprint)
    called = [""] * n_classes
    for k, place in enumerate(order):
        called[place] = (names or scenes.class_names)[k]
    return make_dataset(name, called, parts, target=Mask((7,)), rows="images")


@pytest.mark.parametrize(
    "protocol",
    [FewShot(2), FewShot(3), Fraction(0.4), Full(), Holdout(0.3), CrossValidation(3, 1), RandomRows(30)],
    ids=lambda protocol: f"{protocol.name}",
)
def test_protocols_draw_images_and_leave_their_masks_with_them(asked, protocol):
    found = result(run(asked(protocol=protocol)))
    assert found["protocol"]["name"] == protocol.name
    assert 0.05 < found["metrics"]["miou"]["value"] < 0.6
    assert sum(one["test_pixels"] for one in found["classes"]) == 32 * 32 * found["protocol"]["n_test"]


def test_official_parts_and_recorded_rows_draw_images_too(asked, scenes, tmp_path):
    train = scenes.partitions["train"]
    parts = {"train": train.subset(np.arange(40)), "validation": train.subset(np.arange(40, 60)),
             "test": scenes.partitions["test"]}  # fmt: skip
    dataset = replace(scenes, partitions=parts)
    official = run(asked(dataset=dataset, protocol=Official(), save_rows=True))
    again = run(asked(dataset=dataset, protocol=Recorded(str(official / "rows.json"))))
    assert result(again)["metrics"] == result(official)["metrics"]


def test_a_film_is_kept_together(asked, scenes):
    films = np.arange(60) // 6
    train = know(scenes.partitions["train"].subset(np.arange(60)), {"groups": films}, "train")
    for protocol in (FewShot(2), Full(), Holdout(0.3), CrossValidation(3)):
        split = draw(check(asked(dataset=replace(scenes, partitions={**scenes.partitions, "train": train}),
                                 protocol=protocol))).split  # fmt: skip
        parts = [set(films[rows.indices]) for rows in split.parts.values() if rows.partition == "train" and len(rows)]
        assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (LabelNoise(Full()), "protocol label_noise draws by class: choose one of .*few_shot"),
        (LongTail(Full()), "protocol long_tail draws by class: choose one of .*few_shot"),
        (EasyToHard(), "protocol easy_to_hard draws by class: choose one of .*few_shot"),
        (GZSL(), "protocol gzsl draws by class: choose one of .*few_shot"),
        (DomainIncremental(), "there is no protocol domain_incremental: leave it out"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_protocols_that_need_one_class_per_row_are_refused(asked, protocol, text):
    with pytest.raises(InputError, match=f"dataset shapes has a class per pixel.*{text}"):
        check(asked(protocol=protocol))


def test_other_masks_test_by_the_names_of_their_classes(asked, scenes):
    """Oracle: the same scenes under codes of another order score as the own test scenes do."""
    plain, moved = (run(asked(test_on=test_on)) for test_on in (None, other(scenes)))
    one, two = result(plain), result(moved)
    assert one["metrics"] == two["metrics"]
    assert two["labels"]["dataset"] == "shapes to other"
    assert two["evaluation"]["ignored_codes"] == [7]
    np.testing.assert_array_equal(read_predictions(plain)["confusion"], read_predictions(moved)["confusion"])
    assert (plain / "overlays.png").read_bytes() == (moved / "overlays.png").read_bytes()


def test_other_masks_may_have_some_of_the_classes_and_no_others(asked, scenes):
    names = [*scenes.class_names[:4], "star", "dot"]
    lacking = transfer(scenes, other(scenes, [0, 1, 2, 3, 4]))
    assert lacking.dataset.partitions["test"].labels.shape == (12, 6)
    assert not lacking.dataset.partitions["test"].labels[:, 5].any()
    own, told = scenes.partitions["test"].masks, lacking.dataset.partitions["test"].masks.rows(np.arange(12))
    for row in range(12):
        np.testing.assert_array_equal(told[row], np.where(own[row] == 5, 255, own[row]))
    with pytest.raises(InputError, match="dataset other tests class star that dataset shapes does not know"):
        draw(check(asked(test_on=other(scenes, names=names))))


def test_masks_are_tested_on_masks_alone(asked, scenes):
    from probe.datasets.sklearn import load

    with pytest.raises(InputError, match=r"shapes has a class per pixel, .* has one class per row: give a dataset to"):
        check(asked(test_on=load("digits")))


def test_one_fit_is_tested_on_several_sets_of_masks(asked, scenes, tmp_path):
    sets = {"b": other(scenes), "c": other(shapes.load(60, 12, seed=1), name="c")}
    named = prepare(asked(shifted=sets))
    run_once(asked(shifted=sets))
    for (place, dataset), beside in zip(sets.items(), named.beside, strict=True):
        alone = run(replace(asked(test_on=dataset), folder=tmp_path / f"alone {place}"))
        assert result(beside.folder)["metrics"] == result(alone)["metrics"]
        assert (beside.folder / "overlays.png").read_bytes() == (alone / "overlays.png").read_bytes()


def test_runs_on_masks_are_no_members_of_an_ensemble(asked):
    members = [run(asked(head=NearestClassMean(), patches={"per_class": n})) for n in (None, 2)]
    with pytest.raises(InputError, match="has a class per pixel, of which a run keeps no outputs that could be combin"):
        combine([read_member(member) for member in members], "mean")
