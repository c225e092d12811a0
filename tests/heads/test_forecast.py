"""What heads say of the memory that a fit takes, against what it takes."""

import subprocess
import sys

import numpy as np
import pytest
from places import ROOT

from probe.heads.linear import LinearProbe
from probe.heads.linear_sgd import LinearSGD
from probe.heads.moment_probing import MomentProbing
from probe.heads.svm import LinearSVM

CHILD = """
import sys, threading, time
from pathlib import Path
import numpy as np, torch
from probe.heads.{module} import {name}

torch.set_num_threads(1)
(n_rows, width, n_classes, n_tokens), folder = {size}, Path(sys.argv[1])
rng = np.random.default_rng(0)

def on_disk(kind, shape, dtype):
    X = np.lib.format.open_memmap(folder / kind, "w+", dtype, shape)
    for start in range(0, n_rows, 1000):
        rows = np.arange(start, min(start + 1000, n_rows))
        X[rows] = rng.standard_normal((len(rows), *shape[1:]), dtype=np.float32)
        X[rows, ..., :8] += (rows % n_classes).reshape(-1, *[1] * (len(shape) - 1)) / n_classes
    X.flush()
    return np.load(folder / kind, mmap_mode="r")

def in_use():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))

shapes = {{"pooled": (width,)}}
X = on_disk("pooled", (n_rows, width), np.float32)
if n_tokens:
    shapes["tokens"] = (n_tokens, width)
    X = {{"pooled": X, "tokens": on_disk("tokens", (n_rows, n_tokens, width), np.float16)}}
# Libraries of linear algebra take their working memory at the first product that is large enough.
warm = rng.standard_normal((600, 600))
np.linalg.eigh(warm @ warm.T), torch.rand(600, 600) @ torch.rand(600, 600)
head = {name}({options})
before, peak, done = in_use(), [0], threading.Event()

def watch():
    while not done.wait(0.001):
        peak[0] = max(peak[0], in_use())

watching = threading.Thread(target=watch)
watching.start()
head.fit(X, np.arange(n_rows) % n_classes)
done.set()
watching.join()
print(head.forecast(n_rows, shapes, n_classes).bytes, peak[0] - before)
"""


@pytest.mark.slow  # each is a fit of some hundred megabytes, in a process of its own
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("module", "name", "options", "sizes"),
    [
        ("ncm", "NearestClassMean", "", [(6000, 4096, 2000, 0), (12_000, 2048, 6000, 0)]),
        ("lda", "LinearDiscriminant", "", [(4000, 2000, 10, 0), (6000, 3000, 100, 0)]),
        ("ridge", "RidgeProbe", "", [(4000, 2000, 10, 0), (6000, 3000, 100, 0)]),
        ("knn", "KNearest", "", [(8000, 512, 10, 0), (20_000, 1024, 100, 0)]),
        ("linear", "LinearProbe", "Cs=[1e-3, 1e-2], tol=1e-2", [(50_000, 512, 10, 0), (10_000, 1024, 200, 0)]),
        ("svm", "LinearSVM", "Cs=[1e-3], multi_class='crammer_singer', max_iter=2", [(20_000, 512, 10, 0)]),
        (
            "moment_probing",
            "MomentProbing",
            "epochs=[1], learning_rates=[1e-3]",
            [(600, 256, 10, 16), (600, 512, 100, 64)],
        ),
        # Gradients of parts are as large as weights of many classes, three candidates have them at once.
        ("moment_probing", "MomentProbing", "epochs=[1]", [(1500, 512, 1000, 9)]),
        ("moment_probing", "MomentProbing", "epochs=[1], products='bfloat16'", [(1200, 1280, 10, 9)]),
    ],
)
def test_the_memory_of_a_fit_is_foretold_within_a_factor_of_one_and_a_half(module, name, options, sizes, tmp_path):
    for size in sizes:
        code = CHILD.format(module=module, name=name, options=options, size=size)
        answer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
        assert answer.returncode == 0, answer.stderr
        foretold, taken = map(int, answer.stdout.split())
        assert 1 / 1.5 < foretold / taken < 1.5, (size, foretold, taken)


def test_moment_probing_holds_gradients_of_the_parts_of_a_batch():
    shapes, parts = {"pooled": (64,), "tokens": (9, 64)}, 4
    few, many = (MomentProbing(batch_size=32 * n).forecast(4000, shapes, 1000).bytes for n in (1, parts))
    of_classes = 3 * 4 * 1000 * (64 + 1 + 2883 + 1)  # weights of both classifiers of three candidates
    assert many - few > (parts - 1) * of_classes


def test_a_head_that_says_nothing_of_itself_is_a_guess_of_its_rows():
    found = LinearSGD().forecast(1000, {"pooled": (64,)}, 10)
    assert found.is_guess
    assert found.bytes == 2 * 1000 * 64 * 4
    assert np.isnan(found.products)


def test_a_machine_of_hinges_holds_curvature_that_a_linear_probe_does_not():
    shapes = {"pooled": (512,)}
    linear, hinges = (head(Cs=[1.0]).forecast(8000, shapes, 100).bytes for head in (LinearProbe, LinearSVM))
    assert hinges - linear > 2 * 100 * 513**2 * 4
    of_two = LinearSVM().forecast(8000, shapes, 2).bytes
    assert of_two < LinearSVM().forecast(8000, shapes, 3).bytes - 513**2 * 4
    together = LinearSVM(multi_class="crammer_singer").forecast(8000, shapes, 100)
    assert together.bytes > 8000 * 512 * 24  # of which it is refused where the memory is not there
    assert np.isnan(together.products)


def test_more_rows_classes_and_values_of_C_take_more():
    def of(n_rows=10_000, n_classes=100, Cs=10):
        return LinearProbe(Cs=Cs).forecast(n_rows, {"pooled": (512,)}, n_classes).bytes

    assert of() < min(of(n_rows=100_000), of(n_classes=10_000), of(Cs=1000))
