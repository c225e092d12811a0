"""Runs from Python: the same as by the command, with names, paths and objects."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from language_models import WORDS, network, save, tokenizer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.utils.data import TensorDataset

import probe
from probe.command.estimators import head_of
from probe.command.parts import configured, loader_of, part_of
from probe.command.subcommands import differences
from probe.core.errors import DoesNotFit, InputError
from probe.core.texts import Text
from probe.datasets.sklearn import load
from probe.heads.ncm import NearestClassMean
from probe.heads.ridge import RidgeProbe
from probe.protocols.few_shot import FewShot
from probe.results.reader import read_file, read_result


@pytest.fixture(autouse=True)
def here(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path_factory.getbasetemp() / "cache-from-python"))


class Small(nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.power = power

    def forward(self, x):
        return self.norm(self.conv(x)).abs().pow(self.power).mean((2, 3))


def small(power=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small(power)


PIXELS = {"size": 8, "mean": [0.5], "std": [0.5]}


def test_every_name_of_the_package_has_an_example_that_runs():
    for name in probe.__all__:
        found = doctest.DocTestFinder().find(getattr(probe, name), name, globs={})
        assert any(test.examples for test in found), name
        for test in found:
            assert doctest.DocTestRunner().run(test).failed == 0, name


def test_the_command_and_python_make_one_folder_of_one_digest():
    words = ["backbone=tiny", "dataset=digits", "head=linear", "head.Cs=[0.1,1]", "head.scaling=standard", "limit=80"]
    words += ["protocol=few_shot", "protocol.k=3", "seed=2", "name=both"]
    made = subprocess.run([sys.executable, "-m", "probe", *words], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    result = probe.run(
        "tiny", "digits", ("linear", {"Cs": np.array([1.0, 0.1]), "scaling": "standard"}),
        ("few_shot", {"k": np.int64(3)}), np.int64(2), name="both", limit=80, quiet=True,
    )  # fmt: skip
    assert {path.parent.name for path in Path("runs/both").glob("*/result.json")} == {result.folder.name}
    assert not result.is_new
    assert result.metrics["top1"].low <= result.metrics["top1"].value <= result.metrics["top1"].high


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"head": RidgeProbe(alphas=[1, 10])}, ["head=ridge", "head.alphas=[1,10]"]),
        ({"head": SVC(C=3)}, ["head=sklearn", "head.estimator=sklearn.svm.SVC", "head.params={C:3}"]),
        ({"protocol": FewShot(2)}, ["protocol=few_shot", "protocol.k=2"]),
        ({"backbone": ("identity", {})}, ["backbone=identity"]),
        ({"dataset": ("digits", {"as_rows": True}), "backbone": "identity"},
         ["dataset=digits", "dataset.as_rows=true", "backbone=identity"]),
    ],
)  # fmt: skip
def test_what_the_command_can_say_has_the_digest_of_the_command(given, words):
    from probe.command import config as building
    from probe.experiment.run import check, draw, name

    ours = {"dataset": "iris", "head": "ncm", **given}
    defaults = [f"{group}={ours[group]}" for group in ("dataset", "head") if group not in given]
    parts = {group: part_of(group, ours.get(group), print) for group in ("backbone", "dataset", "head", "protocol")}
    config, live = configured(parts, {}, {"standardize": False}, print)
    assert not live
    named = [name(draw(check(building.build(c, "")))) for c in (building.compose([*defaults, *words]), config)]
    assert named[0].folder == named[1].folder


def test_a_run_from_python_is_reproduced_by_its_record():
    result = probe.run(dataset="iris", head=RidgeProbe(alphas=[1.0]), protocol=FewShot(3), quiet=True)
    assert differences(result.folder) == ([], [])


def test_a_result_holds_what_the_folder_holds():
    result = probe.run(dataset="iris", head="ridge", quiet=True)
    again = probe.run(dataset="iris", head="ridge", quiet=True)
    assert result.is_new
    assert not again.is_new
    assert result == again
    assert result.record == read_result(result.folder)
    assert result.selection["on"] == "validation"
    found = probe.extract(dataset="iris", quiet=True)["test"]
    rows = result.predictions["row"]
    np.testing.assert_array_equal(result.head.predict(found.arrays["pooled"][rows]), result.predictions["predicted"])
    assert "ridge on identity x iris, full, seed 0" in repr(result)
    assert "<td>top1</td>" in result._repr_html_()


def test_rows_that_are_asked_for_after_a_run_are_added_to_it_and_nothing_else_moves():
    given = {"dataset": "iris", "head": "ncm", "quiet": True}
    first = probe.run(**given)
    kept = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder.iterdir()}
    kept.pop("result.json")
    assert "rows.json" not in kept
    asked = probe.run(**given, save_rows=True, save_logits=False)
    assert not asked.is_new
    assert {name: ((p := asked.folder / name).stat().st_mtime_ns, p.read_bytes()) for name in kept} == kept
    assert {**asked.record, "files": 0, "content": 0} == {**first.record, "files": 0, "content": 0}
    assert sorted(asked.record["files"]) == sorted([*kept, "rows.json"])
    read_file(asked.folder, "rows.json")
    again = probe.run(dataset="iris", head="ncm", protocol=("recorded", {"path": str(asked.folder / "rows.json")}))
    assert again.metrics["top1"] == asked.metrics["top1"]
    added = (asked.folder / "rows.json").stat().st_ino
    probe.run(**given, save_rows=True)
    assert (asked.folder / "rows.json").stat().st_ino == added
    assert "rows.json" in probe.run(**given, force=True, save_rows=True).record["files"]


def test_logits_that_are_asked_for_after_a_run_are_kept_by_another_run_with_the_rows_of_the_first():
    given = {"dataset": "iris", "head": "ncm", "quiet": True}
    assert "logits" not in probe.run(**given, save_logits=False, save_rows=True).predictions
    asked = probe.run(**given, save_logits=True)
    assert asked.is_new
    assert "logits" in asked.predictions
    assert (asked.folder / "rows.json").exists()
    assert not probe.run(**given, save_logits=True).is_new
    bare = {"dataset": "iris", "head": "none", "quiet": True, "save_logits": True}
    assert probe.run(**bare).is_new
    assert not probe.run(**bare).is_new


def test_with_calibrate_the_head_of_a_result_gives_conformal_sets():
    result = probe.run(dataset="wine", head="ncm", calibrate=True, quiet=True)
    found = probe.extract(dataset="wine", quiet=True)["test"]
    sets = result.head.predict_set(found.arrays["pooled"], level=0.9)
    covered = sets[np.arange(len(sets)), found.labels].mean()
    assert covered == pytest.approx(result.metrics["coverage"].value)
    plain = probe.run(dataset="wine", head="ncm", quiet=True)
    np.testing.assert_array_equal(plain.head.centroids_, result.uncalibrated_head.centroids_)
    with pytest.raises(InputError, match="is not calibrated"):
        plain.head.predict_set(found.arrays["pooled"])


def test_a_network_is_recorded_by_its_weights_and_code_and_not_touched():
    network = small().train()
    network.conv.weight.requires_grad_(True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = probe.run((network, PIXELS), "digits", "ncm", limit=60, quiet=True)
    assert network.training
    assert network.norm.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not probe.run((small(), PIXELS), "digits", "ncm", limit=60, quiet=True).is_new
    assert result.record["backbone"]["name"] == "module/Small"
    changed = small()
    with torch.no_grad():
        changed.conv.weight[0, 0, 0, 0] += 1e-3
    folders = {probe.run((n, PIXELS), "digits", "ncm", limit=60, quiet=True).folder for n in (changed, small(power=2))}
    assert len(folders | {result.folder}) == 3


def test_what_cannot_be_built_again_is_said_in_a_sentence():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)) + 3 * (np.arange(60) % 2)[:, None], np.arange(60) % 2
    result = probe.run(dataset={"train": (X, y), "test": (X + 0.1, y)}, head="ncm", quiet=True)
    assert result.record["backbone"]["name"] == "identity"
    with pytest.raises(InputError, match=r"made from Python with an object as its dataset .*with the same object"):
        differences(result.folder)


def test_arrays_are_the_npz_of_these_arrays():
    X, y = load_wine(return_X_y=True)
    np.savez("mine.npz", x_train=X[::2], y_train=y[::2], x_test=X[1::2], y_test=y[1::2])
    by_file = probe.run("identity", Path("mine.npz"), "ncm", quiet=True)
    by_text = probe.run("identity", "mine.npz", "ncm", quiet=True)
    pairs = {"train": (X[::2], y[::2]), "test": (X[1::2], y[1::2])}
    live = probe.run(dataset=(pairs, {"name": "mine"}), head="ncm", quiet=True)
    assert by_file.folder == by_text.folder == live.folder
    assert not live.is_new


def news(n=60):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:8] if i % 2 else WORDS[8:], 6)) for i in range(n)]
    return texts, ["ab"[i % 2] for i in range(n)]


def test_texts_are_the_table_of_these_texts(tmp_path):
    folder, (texts, y) = save(tmp_path / "bert", "bert"), news()
    Path("mine.csv").write_text("\n".join(["text,label", *(",".join(row) for row in zip(texts, y, strict=True))]))
    words = ("huggingface", {"name": str(folder)})
    by_file = probe.run(words, ("texts", {"path": "mine.csv", "name": "mine"}), "ridge", "holdout", quiet=True)
    columns = [texts, np.array(texts), np.array(texts, dtype=object), [Text(text) for text in texts]]
    folders = [probe.run(words, ((X, y), {"name": "mine"}), "ridge", "holdout", quiet=True).folder for X in columns[:3]]
    assert set(folders) == {by_file.folder}
    assert part_of("dataset", (columns[3], y), print).live.rows == "texts"
    assert part_of("dataset", (texts, y), print).live.name.startswith("texts-")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_language_model_with_its_tokenizer_is_a_backbone_of_runs_sweeps_and_features():
    model, words, data = network("bert").train(), tokenizer(), news()
    result = probe.run((model, words), data, "ridge", "holdout", quiet=True)
    assert model.training
    assert result.record["labels"]["backbone"] == "huggingface/BertModel"
    assert not probe.run((network("bert"), tokenizer()), data, "ridge", "holdout", quiet=True).is_new
    first = ((model, words), {"pooling": "first", "name": "mine"})
    board = probe.sweep([(model, words), first], data, ["ridge", "tfidf_linear"], "holdout", seeds=[0], quiet=True)
    assert set(board.frame["backbone"]) == {"huggingface/BertModel", "mine"}
    found = probe.extract((model, words), data, ["token_ids"], quiet=True)["train"].arrays["token_ids"]
    assert found.shape == (60, 8)


def test_a_torch_dataset_is_read_as_the_images_that_it_gives():
    digits = load("digits")

    class Pairs:
        classes = tuple(digits.class_names)

        def __init__(self, part):
            self.part = digits.partitions[part]

        def __len__(self):
            return len(self.part)

        def __getitem__(self, row):
            return self.part[row], int(self.part.labels[row])

    ours = {"train": Pairs("train"), "test": Pairs("test")}
    result = probe.run("tiny", (ours, {"name": "mine"}), "ncm", limit=100, quiet=True)
    theirs = probe.run("tiny", "digits", "ncm", limit=100, quiet=True)
    assert result.metrics["top1"] == theirs.metrics["top1"]
    vectors = TensorDataset(torch.randn(20, 3), torch.arange(20) % 2)
    assert part_of("dataset", vectors, print).live.rows == "vectors"


def test_a_string_is_a_name_first_and_a_path_where_it_may_be_one(capsys):
    Path("iris").mkdir()
    assert part_of("dataset", "iris", print).name == "iris"
    assert capsys.readouterr().out == ""
    Path("mine.csv").write_text("a,label\n1,0\n")
    assert part_of("dataset", "mine.csv", print).parameters == {"path": "mine.csv"}
    assert "'mine.csv' is no name of a dataset, it is read as a path by dataset=csv" in capsys.readouterr().out
    with pytest.raises(InputError, match="dataset 'nosuch' is unknown, expected one of beir, breast_cancer, captions"):
        part_of("dataset", "nosuch", print)
    with pytest.raises(InputError, match="there is no file or folder no/such"):
        part_of("dataset", "no/such", print)


def test_one_rule_says_what_reads_a_path(tmp_path):
    def folder(*files):
        made = tmp_path / f"of-{len(list(tmp_path.iterdir()))}"
        for file in files:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            (made / file).touch()
        return made

    assert loader_of(folder("train/a/1.png", "test/a/1.png")) == "folder"
    assert loader_of(folder("train.csv", "test.csv", "images/1.png")) == "csv"
    assert loader_of(folder("data/train-0.parquet")) == "parquet"
    assert loader_of(folder("train.npy", "train_labels.npy")) == "features"
    assert loader_of(folder("train.npz")) == "features"
    assert loader_of(folder("x-train-0.tar", "x-test-0.tar")) == "webdataset"
    assert loader_of(folder("all.npz") / "all.npz") == "npz"
    with pytest.raises(InputError, match="may be read by csv or by parquet: say which"):
        loader_of(folder("train.csv", "train.parquet"))
    with pytest.raises(InputError, match="is a file of no kind that is known by its suffix"):
        loader_of(folder("a.xyz") / "a.xyz")


def test_classifiers_of_scikit_learn_are_said_as_parameters():
    assert head_of(LogisticRegression(C=2)) == {
        "estimator": "sklearn.linear_model.LogisticRegression",
        "params": {"C": 2},
    }
    assert head_of(make_pipeline(StandardScaler(), SVC(C=2))) == {
        "estimator": ["sklearn.preprocessing.StandardScaler", "sklearn.svm.SVC"],
        "params": {"svc__C": 2},
    }
    with pytest.raises(InputError, match="CalibratedClassifierCV around a SVC, which no record could say"):
        head_of(CalibratedClassifierCV(SVC()))


def test_a_head_of_a_function_runs_and_its_record_says_that_it_cannot_be_built():
    class Local(NearestClassMean):
        pass

    result = probe.run(dataset="iris", head=Local(), quiet=True)
    assert isinstance(result.head, Local)
    with pytest.raises(InputError, match=r"made from Python with an object as its head \(head Local\)"):
        differences(result.folder)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"head": "nosuch"}, "head 'nosuch' is unknown, expected one of "),
        ({"head": ("linear", {"cs": 3})}, "head linear has no parameter cs: choose among Cs, scaling"),
        ({"head": ("linear", {"Cs": nn.ReLU()})}, "head linear.Cs is a ReLU, which no record could say"),
        ({"head": NearestClassMean}, "head is <ABCMeta>|head is .*NearestClassMean.*, expected a name, a pair"),
        ({"Cs": 3}, "there is no setting Cs: choose among control, test_on, .*parameters of a part beside its name"),
        ({"views": {"many": 3}}, "views has no parameter many: choose among n, kind, seed, use"),
        ({"seed": "one"}, "seed is 'one', expected a whole number: change it where it is given"),
        ({"backbone": nn.ReLU()}, r"nothing says how an image becomes its input: give \(network, transform\)"),
        ({"backbone": (nn.ReLU(), {"sise": 3})}, "a network takes no option sise: choose among name, checkpoint"),
        ({"dataset": (np.zeros((4, 2)), [0, 1])}, r"y of train has shape \(2,\), expected one for each of the 4 rows"),
        ({"dataset": (np.zeros((4, 2, 2, 5)), [0] * 4)}, r"X of train is float64 of shape \(4, 2, 2, 5\), expected"),
        ({"dataset": {"dev": (np.zeros((4, 2)), [0] * 4)}}, "expected train, test and validation"),
        ({"dataset": 7}, "train is a int, expected a pair"),
        ({"dataset": (["a", None], [0, 1])}, "row 1 of train is a NoneType, None, expected a text as the others are"),
        ({"dataset": ("a text", [0, 1])}, "X of train is one text, expected a list of them"),
        ({"dataset": (["a", "b"], [0])}, r"y of train has shape \(1,\), expected one for each of the 2 rows of X"),
        ({"dataset": (["a", "b"] * 9, [0, 1] * 9), "protocol": "holdout", "backbone": "tiny"},
         "backbone tiny reads images, the rows of dataset texts-.* are texts: set backbone=huggingface"),
        ({"backbone": (network("bert"), tokenizer()), "dataset": "digits"},
         "backbone huggingface/BertModel reads texts, the rows of dataset digits are images: set backbone=tiny"),
        ({"backbone": (network("bert"), {"size": 3})}, r"how a text becomes its input: give \(model, tokenizer\)"),
        ({"backbone": ((network("bert"), tokenizer()), {"pool": 1})}, "a model of texts takes no option pool: choose"),
        ({"dataset": TensorDataset(torch.zeros(4, 3, 2, 2), torch.zeros(4))}, "without its transform"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_run_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        probe.run(**{"dataset": "iris", "head": "ncm", "quiet": True, **given})


def test_a_sweep_gives_the_table_of_the_command_and_goes_on_where_a_job_fails(capsys):
    board = probe.sweep(datasets="iris", heads=["ncm", "lda", ("ridge", {"alphas": [-1]})], seeds=[0, 1], name="s")
    from probe.leaderboard.command import main

    assert main(["runs/s", "--columns", "dataset"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() in str(board)
    assert len(board.failures) == 2
    assert "failed: probe.run(dataset='iris', head=('ridge', {'alphas': [-1]}), seed=0)" in str(board)
    assert "failed: probe.run(" in printed.err
    assert set(board.frame.columns) >= {"backbone", "head", "dataset", "value", "low", "high", "mark", "rank"}
    compared = board.compare("identity ncm", "identity lda")
    assert "A = identity ncm" in str(compared)
    assert len(compared.frame) == 1
    html = board._repr_html_()
    assert html.count("<tr>") == 3
    assert "<b>" in html


def test_a_sweep_passes_over_what_does_not_fit_and_refuses_where_nothing_is_left():
    board = probe.sweep(datasets="iris", heads=["ncm", "moment_probing_small"], seeds=0, skip_unfit=True, quiet=True)
    assert list(board.failures) == []
    assert len(board.unfit) == 1
    with pytest.raises(InputError, match="none of the 1 jobs of the sweep gave a run, mend what they say"):
        probe.sweep(datasets="iris", heads="moment_probing_small", seeds=0, quiet=True)
    with pytest.raises(InputError, match="the list of heads is empty"):
        probe.sweep(heads=[], quiet=True)
    with pytest.raises(DoesNotFit):
        probe.run(dataset="iris", head="moment_probing_small", quiet=True)


def test_a_table_takes_folders_results_and_conditions():
    results = [
        probe.run(dataset="iris", head=head, seed=seed, quiet=True) for head in ("ncm", "lda") for seed in (0, 1)
    ]
    assert str(probe.table("runs")) == str(probe.table(results))
    assert set(probe.table(results, "log_loss", where="head=ncm").frame["head"]) == {"ncm"}
    assert list(probe.table(results, rows="head", columns=("dataset", "seed")).frame.columns[:3]) == [
        "head",
        "dataset",
        "seed",
    ]
    with pytest.raises(InputError, match="no run has the metric 'top7'"):
        probe.table(results, "top7")


def test_quiet_prints_nothing_and_loud_shows_progress(capfd):
    network = small(power=3)
    probe.run((network, PIXELS), "digits", "ncm", limit=40, quiet=True)
    probe.extract((network, PIXELS), "digits", limit=50, quiet=True)
    probe.sweep(datasets="iris", heads=["ncm", ("ridge", {"alphas": [-1]})], seeds=0, quiet=True)
    assert capfd.readouterr() == ("", "")
    probe.extract((network, PIXELS), "digits", limit=30)
    assert "module/Small digits(limit=30)/train" in capfd.readouterr().err


def test_files_that_change_between_two_calls_are_read_again():
    Path("mine.csv").write_text("a,label\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    first = probe.run("identity", "mine.csv", "ncm", "holdout", quiet=True)
    Path("mine.csv").write_text("a,label\n" + "".join(f"{i},{i % 2}\n" for i in range(60)))
    assert probe.run("identity", "mine.csv", "ncm", "holdout", quiet=True).folder != first.folder


def test_extract_gives_the_kinds_asked_for_by_partition():
    found = probe.extract("tiny", "digits", ["pooled", "map"], ["test"], limit=20, quiet=True)
    assert list(found) == ["test"]
    assert set(found["test"].arrays) == {"pooled", "map"}
    assert len(found["test"].labels) == len(found["test"].arrays["map"]) == 20
    with pytest.raises(InputError, match="backbone identity gives no 'tokens'"):
        probe.extract(dataset="iris", kinds=["tokens"], quiet=True)


def test_import_costs_little():
    code = "import time; t = time.perf_counter(); import probe; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.05
    assert set(probe.__all__) <= set(dir(probe))
