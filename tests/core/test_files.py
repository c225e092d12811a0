import json
import os
import shutil
import socket

import pytest

from probe.core import files
from probe.core.errors import InputError
from probe.core.files import Stamp, file_digests, open_regular, remembered
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


@pytest.fixture
def at_rest(monkeypatch):
    """As if all files had been written long ago: no program can set the time of their last change."""
    monkeypatch.setattr(files, "RACY_NS", -(10**12))


def test_digests_are_those_of_the_contents(root):
    assert file_digests(root, ["c", "a"]) == [hash_bytes(b"c" * 1000), hash_bytes(b"a" * 1000)]


def test_a_second_scan_reads_no_file(root, at_rest, monkeypatch):
    first = file_digests(root, ["a", "b"])
    monkeypatch.setattr(files, "_digest_file", lambda path: pytest.fail(f"{path} was read again"))
    assert file_digests(root, ["a", "b"]) == first


def test_touching_changes_nothing(root, at_rest):
    first = file_digests(root, ["a", "b"])
    os.utime(root / "a")
    assert file_digests(root, ["a", "b"]) == first


def in_place(path):
    with open(path, "r+b") as file:
        file.write(b"x" * 1000)


def replaced(path):
    path.with_name("new").write_bytes(b"x" * 1000)
    os.utime(path.with_name("new"), ns=(OLD, OLD))
    os.replace(path.with_name("new"), path)


def removed_and_made_anew(path):
    """File systems give the inode out again."""
    path.unlink()
    path.write_bytes(b"x" * 1000)


@pytest.mark.parametrize("change", [in_place, replaced, removed_and_made_anew])
def test_new_content_of_the_same_size_and_date_is_seen(root, at_rest, change):
    before = file_digests(root, ["a", "b"])
    value = remembered("x", [root / "a"], lambda: ["old"])
    change(root / "a")
    os.utime(root / "a", ns=(OLD, OLD))
    after = file_digests(root, ["a", "b"])
    assert after == [hash_bytes(b"x" * 1000), before[1]]
    assert remembered("x", [root / "a"], lambda: ["new"]) == ["new"] != value


@pytest.mark.parametrize("part", Stamp._fields)
def test_each_part_of_a_stamp_counts(root, at_rest, cache, part):
    """Whatever made it differ: another device under the same path, say."""
    first = file_digests(root, ["a"])
    (memory,) = (cache / "digests").iterdir()
    stamp = Stamp.of(os.stat(root / "a"))
    memory.write_text(json.dumps({"a": [stamp, "of the memory"]}))
    assert file_digests(root, ["a"]) == ["of the memory"]
    memory.write_text(json.dumps({"a": [stamp._replace(**{part: getattr(stamp, part) + 1}), "of the memory"]}))
    assert file_digests(root, ["a"]) == first


def test_a_file_just_changed_is_not_remembered_however_old_its_date(root, cache):
    file_digests(root, ["a", "b"])
    assert remembered("x", [root / "a"], lambda: ["1"]) == ["1"]
    assert not (cache / "digests").exists()


def test_only_files_at_rest_are_remembered(root, cache, monkeypatch):
    young = os.stat(root / "b").st_ino
    monkeypatch.setattr(Stamp, "settled", lambda stamp, now_ns: stamp.inode != young)
    file_digests(root, ["a", "b"])
    (memory,) = (cache / "digests").iterdir()
    assert json.loads(memory.read_text()).keys() == {"a"}


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": '])
def test_a_damaged_memory_is_rebuilt(root, cache, at_rest, content):
    first = file_digests(root, ["a"])
    (memory,) = (cache / "digests").iterdir()
    memory.write_bytes(content)
    assert file_digests(root, ["a"]) == first


def test_an_unwritable_cache_costs_time_only(root, cache, at_rest):
    cache.write_text("a file where the folder should be")
    assert file_digests(root, ["a"]) == [hash_bytes(b"a" * 1000)]


def test_what_follows_from_files_is_remembered_until_one_changes(tmp_path, at_rest):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"1")
    calls = []

    def compute():
        calls.append(1)
        return [str(len(calls))]

    assert [remembered("x", paths, compute) for _ in range(2)] == [["1"], ["1"]]
    assert remembered("y", paths, compute) == ["2"]
    assert [remembered("z", [], lambda n=n: [n]) for n in "ab"] == [["a"], ["b"]]
    paths[1].write_bytes(b"22")
    assert remembered("x", paths, compute) == ["3"]


def odd_files(folder, monkeypatch):
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as opened:
        monkeypatch.chdir(folder)  # the whole path may be too long for a socket
        opened.bind("socket")
    return ["fifo", "folder", "device", "socket"]


def test_what_is_no_regular_file_is_refused_by_name_and_never_waited_for(tmp_path, monkeypatch):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in odd_files(folder, monkeypatch):
        sentence = rf"{name} is a {name}, expected a regular file: remove it"
        for read in (open_regular, lambda path: file_digests(folder, [path.name])):
            with pytest.raises(InputError, match=sentence):
                read(folder / name)
        with pytest.raises(InputError, match=f"is a {name}, expected a regular file"):
            remembered("x", [folder / name], lambda: ["1"])


def test_links_are_followed_unless_told_otherwise(root):
    (root / "link").symlink_to("a")
    with open_regular(root / "link") as file:
        assert file.read(1) == b"a"
    with pytest.raises(InputError, match="link is a symbolic link, expected a regular file"):
        open_regular(root / "link", follow_links=False)


def test_an_unpacked_archive_with_equal_dates_is_read_anew(tmp_path, at_rest):
    """Two versions of a set, as a reproducible archive unpacks them: sizes and dates equal, the first one removed."""
    for content in (b"one", b"two"):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        (tmp_path / "set").mkdir()
        for i in range(20):
            (tmp_path / "set" / str(i)).write_bytes(content)
            os.utime(tmp_path / "set" / str(i), ns=(0, 0))
        assert file_digests(tmp_path / "set", [str(i) for i in range(20)]) == [hash_bytes(content)] * 20
