import json

import numpy as np
import pytest
from run_folders import write_record
from scipy.special import logsumexp
from sklearn.naive_bayes import GaussianNB

from probe.core.errors import InputError
from probe.experiment.teacher import fitted_logits, out_of_fold_logits, read_teacher, stratified_folds
from probe.heads.dual_head_kd import ARMS, DualHeadKD
from probe.heads.fixed_moments import FixedMoments
from probe.heads.shared.head import Head


class Recorder(Head):
    """A naive Bayes teacher that notes which rows it was fitted on and asked about."""

    fits: list = []  # noqa: RUF012

    def fit(self, X, y, *, validation=None):
        X, codes = self._check_fit(X, y)
        self.model_ = GaussianNB().fit(np.asarray(X), codes)
        self.fits.append([np.asarray(X), []])
        return self

    def _logits(self, X):
        self.fits[-1][1].append(np.asarray(X))
        joint = self.model_.predict_joint_log_proba(np.asarray(X))
        return joint - logsumexp(joint, axis=1, keepdims=True)


def rows(n=60, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = (2 * np.random.default_rng(5).standard_normal((n_classes, 6))[y] + rng.standard_normal((n, 6))).astype("f4")
    return X, y


def test_no_row_teaches_its_own_logits():
    X, y = rows()
    Recorder.fits.clear()
    logits = out_of_fold_logits(Recorder(), X, y, n_folds=4)
    assert logits.shape == (60, 3)
    assert len(Recorder.fits) == 4
    asked = []
    for fitted, chunks in Recorder.fits:
        outside = {row.tobytes() for row in fitted}
        inside = [row.tobytes() for chunk in chunks for row in chunk]
        assert len(outside) + len(inside) == 60
        assert not outside & set(inside)
        asked += inside
    assert sorted(asked) == sorted(row.tobytes() for row in X)


def test_logits_stand_in_the_rows_they_belong_to():
    X, y = rows(90)
    logits = out_of_fold_logits(Recorder(), X, y, seed=3)
    folds = stratified_folds(y, 5, 3)
    expected = GaussianNB().fit(X[folds != 2], y[folds != 2]).predict_joint_log_proba(X[folds == 2])
    expected -= logsumexp(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(logits[folds == 2], expected, atol=1e-3)


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_folds_spread_every_class_and_follow_the_seed(n_folds):
    labels = np.repeat([0, 1, 2], [31, 2, 9])
    folds = stratified_folds(labels, n_folds, 0)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=n_folds)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, stratified_folds(labels, n_folds, 0))
    assert not np.array_equal(folds, stratified_folds(labels, n_folds, 1))


def test_validation_rows_come_behind_and_their_unknown_classes_teach_nothing():
    X, y = rows(90)
    known, train = y < 2, slice(0, 60)
    X_train, y_train = X[train][known[train]], y[train][known[train]]
    logits = out_of_fold_logits(Recorder(), X_train, y_train, validation=(X[60:], y[60:]))
    assert logits.shape == (len(y_train) + 30, 2)
    assert np.isfinite(logits).all()
    head = DualHeadKD(epochs=(2,), trunk_width=8)
    head.fit(X_train, y_train, validation=(X[60:], y[60:]), teacher_logits=logits)
    assert set(head.predict(X)) <= {0, 1}


def test_memmaps_and_teachers_of_several_kinds_are_read_row_by_row(tmp_path):
    X, y = rows()
    tokens = np.random.default_rng(0).standard_normal((60, 5, 6)).astype(np.float16)
    np.save(tmp_path / "tokens.npy", tokens)
    mapped = {"pooled": X, "tokens": np.load(tmp_path / "tokens.npy", mmap_mode="r")}
    head = FixedMoments(hidden_width=4, n_groups=2, Cs=(1e-2,))
    logits = out_of_fold_logits(head, mapped, y, n_folds=3)
    np.testing.assert_allclose(logits, out_of_fold_logits(head, {"pooled": X, "tokens": tokens}, y, n_folds=3))
    part = {kind: value[40:] for kind, value in mapped.items()}
    rest = {kind: value[:40] for kind, value in mapped.items()}
    both = out_of_fold_logits(head, rest, y[:40], validation=(part, y[40:]), n_folds=3)
    np.testing.assert_allclose(both, logits, atol=1e-5)


def test_a_class_of_one_row_or_a_single_fold_is_refused():
    X, y = rows()
    y[0] = 9
    with pytest.raises(InputError, match="a single row has 1 class, the first is 9, and out-of-fold logits need"):
        out_of_fold_logits(Recorder(), X, y)
    for n_folds in (1, 2.5):
        with pytest.raises(InputError, match=f"n_folds is {n_folds}, expected a whole number from 2"):
            out_of_fold_logits(Recorder(), *rows(), n_folds=n_folds)


@pytest.fixture
def run_folder(tmp_path):
    X, y = rows()
    head = DualHeadKD(arm="ce", trunk_depth=0, epochs=(5,), learning_rates=(0.01,)).fit(X, y)
    head.save(tmp_path / "head.safetensors")
    write_record(
        tmp_path,
        config={"backbone": {"_target_": "b"}, "head": {"_target_": "h"}},
        dataset={"name": "digits", "fingerprint": "f" * 32, "class_names": ["a", "b", "c"]},
        protocol={"rows": "r" * 32},
    )
    return tmp_path, head


def test_a_fitted_teacher_gives_its_own_logits_on_its_own_split(run_folder):
    folder, head = run_folder
    teacher = read_teacher(folder, fingerprint="f" * 32, class_names=("a", "b", "c"))
    digest = json.loads((folder / "result.json").read_text())["run"]["digest"]
    assert (teacher.digest, teacher.config["head"]) == (digest, {"_target_": "h"})
    X, y = rows()
    assert np.array_equal(fitted_logits(teacher, X, y, rows="r" * 32), head.logits(X))
    both = fitted_logits(teacher, X[:40], y[:40], rows="r" * 32, validation=(X[40:], y[40:]))
    np.testing.assert_allclose(both, head.logits(X), atol=1e-6)


def test_a_teacher_of_another_dataset_of_other_classes_or_other_rows_is_refused(run_folder, tmp_path):
    folder, _ = run_folder
    X, y = rows()
    with pytest.raises(InputError, match=r"fingerprint f{32}, and this dataset has 0{32}: give a run on the same"):
        read_teacher(folder, fingerprint="0" * 32, class_names=("a", "b", "c"))
    with pytest.raises(InputError, match="knows 3 classes of digits, which are not the 2 of this dataset"):
        read_teacher(folder, fingerprint="f" * 32, class_names=("a", "b"))
    with pytest.raises(InputError, match=r"nothing: result\.json cannot be read .*: give the folder of a complete run"):
        read_teacher(tmp_path / "nothing", fingerprint="f" * 32, class_names=("a", "b", "c"))
    teacher = read_teacher(folder, fingerprint="f" * 32, class_names=("a", "b", "c"))
    with pytest.raises(InputError, match=r"fitted on other rows than this run trains on \(split r{32}, here 0{32}\)"):
        fitted_logits(teacher, X, y, rows="0" * 32)
    with pytest.raises(InputError, match=r"fitted on the classes \[0, 1, 2\], which are not those of the training"):
        fitted_logits(teacher, X[y < 2], y[y < 2], rows="r" * 32)


def test_every_arm_learns_from_out_of_fold_logits_of_stronger_features():
    rng = np.random.default_rng(0)
    strong, y = rows(400, 4, seed=1)
    weak = strong @ rng.standard_normal((6, 4)).astype(np.float32)
    logits = out_of_fold_logits(Recorder(), strong[:300], y[:300])
    assert (logits.argmax(axis=1) == y[:300]).mean() > 0.9
    for arm in ARMS:
        head = DualHeadKD(arm=arm, epochs=(20,), learning_rates=(1e-2,), trunk_width=32)
        head.fit(weak[:300], y[:300], teacher_logits=logits)
        assert head.score(weak[300:], y[300:]) > 0.6


def test_a_teacher_whose_head_is_damaged_teaches_nothing(run_folder):
    folder, _ = run_folder
    path = folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    teacher = read_teacher(folder, fingerprint="f" * 32, class_names=("a", "b", "c"))
    with pytest.raises(InputError, match=r"^teacher .*: head.safetensors is half-written or damaged: run it again"):
        fitted_logits(teacher, *rows(), rows="r" * 32)
