"""Configurations that are composed ahead of a sweep."""

import pickle
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from probe.command import sweeper

CONF = str(Path(__file__).parents[2] / "conf")


class Counting:
    """Hydra's loader, and how often it was asked."""

    def __init__(self, loader):
        self.loader = loader
        self.asked = 0

    def load_sweep_config(self, config, job):
        self.asked += 1
        return self.loader.load_sweep_config(config, job)

    def get_search_path(self):
        return "here"


@pytest.fixture(scope="module")
def loader():
    with initialize_config_dir(CONF, version_base=None):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def master(loader):
    return loader.load_configuration("config", ["dataset=iris"], RunMode.MULTIRUN)


def test_a_job_is_composed_once_for_the_check_and_the_launcher(loader, master):
    inner = Counting(loader)
    composed = sweeper.Composed(inner)
    composed.compose(master, ["head=ncm"])
    first = composed.load_sweep_config(master, ["head=ncm"])
    assert first.head._target_.endswith("NearestClassMean")
    assert inner.asked == 1
    assert composed.load_sweep_config(master, ["head=ncm"]) is not first  # launchers write into what they get
    assert inner.asked == 2


def test_jobs_that_differ_in_whole_numbers_are_composed_once_and_come_out_as_hydra_s(loader, master):
    inner = Counting(loader)
    composed = sweeper.Composed(inner)
    jobs = [
        ["dataset=iris", f"head={head}", f"seed={seed}", f"limit={limit}", "+head.x=3", "name='a=b'"]
        for head in ("ncm", "lda")
        for seed in (0, 7)
        for limit in (50, 60)
    ]
    for job in jobs:
        composed.compose(master, job)
    assert inner.asked == 2
    for job in jobs:
        expected = loader.load_sweep_config(master, job)
        assert OmegaConf.to_container(composed.load_sweep_config(master, job)) == OmegaConf.to_container(expected)


@pytest.mark.parametrize(
    ("job", "numbers"),
    [
        (["head=knn", "seed=1", "limit=-1", "head.k=007"], {"seed": "seed=1"}),
        (["head.k=3", "head={k:5}"], {}),
        (["features.a=3", "features.a.b=4"], {}),
        (["seed=1", "seed=2"], {}),
        (["x='1'", "+head.k=3", "~seed", "seed=4"], {}),
    ],
)
def test_a_number_is_taken_out_where_no_other_override_is_about_it(job, numbers):
    assert sweeper.numbers_of(job) == numbers


def test_a_group_whose_choice_is_a_number_is_left_to_hydra(loader, master):
    inner = Counting(loader)
    composed = sweeper.Composed(inner)
    composed.compose(master, ["head=ncm", "seed=1"])
    with pytest.raises(ValueError, match="Config group override must be a string"):
        composed.compose(master, ["head=5", "seed=1"])


def test_what_cannot_be_composed_is_raised_at_the_check(loader, master):
    with pytest.raises(HydraException, match="Could not find 'head/nope'"):
        sweeper.Composed(loader).compose(master, ["head=nope"])


def test_no_more_wait_than_memory_allows(loader, master, monkeypatch):
    monkeypatch.setattr(sweeper, "KEPT", 2)
    composed = sweeper.Composed(loader)
    for seed in range(5):
        composed.compose(master, [f"seed={seed}"])
    assert len(composed.ahead) == 2


def test_other_processes_get_the_loader_alone():
    composed = sweeper.Composed(Counting(None))
    assert type(pickle.loads(pickle.dumps(composed))) is Counting
    assert composed.get_search_path() == "here"
