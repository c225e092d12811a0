"""Code is known by its source: what is edited is other code, what is not is the same wherever it stands."""

from __future__ import annotations

import importlib
import linecache
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from sklearn.svm import SVC

from probe.backbones.module import ModuleBackbone
from probe.core import source
from probe.core.hashing import hash_bytes
from probe.core.source import UNKNOWN, code_of, features_code_of, identity_of, is_unknown, source_digest
from probe.features.layout import entry_identity
from probe.heads.ncm import NearestClassMean
from probe.heads.sklearn import SklearnHead

HEAD = """
from probe.heads.ncm import NearestClassMean

class Own(NearestClassMean):
    def _logits(self, X):
        return super()._logits(X) * {factor}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files below a folder that can be imported from, and imports the first one anew."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def forget():
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is None or str(file).startswith(str(tmp_path)):
                del sys.modules[name]
        importlib.invalidate_caches()

    def write(**files: str) -> Any:
        forget()
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        return importlib.import_module(next(iter(files)).replace("/", "."))

    yield write
    forget()


def typed(text: str, cell: str | None = None, **around: Any) -> dict[str, Any]:
    """What a text defines in `__main__`, as a notebook runs it; without a cell nobody keeps the text."""
    if cell:
        linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
    names = {"__name__": "__main__", **around}
    exec(compile(text, cell or "<string>", "exec"), names)
    return names


def test_a_file_alone_has_the_digest_of_its_bytes(write, tmp_path):
    own = write(mine=HEAD.format(factor=1)).Own
    assert source_digest(own) == hash_bytes((tmp_path / "mine.py").read_bytes())


def test_who_works_in_a_clone_has_heads_of_the_same_code_after_an_upgrade(write, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "FOLDER", tmp_path / "clone")
    text = "import clone.inner\nimport beside\nclass Own: pass\n"
    digests = []
    for files in ({}, {"clone/inner": "x = 2"}, {"beside": "x = 2"}):
        digests.append(source_digest(write(**{"mine": text, "clone/inner": "x = 1", "beside": "x = 1", **files}).Own))
    assert digests[0] == digests[1] != digests[2]


def test_an_edit_is_other_code(write):
    one, other = (code_of(write(mine=HEAD.format(factor=factor)).Own) for factor in (1, 2))
    assert one["class"] == other["class"] == "mine:Own"
    assert one["code"] != other["code"]


@pytest.mark.parametrize(
    ("statement", "file"),
    [
        ("import helper", "helper"),
        ("from helper import f", "helper"),
        ("from . import helper", "package/helper"),
        ("from .helper import f", "package/helper"),
        ("from .deep.helper import f", "package/deep/helper"),
        ("from package.helper import f", "package/helper"),
        ("from package import *", "package/__init__"),
        ("def later():\n    import package.helper", "package/helper"),
    ],
)
def test_an_edit_of_what_a_file_imports_from_its_folder_is_other_code(write, statement, file):
    package = {"package/__init__": "", "package/helper": "f = 1", "package/deep/helper": "f = 1", "helper": "f = 1"}
    found = set()
    for text in ("f = 1", "f = 2"):
        module = write(**{"package/mine": f"{statement}\nclass Own: pass", **package, file: text})
        found.add(source_digest(module.Own))
    assert len(found) == 2


def test_imports_are_followed_from_file_to_file_and_in_circles(write):
    files = {"mine": "import a\nclass Own: pass", "a": "import b", "b": "import mine\nc = {}"}
    one, other = (source_digest(write(**{**files, "b": files["b"].format(c)}).Own) for c in (1, 2))
    assert one != other


def test_files_beside_it_that_are_not_imported_say_nothing(write):
    one, other = (source_digest(write(mine="class Own: pass", beside=f"a = {a}").Own) for a in (1, 2))
    assert one == other


def test_a_folder_may_move(write, tmp_path, monkeypatch):
    files = {"mine": "import helper\nclass Own: pass", "helper": "f = 1"}
    here = source_digest(write(**files).Own)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in files:
        (tmp_path / f"{name}.py").rename(elsewhere / f"{name}.py")
    monkeypatch.syspath_prepend(elsewhere)
    sys.modules.pop("mine")
    assert source_digest(importlib.import_module("mine").Own) == here


def test_base_classes_elsewhere_count(write, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "other")
    found = set()
    for factor in (1, 2):
        (tmp_path / "other" / "base.py").write_text(HEAD.format(factor=factor))
        found.add(source_digest(write(mine="from base import Own\nclass Mine(Own): pass").Mine))
        sys.modules.pop("base")
        shutil.rmtree(tmp_path / "other" / "__pycache__", ignore_errors=True)
    assert len(found) == 2


def test_what_a_class_takes_from_the_function_around_it_counts(write):
    text = "def make(k):\n    class Own:\n        def f(self):\n            return k\n    return Own"
    make = write(mine=text).make
    assert source_digest(make(1)) == source_digest(make(1)) != source_digest(make(2))


def test_a_file_that_is_no_python_of_this_version_still_counts(write):
    own = write(mine="if 0: import odd\nclass Own: pass").Own
    found = set()
    for n in (1, 2):
        Path(sys.modules["mine"].__file__).with_name("odd.py").write_text(f"print {n}")
        found.add(source_digest(own))
    assert len(found) == 2


def test_own_classes_have_a_recipe_and_foreign_ones_inherit_it(write):
    assert code_of(NearestClassMean) == {"class": "probe.heads.ncm:NearestClassMean", "recipe": "1"}
    assert set(code_of(write(mine=HEAD.format(factor=1)).Own)) == {"class", "recipe", "code"}
    assert set(code_of(write(mine="class Own: pass").Own)) == {"class", "code"}


def test_a_class_of_an_installed_package_is_known_by_its_file_and_version():
    facts = code_of(SVC)
    assert facts["release"].startswith("scikit-learn ")
    assert facts["code"] == hash_bytes(Path(sys.modules[SVC.__module__].__file__).read_bytes())


def test_estimators_that_a_parameter_names_count_unless_they_are_installed(write):
    assert "code" not in code_of(SklearnHead, *SklearnHead("sklearn.svm.SVC").named_classes())
    found = set()
    for n in (1, 2):
        write(mine=f"from sklearn.svm import SVC\nclass Own(SVC):\n    n = {n}")
        head = SklearnHead(["sklearn.preprocessing.StandardScaler", "mine.Own"])
        found.add(code_of(SklearnHead, *head.named_classes())["code"])
    assert len(found) == 2


CELL = "class Own:\n    def f(self):\n        return helper() + K\n"
HELPER = "def helper():\n    return {}\n"


def test_a_class_of_a_notebook_is_known_by_its_text():
    helper = typed(HELPER.format(1), "<cell 1>")["helper"]
    own = typed(CELL, "<cell 2>", helper=helper, K=1)["Own"]
    again = typed(CELL, "<cell 7>", helper=helper, K=1)["Own"]
    edited = typed(CELL.replace("+", "-"), "<cell 8>", helper=helper, K=1)["Own"]
    assert code_of(own) == code_of(again)
    assert not is_unknown(code_of(own))
    assert source_digest(own) != source_digest(edited)


def test_what_a_class_of_a_notebook_names_from_other_cells_counts():
    helper, other = (typed(HELPER.format(n), f"<cell {n}>")["helper"] for n in (1, 2))
    digests = [
        source_digest(typed(CELL, "<cell 3>", helper=h, K=k)["Own"]) for h, k in ((helper, 1), (other, 1), (helper, 2))
    ]
    assert len(set(digests)) == 3


def test_what_a_class_of_a_notebook_imports_counts(write):
    text = "class Own:\n    def f(self):\n        return mine.f()\n"
    one, other = (
        source_digest(typed(text, "<cell 4>", mine=write(mine=f"def f(): return {n}"))["Own"]) for n in (1, 2)
    )
    assert one != other


def test_a_class_without_any_text_is_unknown_and_like_no_other():
    one, other = typed(CELL, helper=len, K=1)["Own"], typed(CELL, helper=len, K=1)["Own"]
    assert source_digest(one) is None
    assert code_of(one)["code"].startswith(UNKNOWN)
    assert is_unknown({"head": [code_of(one)]})
    assert code_of(one) == code_of(one)
    assert code_of(one) != code_of(other)


def test_a_class_made_from_a_text_in_a_module_with_a_file_is_not_taken_for_the_files():
    names = dict(globals())
    exec("class Made:\n    def f(self):\n        return 1", names)
    assert source_digest(names["Made"]) is None


def test_a_script_is_known_by_its_file(tmp_path):
    text = "class Own: pass\nfrom probe.core.source import code_of\nprint(code_of(Own))"
    answers = []
    for name, ending in (("a", ""), ("b", ""), ("c", "\n# edited")):
        (tmp_path / f"{name}.py").write_text(text + ending)
        command = [sys.executable, str(tmp_path / f"{name}.py")]
        answers.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert answers[0] == answers[1] != answers[2]
    assert "__main__:Own" in answers[0]


NET = """
from torch import nn
{line}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)
    def forward(self, x):
        return self.conv(x)
"""


def code_of_network(target="nets:Net", **options):
    torch.manual_seed(0)
    return ModuleBackbone(target, size=8, **options).identity()["architecture"]["code"]


def test_a_network_in_one_file_keeps_its_identity(write, tmp_path):
    write(nets=NET.format(line=""))
    assert code_of_network() == hash_bytes((tmp_path / "nets.py").read_bytes())


def test_a_network_of_an_installed_package_keeps_its_identity():
    options = {"model_name": "resnet10t", "num_classes": 0}
    expected = hash_bytes(Path(timm.models.resnet.__file__).read_bytes())
    assert code_of_network("timm:create_model", kwargs=options) == expected


@pytest.mark.parametrize("target", ["nets:Net", "build:build"])
def test_an_edit_of_what_a_network_imports_or_of_what_builds_it_gives_other_features(write, target):
    found = set()
    for n in (1, 2):
        edited = {"helper": f"f = {n}"} if target == "nets:Net" else {"helper": "f = 1"}
        build = f"from nets import Net\ndef build():\n    n = {n}\n    return Net()"
        write(nets=NET.format(line="import helper"), build=build, **edited)
        found.add(code_of_network(target))
    assert len(found) == 2


def test_the_identity_of_a_backbone_of_ones_own_holds_its_code(write):
    text = """
from probe.backbones.identity import IdentityBackbone
class Own(IdentityBackbone):
    def extract(self, batch, kinds):
        return {{kind: batch * {} for kind in kinds}}
"""
    one, other = (identity_of(write(mine=text.format(n)).Own()) for n in (1, 2))
    assert one != other
    assert one["computed_by"]["class"] == "mine:Own"


def test_features_of_this_package_are_named_as_ever_until_a_recipe_turns(monkeypatch):
    from probe.backbones.identity import IdentityBackbone

    assert identity_of(IdentityBackbone()) == IdentityBackbone().identity()
    monkeypatch.setattr(IdentityBackbone, "recipe", "2", raising=False)
    assert identity_of(IdentityBackbone()) != IdentityBackbone().identity()
    assert features_code_of(IdentityBackbone) == {"recipe": "2"}


def test_rows_that_code_of_ones_own_reads_are_other_rows_after_an_edit(write):
    from probe.backbones.identity import IdentityBackbone
    from probe.core.base import Dataset
    from probe.datasets.shared.subsets import PartitionSubset

    text = """
from probe.datasets.shared.partitions import ArrayPartition
class Own(ArrayPartition):
    def __getitem__(self, row):
        return super().__getitem__(row) * {}
"""
    found = []
    for n in (1, 2):
        rows = write(mine=text.format(n)).Own(torch.ones(4, 2).numpy(), [0, 1, 0, 1], list("abcd"))
        for partition in (rows, PartitionSubset(rows, [0, 1])):
            dataset = Dataset("d", ("a", "b"), {"train": partition})
            found.append(str(entry_identity(IdentityBackbone(), dataset, "train")))
    assert len(set(found)) == 4
