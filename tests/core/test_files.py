import json
import os

import pytest

from probe.core import files
from probe.core.files import file_digests, remembered
from probe.core.hashing import hash_bytes

OLD = 1_600_000_000 * 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(name.encode() * 1000)
        os.utime(folder / name, ns=(OLD, OLD))
    return folder


def test_digests_are_those_of_the_contents(root):
    assert file_digests(root, ["c", "a"]) == [hash_bytes(b"c" * 1000), hash_bytes(b"a" * 1000)]


def test_a_second_scan_reads_no_file(root, monkeypatch):
    first = file_digests(root, ["a", "b"])
    monkeypatch.setattr(files, "_digest_file", lambda path: pytest.fail(f"{path} was read again"))
    assert file_digests(root, ["a", "b"]) == first


def test_touching_changes_nothing(root):
    first = file_digests(root, ["a", "b"])
    os.utime(root / "a")
    assert file_digests(root, ["a", "b"]) == first


def test_changed_content_of_the_same_size_is_seen(root):
    first = file_digests(root, ["a", "b"])
    (root / "a").write_bytes(b"x" * 1000)
    second = file_digests(root, ["a", "b"])
    assert second[0] == hash_bytes(b"x" * 1000)
    assert second[1] == first[1]


def test_replaced_file_with_the_same_size_and_time_is_seen(root):
    file_digests(root, ["a"])
    (root / "new").write_bytes(b"y" * 1000)
    os.utime(root / "new", ns=(OLD, OLD))
    os.replace(root / "new", root / "a")
    assert file_digests(root, ["a"]) == [hash_bytes(b"y" * 1000)]


def test_a_file_just_written_is_not_remembered(root, cache):
    (root / "a").write_bytes(b"z")
    file_digests(root, ["a", "b"])
    (memory,) = (cache / "digests").iterdir()
    assert json.loads(memory.read_text()).keys() == {"b"}


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": '])
def test_a_damaged_memory_is_rebuilt(root, cache, content):
    first = file_digests(root, ["a"])
    (memory,) = (cache / "digests").iterdir()
    memory.write_bytes(content)
    assert file_digests(root, ["a"]) == first


def test_an_unwritable_cache_costs_time_only(root, cache):
    cache.write_text("a file where the folder should be")
    assert file_digests(root, ["a"]) == [hash_bytes(b"a" * 1000)]


def test_what_follows_from_files_is_remembered_until_one_changes(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"1")
        os.utime(path, (1, 1))
    calls = []

    def compute():
        calls.append(1)
        return [str(len(calls))]

    assert [remembered("x", paths, compute) for _ in range(2)] == [["1"], ["1"]]
    assert remembered("y", paths, compute) == ["2"]
    assert [remembered("z", [], lambda n=n: [n]) for n in "ab"] == [["a"], ["b"]]
    paths[1].write_bytes(b"22")
    assert remembered("x", paths, compute) == ["3"]
    assert remembered("x", paths, compute) == ["4"]  # so young a file may change again within its mtime
