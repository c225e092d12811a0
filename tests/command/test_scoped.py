from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from probe.command.config import compose
from probe.command.help import choices
from probe.command.scoped import GROUPS, applied, check, split, spread
from probe.core.errors import InputError
from probe.core.files import CONF

FOLDERS = [CONF]
JOBS = [["head=ncm", "seed=0"], ["head=lda", "seed=0"], ["head=lda", "seed=1"]]


def test_a_setting_reaches_the_jobs_of_its_choice_alone() -> None:
    plain, found = split(["head=ncm,lda", "head.lda.shrinkage=0.1", "seed=0,1"], FOLDERS)
    assert plain == ["head=ncm,lda", "seed=0,1"]
    assert spread(JOBS, found) == [JOBS[0], *([*job, "head.shrinkage=0.1"] for job in JOBS[1:])]


def test_a_setting_that_is_swept_makes_a_job_for_each_value() -> None:
    _, found = split(["head.lda.shrinkage=0.1,auto", "head.ncm.metric=cosine"], FOLDERS)
    assert spread(JOBS[:2], found) == [
        ["head=ncm", "seed=0", "head.metric=cosine"],
        ["head=lda", "seed=0", "head.shrinkage=0.1"],
        ["head=lda", "seed=0", "head.shrinkage=auto"],
    ]


def test_lists_are_values_and_a_plus_adds_a_key() -> None:
    _, found = split(["head.moment_probing.epochs=[2,5]", "+head.lda.more=1"], FOLDERS)
    assert [one.setting for one in found] == ["head.epochs=[2,5]", "+head.more=1"]
    assert found[0].values() == ["head.epochs=[2,5]"]


def test_a_single_run_takes_it_as_its_own_setting() -> None:
    assert applied(["head=lda", "head.lda.shrinkage=0.1"], FOLDERS) == ["head=lda", "head.shrinkage=0.1"]
    assert compose(["head=lda", "head.lda.shrinkage=0.1"])["head"]["shrinkage"] == 0.1


@pytest.mark.parametrize("words", [["head=ncm"], ["head=[ncm]", "seed=0"], []])
def test_a_setting_that_no_job_has_is_refused(words: list[str]) -> None:
    _, found = split(["head.lda.shrinkage=0.1"], FOLDERS)
    with pytest.raises(InputError, match=r"head.lda.shrinkage=0.1 is a setting of head=lda, which no job has: add it"):
        check(words, found)


def test_what_words_do_not_tell_is_refused_once_the_jobs_are_known() -> None:
    _, found = split(["head.lda.shrinkage=0.1"], FOLDERS)
    for words in (["head=glob(*)"], ["experiment=quickstart"]):
        check(words, found)
    with pytest.raises(InputError, match="which no job has"):
        spread([["head=ncm"]], found)


def test_other_settings_are_left_alone() -> None:
    words = ["head.teacher.head.metric=cosine", "dataset.path=a.b=c", "features.dtypes.tokens=int8", "head.Cs=[1]"]
    assert split(words, FOLDERS) == (words, [])


@pytest.mark.parametrize("group", GROUPS)
def test_no_setting_of_a_group_has_the_name_of_a_choice(group: str) -> None:
    paths = choices(group, FOLDERS)
    nodes = [yaml.safe_load(path.read_text()) for path in paths.values()]
    mappings = {key for node in nodes for key, value in node.items() if isinstance(value, dict)}
    assert not mappings & set(paths)


def test_choices_of_a_folder_of_ones_own_count(tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text("_target_: mine.Head\n")
    assert split(["head.mine.k=1"], FOLDERS)[1] == []
    assert [one.choice for one in split(["head.mine.k=1"], [CONF, tmp_path])[1]] == ["mine"]
