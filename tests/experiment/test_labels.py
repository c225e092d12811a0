"""What tables call heads and protocols."""

import json

from probe.backbones.identity import IdentityBackbone
from probe.datasets.sklearn import load
from probe.experiment.identity import head_parameters
from probe.experiment.labels import bases_of, label, presets
from probe.experiment.request import Run, Teacher
from probe.experiment.run import run_once
from probe.features.store import FeatureStore
from probe.heads.dual_head_kd import DualHeadKD
from probe.heads.linear import LinearProbe
from probe.heads.moment_probing import MomentProbing
from probe.heads.ridge import RidgeProbe
from probe.protocols.full import Full


def of(name, head):
    return label(name, head_parameters(head), *bases_of(name, type(head), head_parameters))


def test_defaults_need_no_word():
    assert of("linear", LinearProbe()) == "linear"


def test_what_differs_stands_behind_the_name():
    assert of("linear", LinearProbe(Cs=[1, 10])) == "linear(Cs=[1.0,10.0])"


def test_a_preset_is_called_by_its_name_whoever_spelled_it():
    head = MomentProbing(hidden_width=64, n_groups=2, epochs=(10,), learning_rates=(3e-3,), warmup_epochs=1)
    assert of("moment_probing", head) == "moment_probing_small"


def test_what_differs_from_a_preset_stands_behind_its_name_where_that_is_shorter():
    told = presets("moment_probing")["moment_probing_small"]
    assert of("moment_probing", MomentProbing(**told | {"epochs": [20]})) == "moment_probing_small(epochs=[20])"
    assert of("moment_probing", MomentProbing(n_groups=2)) == "moment_probing(n_groups=2)"


def test_a_thing_that_has_a_name_keeps_its_spaces():
    assert label("kd", {"teacher": {"name": "ridge on tiny", "head": {}}}) == "kd(teacher=ridge on tiny)"


def test_a_class_that_wants_arguments_shows_them_all():
    class Wants:
        def __init__(self, k):
            self.k = k

    assert label("wants", {"k": 3}, *bases_of("wants", Wants, vars)) == "wants(k=3)"


def test_the_usual_teacher_is_not_told_however_it_came_and_another_is(tmp_path):
    def of_run(teacher):
        head = DualHeadKD(epochs=[1], learning_rates=[0.01], teacher_folds=3)
        store = FeatureStore(tmp_path / "cache")
        asked = Run(IdentityBackbone(), load("iris"), Full(), head, store, tmp_path / "runs", teacher=teacher)
        return json.loads((run_once(asked)[0] / "result.json").read_text())

    usual, same, other = (of_run(t and Teacher(IdentityBackbone(), t)) for t in (None, LinearProbe(), RidgeProbe()))
    assert usual["labels"]["head"] == same["labels"]["head"] == "dual_head_kd_small(epochs=[1])"
    assert usual["run"]["digest"] == same["run"]["digest"]
    assert usual["head"]["parameters"]["teacher"]["name"] == "linear on identity"
    assert other["labels"]["head"] == "dual_head_kd_small(epochs=[1],teacher=ridge on identity)"
