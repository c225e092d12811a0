"""Values of the configuration that no part could read are refused by name."""

import copy

import pytest

from probe.command import config as building
from probe.core.errors import InputError


@pytest.fixture(scope="module")
def config():
    return building.compose(["dataset=iris", "head=ncm"])


def test_the_default_configuration_passes(config):
    building.check(config)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"seed": "abc"}, "seed is 'abc', expected a whole number"),
        ({"seed": True}, "seed is True, expected a whole number"),
        ({"views": 3}, r"views is 3, expected a mapping.*views\.n=3"),
        ({"views": {"n": "many"}}, "views.n is 'many', expected a whole number"),
        ({"features": {"batch_size": 2.5}}, r"features\.batch_size is 2\.5, expected a whole number"),
        ({"force": "yes", "limit": "ten"}, "limit is 'ten'.*; force is 'yes', expected true or false"),
        ({"save_rows": "maybe"}, "save_rows is 'maybe', expected true or false"),
        ({"conformal_level": "high"}, "conformal_level is 'high', expected a number between 0 and 1"),
        ({"head": "ncm"}, "head is 'ncm', expected a name from its group"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(config, override, sentence):
    with pytest.raises(InputError, match=sentence):
        building.check(copy.deepcopy(config) | override)


def test_a_run_checks_its_configuration_before_anything_is_built(config):
    with pytest.raises(InputError, match="seed is 'abc'"):
        building.build(config | {"seed": "abc", "backbone": {"_target_": "no.such.module"}}, "probe")


@pytest.mark.parametrize(
    ("words", "said", "remedied"),
    [
        (["conformal_level=0.5"], r"conformal_level=0.5 changes nothing, .*: set calibrate=true", ["calibrate=true"]),
        (
            ["dataset=shapes", "head=ncm", "calibrate=true", "conformal_level=0.5"],
            "conformal_level=0.5 changes nothing, since dataset shapes has a class per pixel, of which no sets are",
            None,
        ),
        (["views.kind=flips", "views.seed=3"], r"kind=flips views.seed=3 changes .*: set views.n=2", ["views.n=2"]),
        (["views.kind=windows"], r"views.kind=windows changes nothing, .*: set views.n=5", ["views.n=5"]),
        (["views.use=draw"], r"views.use=draw changes nothing, .*: set views.n=4", ["views.n=4"]),
        (["patches.label=soft"], r"patches.label=soft changes nothing, since dataset digits has no masks", None),
    ],
)  # fmt: skip
def test_a_setting_that_nothing_reads_is_told_with_what_makes_it_count(words, said, remedied):
    parts = ["dataset=digits", "head=ncm"]
    with pytest.warns(UserWarning, match=said):
        building.build(building.compose([*parts, *words]), "probe")
    if remedied is not None:  # warnings are errors
        building.build(building.compose([*parts, *words, *remedied]), "probe")
