"""Configurations that are composed ahead of a sweep."""

import pickle

import pytest
from hydra.errors import HydraException

from probe.command import sweeper


class Loader:
    """Composes what `word` is, and counts how often."""

    asked = 0

    def load_sweep_config(self, config, job):
        self.asked += 1
        if "head=nope" in job:
            raise HydraException("no such head")
        return {"job": job, "config": config}

    def get_search_path(self):
        return "here"


def test_a_job_is_composed_once_for_the_check_and_the_launcher():
    inner = Loader()
    composed = sweeper.Composed(inner)
    composed.compose("c", ["seed=1"])
    first = composed.load_sweep_config("c", ["seed=1"])
    assert first == {"job": ["seed=1"], "config": "c"}
    assert inner.asked == 1
    assert composed.load_sweep_config("c", ["seed=1"]) is not first  # launchers write into what they get
    assert inner.asked == 2


def test_what_cannot_be_composed_is_raised_at_the_check():
    with pytest.raises(HydraException, match="no such head"):
        sweeper.Composed(Loader()).compose("c", ["head=nope"])


def test_no_more_wait_than_memory_allows(monkeypatch):
    monkeypatch.setattr(sweeper, "KEPT", 2)
    composed = sweeper.Composed(Loader())
    for seed in range(5):
        composed.compose("c", [f"seed={seed}"])
    assert len(composed.ahead) == 2


def test_other_processes_get_the_loader_alone():
    composed = sweeper.Composed(Loader())
    composed.compose("c", ["seed=1"])
    assert type(pickle.loads(pickle.dumps(composed))) is Loader
    assert composed.get_search_path() == "here"
