"""Several processes, users and machines at one extraction: each row is extracted once, by those that live."""

import errno
import json
import os
import time
from pathlib import Path

import extraction_child as child
import pytest
import torch
from extraction_parent import SERVER, bytes_of, interrupt, nothing_but_the_pass, start, wait_for
from extraction_toys import Unguarded

import probe.features.extraction.work
from probe.features.extraction.plan import Block
from probe.features.extraction.work import works
from probe.features.extraction.writer import Writer

pytestmark = pytest.mark.usefixtures("server")


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

    def test_another_user_of_the_group_goes_on_with_an_extraction(self, uninterrupted, open_folder):
        if os.name != "posix" or os.geteuid() != 0:
            pytest.skip("needs the right to become other users")
        closed = [
            str(p)
            for p in (Path(torch.__file__), *Path(torch.__file__).parents)
            if not p.stat().st_mode & (0o001 if p.is_dir() else 0o004)
        ]
        if closed:
            pytest.skip(f"other users cannot read the installed packages: {closed[-1]} is closed to them")
        os.chown(open_folder, 0, 65534)
        open_folder.chmod(0o2775)
        root, log = open_folder / "cache", open_folder / "log"
        first = start(child.extract_as_user, 1001, root, log, 100)
        wait_for(log, 100, first)
        first.kill()
        first.join()
        second = start(child.extract_as_user, 1002, root, log, None)
        second.join()
        assert second.exitcode == 0
        assert child.rows_logged(log) < 250
        assert bytes_of(child.extract(root, log)) == uninterrupted[200]

    def test_what_others_are_extracting_is_waited_for_not_extracted_again(self, root, log):
        wide = start(child.extract, root, log, delay=0.01)
        wait_for(log, 20, wide)
        backbone = child.LoggingBackbone(log, 0.01)
        features = Unguarded(root).get(backbone, child.toy_dataset(200), "train", ["pooled"], progress=False)
        wide.join()
        assert list(features.arrays) == ["pooled"]
        assert child.rows_logged(log) == 200
