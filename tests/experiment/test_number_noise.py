"""Noise on numbers to predict."""

from pathlib import Path

import numpy as np
import pytest
from number_runs import in_process
from safetensors.numpy import load_file

from probe.core.errors import InputError
from probe.datasets import sklearn
from probe.heads.ols import OrdinaryLeastSquares
from probe.protocols.cross_validation import CrossValidation
from probe.protocols.full import Full
from probe.protocols.label_noise import LabelNoise
from probe.protocols.recorded import Recorded
from probe.protocols.shared.rows_file import write_rows
from probe.protocols.shared.strata import with_strata


def written(tmp_path: Path) -> Path:
    data = sklearn.load("diabetes")
    path, noisy = tmp_path / "rows.json", LabelNoise(Full(), additive=2.0)
    write_rows(path, data, "label_noise", 0, noisy.split(with_strata(data), 0))
    return path


def test_noise_is_added_to_numbers_that_train_and_to_none_that_test(tmp_path: Path) -> None:
    head = OrdinaryLeastSquares()
    noisy = {amount: LabelNoise(Full(), additive=amount) for amount in (0.0, 2.0)}
    given = {a: in_process(tmp_path, tmp_path / str(a), head=head, protocol=noise) for a, noise in noisy.items()}
    plain = in_process(tmp_path, tmp_path / "plain", head=head)["metrics"]
    assert given[0.0]["metrics"]["mae"] == plain["mae"]
    assert given[2.0]["metrics"]["mae"]["value"] > plain["mae"]["value"] + 1
    (made,), (clean,) = (list((tmp_path / name).glob("*-s0-*")) for name in ("2.0", "plain"))
    rows = [load_file(path / "predictions.safetensors")["label"] for path in (made, clean)]
    np.testing.assert_array_equal(*rows)
    again = in_process(tmp_path, tmp_path / "recorded", head=head, protocol=Recorded(str(written(tmp_path))))
    assert again["metrics"]["mae"] == given[2.0]["metrics"]["mae"]
    noisy = LabelNoise(CrossValidation(), additive=0.5)
    calibrated = in_process(tmp_path, tmp_path / "calibrated", head=head, protocol=noisy, calibrate=True)
    assert calibrated["calibration"]["n_held_out"] > 20
    with pytest.raises(InputError, match=r"additive is 0\.5, which is noise for numbers to predict, dataset iris has"):
        in_process(tmp_path, tmp_path / "iris", dataset=sklearn.load("iris"), protocol=LabelNoise(Full(), additive=0.5))
