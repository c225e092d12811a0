"""What NFS does differently from a local disk, one hazard at a time: clients remember, answers get lost."""

import builtins
import errno
import io
import json
import os
import shutil
import time
from pathlib import Path

import extraction_child as child
import pytest
from extraction_parent import bytes_of, interrupt, start, wait_for

import probe.features.extraction.work
from probe.features import upkeep
from probe.features.extraction.work import Work
from probe.features.extraction.writer import Writer

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def before_the_finish(monkeypatch):
    """Lets a test do something at the moment when this process, and no other, has found all blocks done."""

    def register(act):
        plain = Writer.claim_finish

        def claim_finish(writer):
            monkeypatch.setattr(Writer, "claim_finish", plain)
            act(writer.work)
            return writer.claim_finish()

        monkeypatch.setattr(Writer, "claim_finish", claim_finish)

    return register


class Unread(io.FileIO):
    def refuse(self, *args):
        raise AssertionError(f"{self.name} was read while others may write it")

    read = readinto = readall = refuse


def test_no_array_is_read_before_all_of_it_is_written(root, log, uninterrupted, monkeypatch):
    """A client that has read a page writes all of it back, over what other hosts wrote beside its rows."""

    def watched(file, mode="r", *args, **kwargs):
        if "r" in mode and isinstance(file, Path) and file.parent.name == "data" and file.suffix == ".npy":
            return Unread(file)
        return plain(file, mode, *args, **kwargs)

    interrupt(root, log, 100)
    plain = builtins.open
    monkeypatch.setattr(builtins, "open", watched)
    (path,) = root.rglob("data/pooled.npy")
    with pytest.raises(AssertionError, match="was read while"), open(path, "rb") as file:
        file.read(1)
    assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_who_waits_finds_what_others_finished_although_its_client_remembers_the_old_names(
    root, log, uninterrupted, monkeypatch, before_the_finish, number
):
    exists, seen = Path.exists, set()

    def remembered(path, **options):
        if exists(path, **options):
            seen.add(path)
        return path in seen

    def others_finish(work):
        assert work.data.exists()
        other = start(child.extract, root, log, delay=0.0)
        other.join()
        assert other.exitcode == 0
        assert work.data.exists()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "exists", remembered)
    before_the_finish(others_finish)
    assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]
    assert child.rows_logged(log) == 200


def test_a_pass_that_is_there_already_counts_as_done(root, log, uninterrupted, before_the_finish):
    child.extract(root / "other", log, delay=0.0)

    def appear(work):
        (manifest,) = (root / "other").rglob("manifest.json")
        shutil.copytree(manifest.parent, work.folder.parent / manifest.parent.name)

    before_the_finish(appear)
    assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]
    assert not list(root.glob("features/*/.*"))


@pytest.mark.parametrize("name", ["link", "rename", "replace", "mkdir"])
def test_an_answer_of_the_server_that_was_lost(root, log, uninterrupted, monkeypatch, name):
    """The client asks again and hears that the work is done already: the name is taken, or nothing is there."""
    plain, repeated = getattr(os, name), []

    def twice(*args, **options):
        plain(*args, **options)
        if ".work-" in str(args[0]) or ".trash-" in str(args[0]):
            repeated.append(args)
            plain(*args, **options)

    interrupt(root / "killed", log, 50)
    log.unlink()
    monkeypatch.setattr(os, name, twice)
    for cache in (root, root / "killed"):
        assert bytes_of(child.extract(cache, log, delay=0.0)) == uninterrupted[200]
    assert repeated
    assert not list(root.rglob(".trash-*"))


def test_a_listing_of_the_claims_that_is_old_makes_nobody_compute_a_row_twice(root, log, uninterrupted, monkeypatch):
    claims, old = Work.claims, [{}]

    def remembered(work):
        old.append(claims(work))
        return old[-1] if len(old) % 5 == 0 else old[len(old) // 5 * 5 - 1]

    partner = start(child.extract, root, log, delay=0.01)
    wait_for(log, 20, partner)
    monkeypatch.setattr(Work, "claims", remembered)
    assert bytes_of(child.extract(root, log, delay=0.005)) == uninterrupted[200]
    partner.join()
    assert partner.exitcode == 0
    assert child.rows_logged(log) == 200


def test_a_sign_of_life_that_was_replaced_while_it_was_read_is_one(root, log, monkeypatch):
    interrupt(root, log, 20)
    (folder,) = root.glob("features/*/.work-*")
    (sign,) = (folder / "writers").glob("*.json")

    def replaced(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    work = Work(folder)
    assert not work.lives(sign.stem)
    monkeypatch.setattr(Path, "read_bytes", replaced)
    assert work.lives(sign.stem)


def test_a_writer_that_died_on_another_host_protects_its_extraction_for_an_hour(root, log):
    interrupt(root, log, 20)
    (sign,) = root.rglob("writers/*.json")
    sign.write_text(json.dumps(json.loads(sign.read_text()) | {"host": "elsewhere"}))
    assert [r.state for r in upkeep.records(root)] == ["extracting"]
    os.utime(sign, (time.time() - 2 * upkeep.SILENT_SECONDS,) * 2)
    assert [r.state for r in upkeep.records(root)] == ["interrupted"]


def test_prune_leaves_an_entry_that_someone_has_just_begun(root, monkeypatch):
    entry = root / "features" / ("0" * 32)
    entry.mkdir(parents=True)
    names = Path.iterdir

    def stale(path):
        yield from list(names(path))
        if path == entry:
            (entry / ".trash-begun").mkdir(exist_ok=True)

    monkeypatch.setattr(Path, "iterdir", stale)
    upkeep.sweep(entry)
    assert (entry / ".trash-begun").exists()


def test_a_folder_that_others_still_write_to_while_it_goes_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "plan.json").write_text("{}")
    plain, late = shutil.rmtree, iter([True])

    def disturbed(path, **options):
        if next(late, False):
            (path / "late.json").write_text("{}")
            (path / "plan.json").unlink()
            return
        plain(path, **options)

    monkeypatch.setattr(shutil, "rmtree", disturbed)
    probe.features.extraction.work.discard(tmp_path / "work")
    assert not list(tmp_path.iterdir())
