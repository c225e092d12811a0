"""Heads fit features several times larger than the memory they may use."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.lib.format import open_memmap
from places import ROOT

N, D, SPARE = 500_000, 256, 80 * 2**20

CHILD = """
import resource, sys
from pathlib import Path
import numpy as np, torch
import probe.core.arrays, probe.heads.linalg.eigen, probe.heads.linalg.losses
from probe.heads.{module} import {name}

torch.set_num_threads(1)
# What is a share of memory at full size is one here too.
probe.heads.linalg.eigen.HOLD_BYTES = probe.heads.linalg.losses.KEEP_BYTES = 4 * 2**20
probe.heads.linalg.losses.CHUNK_BYTES = 4 * 2**20
probe.core.arrays.row_chunks.__defaults__ = (4 * 2**20, None)
X = np.load(sys.argv[1], mmap_mode="r")
y = np.load(sys.argv[2])
# Libraries of linear algebra take their working memory, once, at the first product that is large enough.
warm = np.random.default_rng(0).normal(size=(2000, X.shape[1]))
warm.T @ warm
{name}({options}).fit(warm, np.arange(2000) % 2)
status = Path("/proc/self/status").read_text()
in_use = 1024 * int(status.partition("VmData:")[2].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, (in_use + {spare},) * 2)
head = {name}({options}).fit(X, y)
assert (head.predict(X[:2000]) == y[:2000]).mean() > 0.95
try:
    np.ones_like(X, shape=X.shape)
except MemoryError:
    print("too large for memory")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two Gaussians as a float16 file of 3.2 times the spare memory, and its labels."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    X = open_memmap(folder / "X.npy", "w+", np.float16, (N, D))
    y = np.arange(N) % 2
    for start in range(0, N, 10_000):
        rows = slice(start, start + 10_000)
        X[rows] = rng.standard_normal((10_000, D), dtype=np.float32) + 0.3 * y[rows, None]
    assert X.nbytes > 3 * SPARE
    np.save(folder / "y.npy", y)
    del X
    yield folder / "X.npy", folder / "y.npy"
    (folder / "X.npy").unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA")
@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        ("ncm", "NearestClassMean", ""),
        ("naive_bayes", "NaiveBayes", ""),
        ("linear", "LinearProbe", "Cs=[1e-4], tol=1e-3"),
    ],
)
def test_fits_in_a_third_of_the_size_of_the_features(files, module, name, options):
    code = CHILD.format(module=module, name=name, options=options, spare=SPARE)
    answer = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "too large for memory"
