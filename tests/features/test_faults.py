"""What an extraction survives: kills at any moment, company, full disks; and damage that is noticed when read."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import extraction_child as child
import numpy as np
import pytest
import torch
from extraction_parent import SERVER, bytes_of, interrupt, start, wait_for
from extraction_toys import Unguarded

import probe.features.entry
import probe.features.extraction.sink
import probe.features.extraction.work
from probe.core.arrays import read_rows
from probe.core.base import digest
from probe.core.errors import StoreError
from probe.core.hashing import hash_bytes
from probe.features.extraction.plan import Block
from probe.features.extraction.work import works
from probe.features.extraction.writer import Writer
from probe.features.layout import entry_digest, entry_identity

pytestmark = pytest.mark.usefixtures("server")
BATCH = 5


def pass_folder(root):
    (manifest,) = root.rglob("manifest.json")
    return manifest.parent


def nothing_but_the_pass(root):
    """What a kill left half made or half removed is out of the way, for `prune`."""
    folder = pass_folder(root)
    assert {p.name for p in folder.parent.iterdir() if not p.name.startswith(".")} == {folder.name, "used"}
    assert not list(folder.parent.glob(".work-*/data"))
    assert len(list(folder.iterdir())) == 11


class TestKills:
    def kill_and_finish(self, root, log, uninterrupted, seed):
        dice = random.Random(seed)
        for _ in range(dice.randint(1, 3)):
            process = start(child.extract, root, log)
            moment = child.rows_logged(log) + dice.randint(0, 200)
            while process.is_alive() and child.rows_logged(log) < moment:
                time.sleep(0.001)
            time.sleep(dice.uniform(0.0, 0.02))
            process.kill()
            process.join()
        kills_log = child.rows_logged(log)
        done = sum(len(w.plan.rows(b)) for e in root.glob("features/*") for w in works(e) for b in w.done())
        features = child.extract(root, log, delay=0.0)
        assert bytes_of(features) == uninterrupted[200]
        if kills_log and features.seconds != 0.0:
            assert child.rows_logged(log) - kills_log == 200 - done
        nothing_but_the_pass(root)

    @pytest.mark.parametrize("seed", range(5))
    def test_resumed_features_equal_uninterrupted_ones_bit_for_bit(self, root, log, uninterrupted, seed):
        self.kill_and_finish(root, log, uninterrupted, seed)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(5, 65))
    def test_the_same_in_many_trials(self, root, log, uninterrupted, seed):
        self.kill_and_finish(root, log, uninterrupted, seed)

    def test_a_kill_costs_the_blocks_in_flight_only(self, root, log, uninterrupted):
        interrupt(root, log, 100)
        assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]
        # In flight: one batch in the backbone, up to four waiting for the disk, one being written.
        assert 200 <= child.rows_logged(log) <= 200 + 6 * BATCH

    @pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
    def test_death_at_every_single_disk_operation(self, tmp_path, log, uninterrupted, step):
        for at in range(0, 320, step):
            root, done = tmp_path / f"cache-{at}", tmp_path / f"done-{at}"
            start(child.extract_and_die, root, log, at, done).join()
            assert bytes_of(child.extract(root, log, n=20, delay=0.0)) == uninterrupted[20], at
            nothing_but_the_pass(root)
            shutil.rmtree(root)
            if done.exists():
                break
        assert 40 < at < 280


class TestCompany:
    @pytest.mark.parametrize("n_processes", [4])
    def test_many_processes_extract_every_row_once(self, root, log, uninterrupted, n_processes):
        barrier = SERVER.Barrier(n_processes)
        processes = [start(child.extract_when_all_are_ready, barrier, root, log) for _ in range(n_processes)]
        for process in processes:
            process.join()
        assert [p.exitcode for p in processes] == [0] * n_processes
        assert child.rows_logged(log) == 200
        features = child.extract(root, log)
        assert features.seconds == 0.0
        assert bytes_of(features) == uninterrupted[200]
        nothing_but_the_pass(root)

    def test_a_batch_size_of_ones_own_does_not_disturb_an_extraction_under_way(self, root, log, uninterrupted):
        process = start(child.extract, root, log)
        wait_for(log, 20, process)
        features = child.extract(root, log, batch_size=7)
        process.join()
        assert process.exitcode == 0
        assert bytes_of(features) == uninterrupted[200]
        assert child.rows_logged(log) == 200

    def test_a_batch_size_that_never_finished_a_block_can_be_changed(self, root, make_backbone, make_dataset):
        backbone = make_backbone()
        plain = backbone.extract

        def small_only(batch, kinds):
            if len(batch) > 4:
                raise RuntimeError("too large")
            return plain(batch, kinds)

        backbone.extract = small_only
        arguments = (backbone, make_dataset(20), "train", ["pooled"])
        with pytest.raises(RuntimeError, match="too large"):
            Unguarded(root).get(*arguments, batch_size=8, progress=False)
        assert Unguarded(root).get(*arguments, batch_size=4, progress=False).arrays["pooled"].shape == (20, 64)

    def test_a_killed_partner_is_noticed_and_its_ranges_taken_over(self, root, log, uninterrupted):
        partner = start(child.extract, root, log, delay=0.05)
        wait_for(log, 10, partner)
        other = start(child.extract, root, log, delay=0.01)
        time.sleep(0.1)
        partner.kill()
        partner.join()
        other.join(20)
        assert other.exitcode == 0
        assert bytes_of(child.extract(root, log)) == uninterrupted[200]

    def test_a_silent_writer_on_another_host_is_given_up(self, root, log, uninterrupted, monkeypatch):
        interrupt(root, log, 20)
        (sign,) = root.rglob("writers/*.json")
        sign.write_text(json.dumps(json.loads(sign.read_text()) | {"host": "elsewhere"}))
        monkeypatch.setattr(probe.features.extraction.work, "STALE_SECONDS", 0.5)
        began = time.monotonic()
        assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]
        assert time.monotonic() - began > 0.5

    def test_a_writer_that_comes_back_from_the_dead_journals_nothing(self, root, log, monkeypatch):
        interrupt(root, log, 20)
        ((work,),) = [list(works(entry)) for entry in root.glob("features/*")]
        sleeper = Writer(work)
        sleeper.__enter__()
        (number,) = sleeper.claim()
        with Writer(work) as second:
            monkeypatch.setattr(probe.features.extraction.work, "STALE_SECONDS", -1)
            while number not in (second.claim() or ()):  # the first look at a sign says nothing
                pass
        before = set(work.done())
        sleeper.record([Block(number, {"pooled": 1, "tokens": 1})])
        assert set(work.done()) == before
        sleeper.__exit__(None, None, None)

    def test_file_systems_without_hard_links(self, root, log, uninterrupted, monkeypatch):
        def link(*paths):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", link)
        process = start(child.extract, root, log, delay=0.02)
        wait_for(log, 20, process)
        assert bytes_of(child.extract(root, log)) == uninterrupted[200]
        process.join()
        assert child.rows_logged(log) == 200

    def test_another_user_of_the_group_goes_on_with_an_extraction(self, uninterrupted):
        if os.name != "posix" or os.geteuid() != 0:
            pytest.skip("needs the right to become other users")
        closed = [
            str(p)
            for p in (Path(torch.__file__), *Path(torch.__file__).parents)
            if not p.stat().st_mode & (0o001 if p.is_dir() else 0o004)
        ]
        if closed:
            pytest.skip(f"other users cannot read the installed packages: {closed[-1]} is closed to them")
        base = Path(tempfile.mkdtemp())
        try:
            os.chown(base, 0, 65534)
            base.chmod(0o2775)
            root, log = base / "cache", base / "log"
            first = start(child.extract_as_user, 1001, root, log, 100)
            wait_for(log, 100, first)
            first.kill()
            first.join()
            second = start(child.extract_as_user, 1002, root, log, None)
            second.join()
            assert second.exitcode == 0
            assert child.rows_logged(log) < 250
            assert bytes_of(child.extract(root, log)) == uninterrupted[200]
        finally:
            shutil.rmtree(base)

    def test_what_others_are_extracting_is_waited_for_not_extracted_again(self, root, log):
        wide = start(child.extract, root, log, delay=0.01)
        wait_for(log, 20, wide)
        backbone = child.LoggingBackbone(log, 0.01)
        features = Unguarded(root).get(backbone, child.toy_dataset(200), "train", ["pooled"], progress=False)
        wide.join()
        assert list(features.arrays) == ["pooled"]
        assert child.rows_logged(log) == 200


class TestFullDisk:
    def test_the_error_says_what_to_do_and_the_rest_follows_later(self, root, log, uninterrupted, monkeypatch):
        write_at, left = probe.features.extraction.sink.write_at, iter(range(46))

        def full(file, offset, rows):
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write_at(file, offset, rows)

        monkeypatch.setattr(probe.features.extraction.sink, "write_at", full)
        with pytest.raises(StoreError, match=r"no space left in the cache .* what is finished is kept; make room"):
            child.extract(root, log)
        assert not list(root.rglob("manifest.json"))
        monkeypatch.setattr(probe.features.extraction.sink, "write_at", write_at)
        before = child.rows_logged(log)
        assert bytes_of(child.extract(root, log)) == uninterrupted[200]
        assert child.rows_logged(log) - before == 200 - 15 * BATCH

    def test_what_the_disk_cannot_hold_is_refused_before_it_begins(self, root, log, monkeypatch):
        usage = shutil.disk_usage(log.parent)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
        expected = "of 200 rows need 0.3 MiB and the cache has 0.1 MiB free: make .* features.dtypes.pooled=float16$"
        with pytest.raises(StoreError, match=expected):
            child.extract(root, log)

    def test_a_small_disk_that_is_really_full(self, tmp_path, log, uninterrupted):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount a tmpfs")
        try:
            ballast = disk / "ballast"
            process_root = disk / "cache"
            free = probe.features.extraction.sink.shutil.disk_usage
            ballast.write_bytes(bytes(250_000))
            try:
                shutil.disk_usage = lambda path: free(path)._replace(free=10**9)
                with pytest.raises(StoreError, match="no space left in the cache"):
                    child.extract(process_root, log)
            finally:
                shutil.disk_usage = free
            ballast.unlink()
            assert bytes_of(child.extract(process_root, log)) == uninterrupted[200]
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)


class TestDamage:
    """Each is a sentence, and none is read in silence."""

    @pytest.fixture
    def filled(self, root, log):
        child.extract(root, log, delay=0.0)
        return pass_folder(root)

    def refused(self, filled, log, message):
        probe.features.entry._GUARDS.clear()  # as a new process sees it
        with pytest.raises(StoreError, match=message) as caught:
            child.extract(filled.parents[2], log)
        assert str(caught.value).count(": ") >= 1

    @pytest.mark.parametrize("eager", [True, False])
    @pytest.mark.parametrize("kind", ["tokens", "words"])
    def test_one_flipped_bit(self, filled, log, monkeypatch, kind, eager):
        if not eager:
            monkeypatch.setattr(probe.features.entry, "EAGER_BYTES", 0)
        path = filled / f"{kind}.npy"
        data = bytearray(path.read_bytes())
        first = 3 * 42 if kind == "tokens" else np.load(filled / "words.offsets.npy")[42]
        data[4096 + first * 64 * 2 + 5] ^= 1
        path.write_bytes(data)
        message = rf"{kind} rows 40 to 44 in .* do not match their checksum.*: delete the folder"
        if eager:
            return self.refused(filled, log, message)
        probe.features.entry._GUARDS.clear()
        features = child.extract(filled.parents[2], log)
        assert np.isfinite(features.arrays[kind][:40]).all()
        from_file = lambda X: read_rows(X, np.arange(38, 45))  # noqa: E731
        whole = (lambda X: X.sum(), lambda X: X.T, np.mean) if kind == "tokens" else (np.asarray, lambda X: X[42])
        for read in (from_file, lambda X: X[40:], lambda X: X[[42]], *whole):
            with pytest.raises(StoreError, match=message):
                read(features.arrays[kind])

    @pytest.mark.parametrize("change", [lambda o: o[:-1], lambda o: o[::-1], lambda o: o.astype(np.int32)])
    def test_offsets_of_other_rows(self, filled, log, change):
        path, manifest = filled / "words.offsets.npy", filled / "manifest.json"
        np.save(path, change(np.load(path)))
        facts = json.loads(manifest.read_text())
        del facts["digest"]
        facts["files"]["words.offsets.npy"] = hash_bytes(path.read_bytes())
        manifest.write_text(json.dumps({**facts, "digest": digest(facts)}))
        self.refused(filled, log, r"words.offsets.npy does not fit its manifest: delete the folder")

    def test_a_truncated_array(self, filled, log):
        with open(filled / "pooled.npy", "r+b") as file:
            file.truncate(5000)
        self.refused(filled, log, r"pooled.npy holds 5000 bytes, expected 55296: delete the folder")

    @pytest.mark.parametrize(
        "name", ["pooled.npy", "words.npy", "words.offsets.npy", "tokens.xxh3.npy", "valid.npy", "manifest.json"]
    )
    def test_a_missing_file(self, filled, log, name):
        (filled / name).unlink()
        self.refused(filled, log, f"{name} is missing")

    @pytest.mark.parametrize("name", ["words.offsets.npy", "tokens.xxh3.npy", "valid.npy", "manifest.json"])
    def test_a_damaged_small_file(self, filled, log, name):
        data = bytearray((filled / name).read_bytes())
        data[-30] ^= 2
        (filled / name).write_bytes(data)
        self.refused(filled, log, f"{name} does not match its|{name} is no manifest")

    def test_a_foreign_array(self, filled, log):
        plain = np.load(filled / "pooled.npy")
        np.save(filled / "pooled.npy", plain.T)
        self.refused(filled, log, "expected 55296|the header of .*pooled.npy is not what was written")

    def test_a_foreign_manifest(self, filled, log):
        (filled / "manifest.json").write_text('{"some": "json"}')
        self.refused(filled, log, r"manifest.json is no manifest of this cache, it was changed or damaged")

    def test_a_pass_of_another_entry(self, root, log, filled, make_backbone, make_dataset):
        dataset = make_dataset(20)
        identity = entry_identity(make_backbone(seed=5), dataset, "train")
        shutil.copytree(filled, root / "features" / entry_digest(identity) / filled.name)
        with pytest.raises(StoreError, match=r"holds features of the entry .*, not of the folder it stands in: move"):
            Unguarded(root).get(make_backbone(seed=5), dataset, "train", ["pooled"], progress=False)

    def test_a_manifest_of_a_newer_version(self, filled, log):
        manifest = json.loads((filled / "manifest.json").read_text())
        (filled / "manifest.json").write_text(json.dumps(manifest | {"schema": 2}))
        self.refused(
            filled, log, r"was written by a newer version of probe \(schema 2, this one reads 1\): update probe"
        )

    def test_a_stranger_beside_the_passes_is_left_alone(self, filled, log):
        (filled.parent / "notes.txt").write_text("mine")
        (filled.parent / "folder").mkdir()
        assert child.extract(filled.parents[2], log).seconds == 0.0

    def test_an_interrupted_extraction_that_lost_its_rows(self, root, log):
        interrupt(root, log, 50)
        (array,) = root.rglob("pooled.npy")
        os.truncate(array, 9000)
        with pytest.raises(StoreError, match=r"the interrupted extraction in .* has lost rows of pooled.npy: delete"):
            child.extract(root, log)

    @pytest.mark.parametrize("damage", ["cut off", "removed", "changed"])
    def test_an_interrupted_extraction_that_lost_tokens(self, root, log, damage):
        interrupt(root, log, 50)
        (segment,) = root.rglob("*.words.segment")
        if damage == "cut off":
            os.truncate(segment, 900)
        elif damage == "removed":
            segment.unlink()
        else:
            segment.write_bytes(segment.read_bytes()[::-1])
        with pytest.raises(StoreError, match=r"has lost rows of words.npy \(\d+ to \d+\): delete that folder and run"):
            child.extract(root, log)

    @pytest.mark.parametrize("text", ["{", '{"some": 1}'])
    def test_an_interrupted_extraction_without_a_plan(self, root, log, text):
        interrupt(root, log, 20)
        (plan,) = root.rglob("plan.json")
        plan.write_text(text)
        with pytest.raises(StoreError, match=r"plan.json is damaged or not of this cache: delete the folder"):
            child.extract(root, log)


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA")
def test_features_several_times_larger_than_memory(root):
    here, there = SERVER.Pipe()
    spare = 96 * 2**20
    process = start(child.extract_in_little_memory, root, 8192, spare, there)
    process.join()
    assert process.exitcode == 0
    n_bytes, equal, refused = here.recv()
    assert n_bytes > 4 * spare
    assert equal
    assert refused
    shutil.rmtree(root)


class TestPlaces:
    def test_spaces_and_other_scripts_in_the_path(self, tmp_path, log, uninterrupted):
        root = tmp_path / "my cache" / "Ünïcode キャッシュ"
        assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]
        assert child.extract(root, log).seconds == 0.0

    def test_a_cache_that_can_only_be_read(self, log):
        """Reads what is there, and says so when something is not."""
        base = Path(tempfile.mkdtemp())
        try:
            child.extract(base / "cache", log, n=20, delay=0.0)
            for path in [base, *base.rglob("*")]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            here, there = SERVER.Pipe()
            process = start(child.read_as_nobody, base / "cache", there)
            assert here.recv() == 0.0
            message = "cannot be written (Permission denied) and these features are not in it yet: set PROBE_CACHE"
            assert message in here.recv()
            process.join()
        finally:
            for path in [base, *base.rglob("*")]:
                path.chmod(0o755)
            shutil.rmtree(base)
