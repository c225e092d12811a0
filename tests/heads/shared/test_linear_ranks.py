"""The linear probe over ranks: the optimum of one process that holds all rows."""

import multiprocessing
import os
import socket
import sys

import numpy as np
import pytest
from shared_child import fit_as_rank, rows

from probe.core.errors import InputError
from probe.heads.linear import LinearProbe
from probe.heads.shared.linear_ranks import SharedLinearProbe

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["shared_child"])


def fit(n_ranks, options, monkeypatch, validation=False):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pipes = [SERVER.Pipe() for _ in range(n_ranks)]
    processes = [
        SERVER.Process(target=fit_as_rank, args=(rank, n_ranks, port, options, validation, pipe))
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    answers = [here.recv() if here.poll(90) else None for here, _ in pipes]
    for process in processes:
        process.join(10)
        process.kill()
    return answers


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_three_ranks_find_the_optimum_of_one_process(scaling, monkeypatch):
    # Far below the default tolerance, so that what is left is rounding; f is strongly convex, so close in f is close.
    options = {"Cs": [0.01, 1.0], "tol": 1e-13, "scaling": scaling}
    first, *others = fit(3, options, monkeypatch, validation=True)
    alone = LinearProbe(device="cpu", **options).fit(*rows(), validation=rows(200, seed=1))
    for other in others:
        np.testing.assert_array_equal(other["coef_"], first["coef_"])
        np.testing.assert_array_equal(other["scores_"], first["scores_"])
    np.testing.assert_allclose(first["coefs_path_"], alone.coefs_path_, atol=1e-6)
    np.testing.assert_allclose(first["coef_"], alone.coef_, atol=1e-6)
    np.testing.assert_allclose(first["intercept_"], alone.intercept_, atol=1e-5)
    np.testing.assert_allclose(first["scores_"], alone.scores_)
    assert first["C_"] == alone.C_


def test_what_ranks_cannot_choose_is_refused(monkeypatch):
    (sentence,) = fit(1, {"Cs": 10}, monkeypatch)
    assert sentence.startswith("Cs=10 is to be chosen from and this rank has no validation rows: give some to every")


def test_without_a_group_the_other_head_is_named():
    with pytest.raises(InputError, match=r"no torch.distributed group: start with torchrun .*, or use LinearProbe"):
        SharedLinearProbe(Cs=[1.0]).fit(*rows())
