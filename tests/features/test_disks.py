"""Disks that are full, that can only be read or have other scripts in their names; features larger than memory."""

import errno
import os
import shutil
import subprocess
import sys

import extraction_child as child
import pytest
from extraction_parent import BATCH, SERVER, bytes_of, start

import probe.features.extraction.sink
from probe.core.errors import StoreError
from probe.features.store import FeatureStore

pytestmark = pytest.mark.usefixtures("server")


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

    def test_a_file_in_the_place_of_the_cache_or_a_place_without_rights_is_refused_at_once(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        for root in (tmp_path / "file", tmp_path / "file" / "cache"):
            with pytest.raises(StoreError, match="file is a file, and the cache is to stand there: set cache="):
                FeatureStore(root).check_place()
        FeatureStore(tmp_path / "new" / "cache").check_place()
        assert not (tmp_path / "new").exists()
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(StoreError, match="cannot be written to, and the cache is to stand below it: set cache="):
            FeatureStore(tmp_path / "new" / "cache").check_place()
        FeatureStore(tmp_path).check_place()

    def test_a_cache_that_can_only_be_read(self, log, open_folder):
        """Reads what is there, and says so when something is not."""
        child.extract(open_folder / "cache", log, n=20, delay=0.0)
        for path in [open_folder, *open_folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        here, there = SERVER.Pipe()
        process = start(child.read_as_nobody, open_folder / "cache", there)
        assert here.recv() == 0.0
        message = "cannot be written (Permission denied) and these features are not in it yet: set PROBE_CACHE"
        assert message in here.recv()
        process.join()
