import warnings

import numpy as np
import pytest

import probe
from probe.experiment import forecast


@pytest.fixture
def given(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    return {
        "dataset": (X, np.arange(60) % 3),
        "head": "lda",
        "protocol": "holdout",
        "runs": tmp_path,
        "cache": tmp_path / "cache",
    }


def test_a_run_that_will_not_fit_is_told_of_in_one_sentence_and_carried_out(given, monkeypatch):
    monkeypatch.setattr(forecast, "available_bytes", lambda device: 2**20)
    message = r"^fitting LinearDiscriminant on \d+ rows takes about [\d.]+ [GM]B of memory and cpu has 1 MB left"
    with pytest.warns(UserWarning, match=message):
        assert probe.run(**given).metrics


def test_a_run_that_fits_and_a_head_that_does_not_know_are_not(given, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe.run(**given)
        monkeypatch.setattr(forecast, "available_bytes", lambda device: 1)
        probe.run(**{**given, "head": "linear_sgd"})
