"""Files outside the store: whole or not at all, whoever else writes them and whatever the disk says."""

import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from probe.core.errors import FileError, InputError, ProbeError
from probe.core.writing import sentence, write_file, writing

ROOT = Path(__file__).parents[2]


@contextmanager
def small_disk():
    """As a full disk: no file may grow beyond a kilobyte, that of the test's own report included."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("content", ["ü\n", b"\xc3\xbc\n", lambda path: path.write_bytes(b"\xc3\xbc\n")])
def test_text_bytes_and_functions_are_written(tmp_path, content):
    write_file(tmp_path / "new/folders/a.txt", content)
    assert (tmp_path / "new/folders/a.txt").read_bytes() == b"\xc3\xbc\n"
    assert [path.name for path in (tmp_path / "new/folders").iterdir()] == ["a.txt"]


def test_a_function_is_given_a_path_with_the_suffix_of_the_file(tmp_path):
    given = []
    write_file(tmp_path / "a.png", lambda path: (given.append(path), path.touch()))
    assert given[0].suffix == ".png"
    assert given[0].parent == tmp_path


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.md").symlink_to("there/a.md")
    write_file(tmp_path / "link.md", "1")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "there/a.md").read_text() == "1"


def test_a_pipe_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_text()))
    reader.start()
    write_file(tmp_path / "fifo", "1")
    reader.join()
    assert read == ["1"]
    assert not (tmp_path / "fifo").is_file()


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path):
    (tmp_path / "a.md").write_text("old")
    for name in ("a.md", "new/b.md"):
        said = pytest.raises(FileError, match=rf"{name} cannot be written \(File too large\): make room there")
        with said, small_disk():
            write_file(tmp_path / name, "x" * 2000)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.md"]
    assert (tmp_path / "a.md").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "reason"), [("folder", "Is a directory"), ("file/a", "File exists"), ("n" * 300, "too long")]
)
def test_a_place_that_can_be_no_file_is_a_sentence(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=rf"cannot be written \(.*{reason}.*\): name another place"):
        write_file(tmp_path / name, "1")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupted(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a/b", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_only_what_the_system_says_becomes_a_sentence():
    with pytest.raises(InputError, match=r"^mine$"), writing("a"):
        raise InputError("mine")
    with pytest.raises(ZeroDivisionError), writing("a"):
        _ = 1 / 0
    assert sentence(PermissionError(13, "Permission denied", "x")).startswith("x cannot be written (Permission denied)")
    assert sentence(InputError("two\nlines")) == "two lines"
    assert sentence(ValueError("a defect")) is sentence(FileNotFoundError(2, "no such file", "x")) is None
    assert issubclass(FileError, ProbeError)


def write_often(path, number, n):
    for i in range(n):
        write_file(path, f"{number} {i} " * 500)


@pytest.mark.parametrize("n_writes", [200, pytest.param(1200, marks=pytest.mark.slow)])
def test_concurrent_writers_of_one_file_never_disturb_each_other(tmp_path, n_writes):
    path, n_writers = tmp_path / "table.md", 8
    write_file(path, "0 0 " * 500)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, k, n_writes // n_writers)) for k in range(n_writers)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        text = path.read_text()
        assert text == " ".join([*text.split()[:2], ""]) * 500
    assert [writer.exitcode for writer in writers] == [0] * n_writers
    assert list(tmp_path.iterdir()) == [path]


def probe(*words, cwd, before="", **options):
    env = os.environ | {"PROBE_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["bash", "-c", f'{before} exec "$@"', "-", sys.executable, "-m", "probe", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=cwd, env=env, **options)


RUN = ("backbone=tiny", "dataset=iris", "backbone=identity", "head=ncm")


@pytest.fixture(scope="module")
def cwd(tmp_path_factory):
    """A folder with a run."""
    cwd = tmp_path_factory.mktemp("work")
    assert probe(*RUN, cwd=cwd).returncode == 0
    return cwd


@pytest.mark.parametrize(
    "words",
    [("leaderboard", "runs"), ("leaderboard", "--help"), ("cache", "ls"), ("--cfg", "job"), (*RUN, "name=piped")],
    ids=lambda words: words[0],
)
def test_a_reader_that_has_gone_is_no_failure_and_a_full_disk_behind_the_output_is_a_sentence(cwd, words):
    reader, writer = os.pipe()
    os.close(reader)
    done = probe(*words, cwd=cwd, stdout=writer)
    os.close(writer)
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
    with open("/dev/full", "w") as full:
        done = probe(*words, cwd=cwd, stdout=full)
    assert done.returncode == 1
    assert "probe: the output cannot be written (No space left on device): send it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*RUN, "runs=file/runs"), "/file is a file, and runs are to stand below it: move it, or set runs="),
        (
            ("-m", *RUN, "seed=0,1", "runs=file/runs"),
            "/file is a file, and runs are to stand below it: move it, or set runs=",
        ),
        (("leaderboard", "runs", "--md", "file/t.md"), "probe leaderboard: file/t.md cannot"),
        (("leaderboard", "runs", "--html", "file/t.html"), "probe leaderboard: file/t.html cannot"),
        (("leaderboard", "runs", "--plots", "file/p"), "probe leaderboard: file/p/scores-top1.png cannot"),
        (("describe", "backbone=tiny", "dataset=digits", "--sheet", "file/a.png"), "probe describe: file/a.png cannot"),
        (
            ("describe", "backbone=tiny", "dataset=digits", "--sheet", "a.doc"),
            "expected a name that ends in .bmp,",
        ),
        (("cache", "export", "identity", "file/e"), "probe cache: 'identity' means 2 finished entries"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_places_that_cannot_be_written_are_sentences_through_the_command(cwd, words, sentence):
    (cwd / "file").touch()
    index = ".leaderboard-index.parquet"  # what a leaderboard keeps beside the runs that it has read
    before = sorted(path for path in cwd.rglob("*") if path.name != index)
    done = probe(*words, cwd=cwd, stdout=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr
    assert sorted(path for path in cwd.rglob("*") if path.name != index) == before


def test_a_run_on_a_full_disk_is_a_sentence_and_leaves_no_run(cwd):
    """At most 4 kB a file: features and predictions of these 75 rows need less, the record of the run more."""
    done = probe(*RUN, "name=full", "head=linear", "seed=7", cwd=cwd, before="ulimit -f 2;", stdout=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written (File too large): make room there" in done.stderr
    assert not list((cwd / "runs/full").rglob("*.safetensors"))
    assert not list((cwd / "runs/full").rglob("result.json"))
