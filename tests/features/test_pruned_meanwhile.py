"""The cache beside other processes: whoever reads, lists or copies while entries come and go."""

import multiprocessing
import pkgutil
import time
from datetime import timedelta

import numpy as np
import pytest

from probe.core.errors import ProbeError
from probe.features import upkeep
from probe.features.command import main
from probe.features.extraction.work import discard
from probe.features.store import FeatureStore


def fill(root, backbone, dataset, kinds=("pooled",)):
    return FeatureStore(root).get(backbone, dataset, "train", list(kinds), batch_size=8, progress=False)


@pytest.mark.parametrize(
    "place", ["probe.features.entry.read_pass", "probe.features.store.read_features", "probe.features.entry.Pass.guard"]
)
def test_features_pruned_while_they_are_asked_for_are_extracted_again(
    root, make_backbone, make_dataset, monkeypatch, place
):
    first = fill(root, make_backbone(), make_dataset())
    plain, pruned = pkgutil.resolve_name(place), []

    def pruned_meanwhile(*arguments):
        if not pruned:
            pruned.extend(upkeep.prune(root, max_size=0))
        return plain(*arguments)

    monkeypatch.setattr(place, pruned_meanwhile)
    backbone = make_backbone()
    again = fill(root, backbone, make_dataset())
    assert len(pruned) == 1
    assert backbone.rows_extracted >= 100
    np.testing.assert_array_equal(again.arrays["pooled"], first.arrays["pooled"])


def test_rows_of_an_entry_that_was_pruned_after_it_was_opened_can_still_be_read(root, backbone, make_dataset):
    from probe.core.arrays import read_rows

    array = fill(root, backbone, make_dataset()).arrays["pooled"]
    expected = np.array(array)
    upkeep.prune(root, max_size=0)
    np.testing.assert_array_equal(read_rows(array, np.arange(0, 100, 3)), expected[::3])


@pytest.mark.parametrize("function", ["last_use", "size", "read_pass", "under_way"])
def test_an_entry_that_goes_while_it_is_listed_is_not_there(root, make_backbone, make_dataset, monkeypatch, function):
    for seed in (0, 1):
        fill(root, make_backbone(seed=seed), make_dataset())
    plain, gone = getattr(upkeep, function), []

    def gone_meanwhile(*arguments):
        if not gone:
            gone.append(arguments[-1])
            for folder in upkeep.passes(upkeep.entries(root)[0]):
                discard(folder)
        return plain(*arguments)

    monkeypatch.setattr(upkeep, function, gone_meanwhile)
    upkeep.records(root)
    assert len(upkeep.records(root)) == (2 if function == "under_way" else 1)


def read_often(root, make_backbone, make_dataset, seconds, ready, failures):
    ready.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for seed in (0, 1):
            backbone = make_backbone(seed=seed)
            found = fill(root, backbone, make_dataset())
            if not (found.valid.all() and np.isfinite(found.arrays["pooled"][:]).all()):
                failures.put("wrong features")


EXPECTED = ("means 0 finished entries", "means 2 finished entries", "nothing in the cache matches", "it is not copied")


def look_often(root, target, seconds, ready, failures):
    ready.wait()
    n, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        for words in (["ls"], ["du"], ["verify"], ["export", "toy", str(target / str(n))]):
            n += 1
            try:
                if main(["--cache", str(root), *words]):
                    failures.put(f"{words} found damage")
            except ProbeError as error:
                if not any(text in str(error) for text in EXPECTED):
                    failures.put(str(error))


def prune_often(root, seconds, ready, failures):
    ready.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        upkeep.prune(root, older_than=timedelta(0))
        time.sleep(0.1)


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_prune_beside_readers_listings_and_exports(root, tmp_path, make_backbone, make_dataset, seconds):
    fill(root, make_backbone(), make_dataset())
    context = multiprocessing.get_context("spawn")  # a forked child cannot compute with torch
    failures = context.Queue()
    tasks = [
        (read_often, (root, make_backbone, make_dataset)), (read_often, (root, make_backbone, make_dataset)),
        (look_often, (root, tmp_path / "out")), (prune_often, (root,)), (prune_often, (root,)),
    ]  # fmt: skip
    more = seconds, context.Barrier(len(tasks)), failures
    processes = [context.Process(target=task, args=(*arguments, *more)) for task, arguments in tasks]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(tasks)
    assert failures.empty(), failures.get()
    fill(root, make_backbone(), make_dataset())
    assert list(upkeep.verify(root)) == []
