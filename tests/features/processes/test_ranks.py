"""Extraction by processes that were started together: every row once, whoever dies or comes late, the same bits."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time

import extraction_child as child
import numpy as np
import pytest
import torch
from places import ROOT

from probe.command import subcommands as commands
from probe.core.errors import InputError
from probe.features.processes.ranks import Card, Ranks, shown

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["extraction_child"])


@pytest.fixture(scope="module", autouse=True)
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        patch.setenv("OMP_NUM_THREADS", "1")
        SERVER.Process(target=int).start()
        yield


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def launch(n_ranks, port, root, log, **options):
    """Ranks as torchrun starts them, a thousand times faster."""
    processes = [
        SERVER.Process(target=child.extract_as_rank, args=(rank, n_ranks, port, root, log), kwargs=options)
        for rank in range(n_ranks)
    ]
    for process in processes:
        process.start()
    return processes


def join(processes):
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def wait_for(log, rows):
    while child.rows_logged(log) < rows:
        time.sleep(0.002)


def bytes_of(features):
    return {kind: np.asarray(array[:]).tobytes() for kind, array in features.arrays.items()}


def alone(tmp_path, n, batch_size=5):
    return bytes_of(child.extract(tmp_path / "alone", tmp_path / "alone.log", n=n, delay=0.0, batch_size=batch_size))


@pytest.mark.parametrize(
    ("n", "n_ranks", "batch_size"),
    [
        pytest.param(203, 3, 5, id="blocks that do not divide among the ranks"),
        pytest.param(3, 4, 1, id="fewer rows than ranks"),
        pytest.param(4, 3, 64, id="one block, so that ranks get nothing"),
    ],
)
def test_ranks_extract_every_row_once_and_give_the_bits_of_one_process(
    tmp_path, root, log, port, n, n_ranks, batch_size
):
    assert join(launch(n_ranks, port, root, log, n=n, batch_size=batch_size)) == [0] * n_ranks
    assert child.rows_logged(log) == n
    features = child.extract(root, log, n=n)
    assert features.seconds == 0.0
    assert bytes_of(features) == alone(tmp_path, n, batch_size)
    assert not list((root / "ranks").iterdir())


def test_a_killed_rank_holds_up_nobody(tmp_path, root, log, port):
    processes = launch(3, port, root, log, delay=0.02)
    wait_for(log, 30)
    processes[1].kill()
    assert join(processes) == [0, -9, 0]
    assert bytes_of(child.extract(root, log)) == alone(tmp_path, 200)
    # What the killed one had in hands was extracted again, nothing else.
    assert 200 <= child.rows_logged(log) <= 200 + 6 * 5


def test_what_killed_ranks_left_a_later_command_finishes(tmp_path, root, log, port):
    processes = launch(2, port, root, log, stall=100)
    wait_for(log, 100)
    time.sleep(0.05)  # for the blocks that wait for the disk
    for process in processes:
        process.kill()
    join(processes)
    assert bytes_of(child.extract(root, log, delay=0.0)) == alone(tmp_path, 200)
    assert 200 <= child.rows_logged(log) <= 200 + 2 * 6 * 5


def test_a_process_that_comes_late_takes_its_share(tmp_path, root, log, port):
    processes = launch(2, port, root, log, delay=0.02)
    wait_for(log, 50)
    late = tmp_path / "late"
    features = child.extract(root, late, delay=0.02)
    assert join(processes) == [0, 0]
    assert child.rows_logged(late) > 20
    assert child.rows_logged(log) + child.rows_logged(late) == 200
    assert bytes_of(features) == alone(tmp_path, 200)


def refused(port, places, options_of_ranks):
    """The sentences of ranks that cannot work together."""
    n_ranks = len(places)
    pipes = [SERVER.Pipe() for _ in range(n_ranks)]
    processes = [
        SERVER.Process(target=child.extract_as_rank, args=(i, n_ranks, port, *place, pipe), kwargs=options)
        for i, (place, options, (_, pipe)) in enumerate(zip(places, options_of_ranks, pipes, strict=True))
    ]
    for process in processes:
        process.start()
    sentences = [here.recv() if here.poll(30) else None for here, _ in pipes]
    join(processes)
    return sentences


def test_a_cache_that_is_not_shared_is_noticed_by_all_ranks(tmp_path, log, port):
    places = [(tmp_path / "here", log), (tmp_path / "there", log)]
    first, second = refused(port, places, [{}, {}])
    assert first == second
    assert "rank 0 on" in first
    assert f"does not see what rank 1 on {socket.gethostname()} wrote to the cache: {tmp_path / 'here'} is not" in first
    assert not log.exists()


def test_other_weights_are_refused_before_anything_is_extracted(root, log, port):
    first, second = refused(port, [(root, log)] * 2, [{"seed": 0}, {"seed": 1}])
    assert first == second
    assert first.startswith("the weights is ")
    assert "need the same versions, weights, data and overrides" in first
    assert not (root / "features").exists()


def test_other_versions_are_named(tmp_path):
    with shown(tmp_path, "rank 1", {"torch's version": "2.5.1"}) as own:
        sentence = own.check(tmp_path, Card("rank 0 on b", own.token, {"torch's version": "2.6.0"}))
    assert sentence.startswith(
        f"torch's version is 2.5.1 at rank 1 on {socket.gethostname()} and 2.6.0 at rank 0 on b:"
    )


def test_the_first_rank_reads_alone_what_the_others_then_find(log, port):
    processes = [SERVER.Process(target=child.first_then_all, args=(rank, 3, port, log)) for rank in range(3)]
    for process in processes:
        process.start()
    assert join(processes) == [0, 0, 0]
    assert log.read_text().split()[0] == "0"
    assert sorted(log.read_text().split()) == ["0", "1", "2"]


def test_each_rank_has_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    assert Ranks.of_environment().device("auto") == "cuda:3"
    monkeypatch.delenv("LOCAL_RANK")
    assert Ranks.of_environment().device("cuda") == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert Ranks.of_environment().device("auto") == "cuda:2"
    assert chosen == ["cuda:3", "cuda:1", "cuda:2"]
    assert Ranks.of_environment().device("cpu") == "cpu"


def test_without_a_gpu_the_device_stands_as_it_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Ranks(local_rank=3).device("auto") == "auto"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"WORLD_SIZE": "two"}, r"the environment says WORLD_SIZE=two, expected a number: unset it"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, r"WORLD_SIZE=2, but the ranks cannot be reached \(.*MASTER_ADDR.*\): start"),
    ],
)
def test_an_environment_that_names_no_ranks(monkeypatch, environment, sentence):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=sentence):
        Ranks.of_environment()


def test_the_command_under_torchrun_equals_one_process(tmp_path, monkeypatch, capsys):
    words = ["backbone=identity", "dataset=wine", "head=ncm", "features.batch_size=7"]
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "one"))
    commands.extract(words)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "-m",
        "probe.features.extract",
    ]
    env = os.environ | {"PROBE_CACHE": str(tmp_path / "two"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run([*torchrun, *words], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for said in (capsys.readouterr().out, answer.stdout):
        lines = [line.partition(" of pooled")[0] for line in said.splitlines() if "rows of" in line]
        assert lines == ["identity wine/train: 88 rows", "identity wine/test: 90 rows"]
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name / "features").rglob("*.npy")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) >= 2
