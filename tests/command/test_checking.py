import numpy as np
import pytest
import torch

from probe.backbones.identity import IdentityBackbone
from probe.backbones.raw import RawInput
from probe.backbones.rocket import RocketBackbone
from probe.backbones.summary import SummaryBackbone
from probe.backbones.tiny import TinyBackbone
from probe.command import cli
from probe.command.checking import CHECKS, check, lines, made_rows
from probe.core.rows import ROWS, sort_of


@pytest.mark.parametrize("backbone", [TinyBackbone(pretrained=False), RocketBackbone(100), SummaryBackbone(),
                                      IdentityBackbone(), RawInput("texts")], ids=lambda b: b.reads)  # fmt: skip
def test_backbones_of_every_sort_of_rows_are_sound(backbone):
    found = check(backbone, made_rows(backbone.reads), "cpu")
    assert list(found) == list(backbone.kinds)
    assert not any(of_kind.faults for of_kind in found.values())
    header, *table = lines(backbone, found)
    assert header.split() == ["kind", "shape", *CHECKS]
    assert all(line.endswith("ok") for line in table)


@pytest.mark.parametrize("rows", ROWS)
def test_rows_are_made_of_every_sort(rows):
    assert {sort_of(row) for row in made_rows(rows)} == {rows}


class Faulty(SummaryBackbone):
    """Means of padded series, wrong in the way that it is named for."""

    def __init__(self, fault):
        self.name, self.fault, self.n_calls = f"faulty {fault}", fault, 0

    def transform(self, row):
        return torch.from_numpy(row)

    def collate(self, rows):
        series = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        return {"series": series, "mask": torch.arange(series.shape[1]) < lengths[:, None]}

    def extract(self, batch, kinds):
        self.n_calls += 1
        mask = batch["mask"][..., None]
        series = batch["series"] if self.fault == "padding" else batch["series"] * mask
        found = series.sum(dim=1) / mask.sum(dim=1)
        if self.fault == "twice":
            found = found + self.n_calls
        if self.fault == "alone":
            found = found - found.mean(dim=0)
        if self.fault == "crash" and len(found) == 1:
            raise ValueError
        return {"pooled": found / 0 if self.fault == "finite" else found}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("twice", "differ between two extractions of the same rows"),
        ("alone", "differ between a batch and a row alone"),
        ("crash", "differ between a batch and a row alone"),
        ("padding", "hang on what stands in the padding"),
        ("finite", "are not finite"),
    ],
)
def test_each_fault_is_found_and_told(fault, told):
    backbone = Faulty(fault)
    found = check(backbone, made_rows("series"), "cpu")
    text = list(lines(backbone, found))
    assert text[1].endswith("no")
    assert text[2].startswith(f"pooled features of backbone faulty {fault} {told}")


def test_a_sound_mean_has_no_fault_and_another_shape_than_it_says_is_one():
    sound = Faulty("none")
    assert not check(sound, made_rows("series"), "cpu")["pooled"].faults
    sound.shapes, sound.taps = {"pooled": (7,)}, ()
    assert (
        "have the shape (3,) and not (7,), as the backbone says"
        in check(sound, made_rows("series"), "cpu")["pooled"].faults[0]
    )


def test_the_command_takes_rows_of_a_dataset_that_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path))
    np.savez(tmp_path / "a.npz", train_series=np.random.default_rng(0).normal(size=(8, 9, 2)), train_labels=[0, 1] * 4)
    assert cli.subcommand("check", ["dataset=npz", f"dataset.path={tmp_path / 'a.npz'}", "backbone=summary"]) == 0
    assert "pooled  10 " in capsys.readouterr().out
    assert cli.subcommand("check", ["backbone=raw", "backbone.rows=series"]) == 1
    assert "set backbone.n_steps to the steps of the longest" in capsys.readouterr().err
    assert cli.subcommand("check", ["backbone=summary", "dataset=digits"]) == 1
    assert "backbone summary reads series, the rows of dataset digits are images" in capsys.readouterr().err
