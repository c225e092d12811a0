from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from run_folders import write_run

from probe.core import files
from probe.core.hashing import hash_bytes
from probe.leaderboard import index
from probe.leaderboard.index import INDEX, read_folders
from probe.results.schema import END


@pytest.fixture
def settled(board: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board with an index, its files at rest."""
    monkeypatch.setattr(files, "RACY_NS", -(10**12))
    read_folders([board])
    assert (board / INDEX).exists()
    return board


def frame(root: Path) -> pd.DataFrame:
    return read_folders([root]).frame


def fresh(root: Path) -> pd.DataFrame:
    """What reading without an index gives."""
    with mock.patch.object(index, "_load", return_value=(index.nothing_kept(), "")):
        return frame(root)


def equal(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(a, b, check_like=True, check_dtype=False)
    return True


def n_read(root: Path) -> int:
    with mock.patch.object(index, "read_runs", wraps=index.read_runs) as reader:
        frame(root)
    return sum(len(call.args[0]) for call in reader.call_args_list)


def test_the_index_says_what_the_files_say_and_none_is_read_again(settled: Path) -> None:
    assert n_read(settled) == 0
    assert equal(frame(settled), fresh(settled))


def test_new_and_removed_runs_are_seen(settled: Path) -> None:
    shutil.rmtree(next(path for path in settled.iterdir() if path.is_dir()))
    write_run(settled, "tiny", "late", "digits")
    assert n_read(settled) == 1
    assert equal(frame(settled), fresh(settled))


def test_an_edit_that_keeps_size_and_date_is_seen(settled: Path) -> None:
    path = next(settled.glob("*/result.json"))
    before, status = path.read_text(), path.stat()
    after = before.replace('"device": "cpu"', '"device": "gpu"').replace('"fit": 0.', '"fit": 9.')
    head = after.encode()[: -32 - len(END)]
    path.write_bytes(head + hash_bytes(head).encode() + END)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert n_read(settled) == 1
    assert equal(frame(settled), fresh(settled))
    assert frame(settled)["seconds.fit"].max() > 9


def test_changed_or_lost_predictions_are_seen(settled: Path) -> None:
    first, second = sorted(settled.glob("*/predictions.safetensors"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    found = read_folders([settled])
    assert len(found.frame) == 34
    assert len(found.problems) == 2


def test_a_run_swapped_for_another_is_seen(settled: Path) -> None:
    a, b = [path for path in sorted(settled.iterdir()) if path.is_dir()][:2]
    a.rename(settled / "x")
    b.rename(a)
    (settled / "x").rename(b)
    assert equal(frame(settled), fresh(settled))
    assert set(zip(frame(settled)["folder"], frame(settled)["name"], strict=True)) == {
        (str(path.parent), json.loads(path.read_text())["run"]["name"]) for path in settled.glob("*/result.json")
    }


@pytest.mark.parametrize("content", [b"", b"PAR1 not really", None])
def test_a_damaged_index_is_read_over(settled: Path, content: bytes | None) -> None:
    path = settled / INDEX
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    assert n_read(settled) == 36
    assert n_read(settled) == 0


def test_an_index_of_another_version_is_read_over(settled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    assert n_read(settled) == 36


def test_an_index_moved_with_its_runs_or_copied_elsewhere_is_not_believed_blindly(
    settled: Path, tmp_path: Path
) -> None:
    moved = settled.rename(tmp_path / "moved")
    assert n_read(moved) == 0
    copied = Path(shutil.copytree(moved, tmp_path / "copied"))
    assert n_read(copied) == 36
    assert list(frame(copied)["name"]) == list(frame(moved)["name"])


def test_files_written_a_moment_ago_are_not_kept(board: Path) -> None:
    frame(board)
    assert not (board / INDEX).exists()


def test_a_folder_that_cannot_be_written_is_read_all_the_same(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "RACY_NS", -(10**12))
    monkeypatch.setattr(index, "write_file", refuse)
    assert len(frame(board)) == 36


def test_bad_runs_stay_listed_when_the_index_is_used(settled: Path) -> None:
    bad = settled / "bad"
    bad.mkdir()
    (bad / "error.txt").write_text("OutOfMemoryError: no\n")
    for _ in range(2):
        assert [problem.reason for problem in read_folders([settled]).problems] == ["failed: OutOfMemoryError: no"]


def test_an_index_that_another_process_replaces_meanwhile_lends_no_digest_to_other_runs(
    settled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_folders([settled]).read
    assert before is not None
    walk, replaced = index.walk, []

    def walked(*args: Any, **more: Any) -> Any:
        yield from walk(*args, **more)
        if not replaced:  # another process sees a run more, once this one has walked past
            replaced.append(True)
            write_run(settled, "tiny", "late", "digits")
            read_folders([settled])

    monkeypatch.setattr(index, "walk", walked)
    read = read_folders([settled]).read
    after = read_folders([settled]).read
    assert read is not None
    assert after is not None
    assert read.digest == before.digest != after.digest


def test_a_cell_of_a_stamp_has_the_fields_of_a_stamp(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    of = files.Stamp.of(os.stat(tmp_path / "file"))
    assert index.stamp(str(tmp_path / "file")) == " ".join(map(str, of))
