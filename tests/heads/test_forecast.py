"""What heads say of the memory that a fit takes, against what it takes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT

from probe.heads import moment_probing
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


@pytest.fixture
def one_thread():
    """Where more would be, more rows are in work at once, and what they keep would hide the rest."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def of_moment_probing(batch_size=64, n_classes=10, tokens=(9, 64), **options):
    shapes = {"pooled": (64,), "tokens": tokens}
    return MomentProbing(batch_size=batch_size, **options).forecast(4000, shapes, n_classes)


def test_moment_probing_holds_gradients_of_the_parts_of_a_batch(one_thread):
    parts = 4
    few, many = (of_moment_probing(32 * n, 1000, device="cpu").bytes for n in (1, parts))
    of_classes = 3 * 4 * 1000 * (64 + 1 + 2883 + 1)  # weights of both classifiers of three candidates
    assert many - few > (parts - 1) * of_classes


def of_parts(monkeypatch, **options):
    """Bytes on a processor beside those on an accelerator, where batches have no parts."""
    monkeypatch.setattr(moment_probing, "resolve_device", lambda device: device)
    on_cpu, on_cuda = (of_moment_probing(device=device, **options).bytes for device in ("cpu", "cuda"))
    return on_cpu - on_cuda


def test_moment_probing_has_no_parts_on_an_accelerator(one_thread, monkeypatch):
    assert of_parts(monkeypatch, batch_size=128, n_classes=1000) > 3 * 4 * 4 * 1000 * (64 + 1 + 2883 + 1)


def test_moment_probing_copies_patches_behind_prefix_tokens_and_narrow_ones(one_thread, monkeypatch):
    patches = of_parts(monkeypatch)
    prefixed = of_parts(monkeypatch, tokens=(10, 64), n_prefix_tokens=1)
    narrow = of_parts(monkeypatch, products="bfloat16")
    assert prefixed - patches == 3 * 4 * 64 * 9 * 64  # of each candidate
    assert narrow - patches == 3 * 64 * 9 * (2 * 64 - 2 * 512)  # whose slopes are half as wide


def test_products_of_few_tokens_are_counted_whoever_multiplies():
    n_tokens, sides, pairs = 9, 64, 3  # positions of the first convolution, counted to the next even number
    by_hand = 64 * 512 * n_tokens  # the projection
    by_hand += pairs * n_tokens * 128 * n_tokens * 2  # norms of columns
    by_hand += pairs * n_tokens * pairs * 3 * 3 * sides  # windows of the right groups, mixed
    by_hand += pairs * n_tokens * 3 * sides * pairs * sides  # those of the left ones times them
    by_hand += (4 * pairs) ** 2 * (sides // 2) ** 2  # the second convolution
    by_hand += 10 * (64 + pairs * 31**2)  # the classifiers
    passes, candidates_and_refit, epochs = 3, 4, 30
    found = of_moment_probing(tokens=(n_tokens, 64)).products
    assert found == passes * candidates_and_refit * epochs * 4000 * by_hand


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
