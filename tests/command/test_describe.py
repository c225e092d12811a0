import math
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from probe.backbones.identity import IdentityBackbone
from probe.backbones.module import ModuleBackbone
from probe.backbones.shared.image_network import ImageNetwork
from probe.backbones.shared.views import MultiView
from probe.backbones.summary import SummaryBackbone
from probe.backbones.tiny import TinyBackbone
from probe.command import cli
from probe.command import subcommands as commands
from probe.command.describe import contact_sheet, describe, render
from probe.core.base import Dataset
from probe.core.errors import DoesNotFit
from probe.core.ragged import Ragged
from probe.core.targets.labels import Labels
from probe.datasets import depth_scenes, gaussians, shapes, sklearn
from probe.datasets.shared.partitions import ArrayPartition, make_dataset
from probe.datasets.shared.series_rows import SeriesPartition


def test_facts_of_images():
    facts = describe(TinyBackbone(pretrained=False), sklearn.load("digits"), batch_size=4)
    assert facts["rows"] == {"train": 899, "test": 898}
    assert facts["shapes"] == {"pooled": (512,), "tokens": (16, 512), "map": (512, 4, 4)}
    assert facts["bytes_per_kind"] == {"pooled": 1797 * 512 * 4, "tokens": 1797 * 8192 * 2, "map": 1797 * 8192 * 2}
    assert facts["n_classes"] == 10
    assert facts["rows_of_train_elsewhere"] == {"test": 0}
    assert facts["minutes"] > 0


def test_flops_count_a_multiply_add_as_two():
    class Backbone(ImageNetwork):
        def transform(self, row):
            return torch.zeros(3, 8, 8)

        def _features(self, batch):
            return {"pooled": self.network(batch).mean((2, 3))}

    backbone = Backbone(torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), name="conv", image_size=(8, 8))
    assert describe(backbone, sklearn.load("digits"))["flops_per_row"] == 2 * 8 * 8 * 5 * 3 * 9


def test_small_layers_are_stored_in_float32():
    facts = describe(TinyBackbone(pretrained=False, taps=["stages.1"]), sklearn.load("digits"), batch_size=4)
    (width,) = facts["shapes"]["stages.1"]
    assert facts["bytes_per_kind"]["stages.1"] == 1797 * width * 4


def test_captions_name_the_class_or_all_labels():
    data = sklearn.load("digits")
    with_long_names = Dataset("x", tuple(f"a very long name of class {k}" for k in range(10)), data.partitions)
    plain, long = (contact_sheet(TinyBackbone(pretrained=False), d) for d in (data, with_long_names))
    assert plain.size == long.size
    captions = [np.asarray(sheet)[96:112, :98] for sheet in (plain, long)]
    assert 0 < (captions[0] < 128).sum() < (captions[1] < 128).sum()
    assert (captions[1][:, 96:] == 255).all()  # cut to the picture's width
    targets = np.eye(10, dtype=int)[data.partitions["train"].labels]
    targets[0] = 0
    targets[0, [1, 3]] = 1
    several = ArrayPartition(data.partitions["train"].rows, targets, data.partitions["train"].ids)
    sheet = contact_sheet(
        TinyBackbone(pretrained=False), Dataset("y", tuple("abcdefghij"), {"train": several}, target=Labels())
    )
    assert sheet.size == plain.size


def test_views_of_an_image_stand_side_by_side():
    data = sklearn.load("digits")
    sheet = np.asarray(contact_sheet(MultiView(TinyBackbone(pretrained=False), n=2, kind="flips"), data))
    assert sheet.shape == (6 * (96 + 16), 6 * (96 + 2), 3)
    np.testing.assert_array_equal(sheet[:96, 98:194], sheet[:96, 95::-1])  # mirrored
    np.testing.assert_array_equal(sheet[96:112, :98], sheet[96:112, 98:196])  # under the same caption


def test_rows_of_numbers_have_no_pictures():
    data = gaussians.load(n_train=100, n_test=50)
    assert describe(IdentityBackbone(), data)["shapes"] == {"pooled": (64,)}
    assert contact_sheet(IdentityBackbone(), data) is None


def test_the_contact_sheet_shows_the_images_as_they_are():
    data = sklearn.load("digits")
    backbone = TinyBackbone(pretrained=False)
    sheet = np.asarray(contact_sheet(backbone, data))
    assert sheet.shape == (4 * (96 + 16), 4 * (96 + 2), 3)
    expected = data.partitions["train"][0].convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(sheet[:96:3, :96:3], np.asarray(expected))


def test_the_contact_sheet_undoes_the_normalisation_of_floats(monkeypatch):
    data, backbone = sklearn.load("digits"), TinyBackbone(pretrained=False)
    expected = np.asarray(contact_sheet(backbone, data)).astype(int)
    to_bytes = backbone.transform
    monkeypatch.setattr(backbone, "transform", lambda row: backbone._normalisation(to_bytes(row)))
    np.testing.assert_allclose(np.asarray(contact_sheet(backbone, data)).astype(int), expected, atol=1)


def test_the_command_prints_and_draws(capsys, tmp_path):
    overrides = [
        "backbone=tiny",
        "backbone.pretrained=false",
        "dataset=digits",
        "dataset.test_fraction=0.2",
        "device=cpu",
    ]
    assert commands.describe([*overrides, "--sheet", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    assert "tiny-random, 1," in printed
    assert "digits, 10 classes, 1,438 train, 359 test" in printed
    (layers,) = [line for line in printed.splitlines() if line.startswith("layers")]
    assert "backbone.taps=[<layer>] reads.pooled=<layer>" in layers
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (392, 448)


def test_a_limit_holds_in_describe_too(capsys, tmp_path):
    assert commands.describe(["backbone=tiny", "limit=50", "device=cpu", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "digits(limit=50), 10 classes, 50 train, 50 test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["dataset=digit"], "there is no dataset=digit: did you mean digits?"),
        (["dataset=folder", "dataset.path=nowhere"], "nowhere is no folder"),
    ],
)
def test_wrong_overrides_are_refused(overrides, text, capsys):
    assert cli.subcommand("describe", overrides) == 1
    printed = capsys.readouterr().err
    assert text in printed
    assert "Traceback" not in printed


def test_what_is_not_among_the_rows_is_shown():
    rows = [ArrayPartition(np.zeros((2, 3), np.float32), [0, 1], ["a", "b"]) for _ in range(2)]
    data = make_dataset("x", ["a", "b"], dict(zip(("train", "test"), rows, strict=True)), left_out=["2 files (.heic)"])
    assert "left out       2 files (.heic)\n" in render(describe(IdentityBackbone(), data))


def test_it_tells_that_pooled_features_are_logits():
    backbone = ModuleBackbone("timm:create_model", {"model_name": "test_resnet", "num_classes": 10}, size=32)
    facts = describe(backbone, sklearn.load("digits"), batch_size=4)
    assert list(facts["notes"]) == ["pooled"]
    assert f"note           {backbone.notes['pooled']}" in render(facts)
    assert "note  " not in render(describe(TinyBackbone(pretrained=False), sklearn.load("digits"), batch_size=4))


def test_rows_that_the_backbone_does_not_read_are_refused():
    with pytest.raises(DoesNotFit, match="identity reads vectors, the rows of dataset digits are images"):
        describe(IdentityBackbone(), sklearn.load("digits"))


@pytest.mark.parametrize(
    ("shortest", "told"), [(3, "2 channels, 3 to 9 steps, median 9"), (9, "2 channels, 9 steps each")]
)
def test_lengths_and_channels_of_series_are_told(shortest, told):
    rows = [np.ones((shortest if i == 0 else 9, 2)) * i for i in range(8)]
    parts = {part: SeriesPartition(rows, [0, 1] * 4, [str(i) for i in range(8)]) for part in ("train", "test")}
    facts = describe(SummaryBackbone(), make_dataset("waves", ["a", "b"], parts, rows="series"))
    assert facts["shapes"] == {"pooled": (10,)}
    assert f"series         {told}\n" in render(facts)
    assert "leakage        of test 8 rows in train too" in render(facts)


def test_what_compilation_brings_is_told_for_the_rows_at_hand():
    class Compiled(TinyBackbone):
        program_rows = 4
        slow = 0.0

        @contextmanager
        def uncompiled(self):
            self.slow = 0.02
            yield
            self.slow = 0.0

        def extract(self, batch, kinds):
            time.sleep(self.slow)
            return super().extract(batch, kinds)

    facts = describe(Compiled(pretrained=False), sklearn.load("digits"), batch_size=2)
    assert facts["compiled"]["pays_from"] > 0
    (line,) = [line for line in render(facts).splitlines() if line.startswith("compiled")]
    assert "times the rows of backbone.compile=false, after" in line
    assert "rows on, there are 1,797" in line
    facts["compiled"]["pays_from"] = math.inf
    assert "gains nothing" in render(facts)
    assert "compiled" not in render(facts | {"compiled": None})


def test_masks_are_told_with_the_ceiling_of_each_grid():
    data = shapes.load(n_train=100, n_test=10)
    facts = describe(TinyBackbone(pretrained=False, taps=["stages.0:map"]), data, batch_size=4)
    found = facts["masks"]["ceilings"]
    assert 0.2 < found["map"] < found["stages.0:map"] < 1
    lines = dict(line.split(maxsplit=1) for line in render(facts).splitlines())
    assert lines["masks"] == "32 x 32 pixels"
    assert lines["ceiling"].startswith(f"mIoU {100 * found['map']:.1f} % on map (4 x 4), ")
    assert "on 100 training images" in lines["ceiling"]


def test_masks_stand_beside_what_the_backbone_sees():
    data = shapes.load(n_train=100, n_test=10)
    train = data.partitions["train"]
    sheet = np.asarray(contact_sheet(TinyBackbone(pretrained=False), data))
    assert sheet.shape[1] == 4 * (2 * 96 + 2)
    left, right = sheet[:96, :96], sheet[:96, 96:192]
    changed = (left != right).any(axis=2)[::3, ::3]
    np.testing.assert_array_equal(changed | (train.masks[0] == 0), np.ones((32, 32), dtype=bool))
    assert not changed[train.masks[0] == 0].any()
    flipped = np.asarray(contact_sheet(MultiView(TinyBackbone(pretrained=False), n=2, kind="flips"), data))
    np.testing.assert_array_equal(flipped[:96, 194 + 96 : 194 + 192], flipped[:96, 96:192][:, ::-1])


def test_maps_are_told_with_the_least_error_of_each_grid_and_shown_in_colours():
    data = depth_scenes.load(n_train=30, n_test=10)
    backbone = TinyBackbone(pretrained=False, taps=["stages.0:map"])
    facts = describe(backbone, data, batch_size=4)
    found = facts["masks"]["ceilings"]
    assert found["map"] > found["stages.0:map"] > 0
    lines = dict(line.split(maxsplit=1) for line in render(facts).splitlines())
    assert lines["dataset"] == "depth_scenes, a number per pixel: depth (m), 30 train, 10 test"
    assert lines["maps"] == "32 x 32 pixels"
    assert lines["floor"].startswith(f"RMSE {found['map']:.4g} on map (4 x 4), ")
    assert lines["floor"].endswith("; the means of patches, upsampled, on 30 training images")
    right = np.asarray(contact_sheet(backbone, data))[:96, 96:192]
    holes = np.isnan(data.partitions["train"].number_maps[0])
    np.testing.assert_array_equal((right[1::3, 1::3] == 0).all(axis=2), holes)


SMALL = ["backbone=tiny", "backbone.pretrained=false", "dataset=digits", "device=cpu", "limit=50"]


def told(words, capsys, tmp_path):
    """The lines of the command by their names."""
    assert commands.describe([*SMALL, *words, "--sheet", str(tmp_path / "sheet.png")]) == 0
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line)


def test_disk_memory_and_minutes_of_a_run_are_foretold(capsys, tmp_path):
    lines = told(["head=lda", "+cache=" + str(tmp_path)], capsys, tmp_path)
    assert lines["disk"].startswith(f"features that are read take 0 MB, {tmp_path} has ")
    assert lines["memory"].startswith("about ")
    assert lines["memory"].endswith("to fit LinearDiscriminant on 50 rows")
    assert lines["fit"].startswith("about ")
    assert "sweep" not in lines
    assert told(["head=linear_sgd"], capsys, tmp_path)["memory"].startswith("perhaps (it does not say)")


def test_a_sweep_is_foretold_as_a_whole_and_what_cannot_be_run_is_said(capsys, tmp_path):
    lines = told(["-m", "head=lda,ncm,label_words", "seed=0,1"], capsys, tmp_path)
    assert lines["sweep"].startswith("4 runs, about ")
    assert lines["no"].startswith("run ")
    assert "LinearDiscriminant" in lines["memory"]


def test_what_will_not_fit_is_told_with_the_way_out(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("probe.experiment.forecast.available_bytes", lambda device: 2**20)
    monkeypatch.setattr("probe.command.forecasts.free_bytes", lambda folder: 1000)
    lines = told(["head=lda"], capsys, tmp_path)
    assert "B of memory and cpu has 1 MB left: take fewer rows (limit=<number>)" in lines["memory"]
    assert "has 0 MB free: make room (probe cache prune --older-than 30d)" in lines["disk"]


def test_rows_that_differ_in_length_count_with_their_mean_length():
    class Words(IdentityBackbone):
        kinds = ("tokens",)

        def extract(self, batch, kinds):
            lengths = torch.arange(1, len(batch) + 1)
            return {"tokens": Ragged(torch.ones(int(lengths.sum()), 4), lengths)}

    facts = describe(Words(), gaussians.load(n_train=100, n_test=50), batch_size=16)
    assert facts["shapes"] == {"tokens": (9, 4)}
    assert facts["bytes_per_kind"] == {"tokens": 150 * 9 * 4 * 2}
