"""Entries from elsewhere: only what the manifest names, no links, whole or not at all."""

import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest

from probe.core.base import digest
from probe.core.errors import FileError, InputError, StoreError
from probe.features import layout, upkeep
from probe.features.command import main
from probe.features.layout import write_array
from probe.features.store import FeatureStore


def fill(root, backbone, dataset, kinds=("pooled", "words")):
    return FeatureStore(root).get(backbone, dataset, "train", list(kinds), batch_size=8, progress=False)


@pytest.fixture
def exported(root, tmp_path, backbone, make_dataset):
    """The folder of an exported pass."""
    fill(root, backbone, make_dataset())
    (folder,) = upkeep.export(root, "toy", tmp_path / "out").iterdir()
    return folder


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


def rewrite(folder, change):
    """Changes the manifest and gives it a digest that fits, as someone with bad intentions would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    manifest["digest"] = digest({k: v for k, v in manifest.items() if k != "digest"})
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refused(exported, tmp_path, capsys, reason):
    """The import is refused with a sentence that names the cause and the file it came from, and leaves nothing."""
    other = tmp_path / "other"
    with pytest.raises((StoreError, InputError), match=reason) as caught:
        main(["--cache", str(other), "import", str(exported.parent)])
    assert str(exported) in str(caught.value)
    assert ".trash" not in str(caught.value)
    assert not other.exists()
    assert capsys.readouterr().out == ""


def test_a_folder_of_exported_entries_is_taken_in(exported, root, tmp_path, make_backbone, make_dataset, capsys):
    fill(root, make_backbone(seed=1), make_dataset(20))
    for record in upkeep.records(root):
        main(["--cache", str(root), "export", record.entry, str(tmp_path / "out")])
    (tmp_path / "out" / ("0" * 32)).symlink_to(exported.parent)
    unfinished = f"{layout.WORK_PREFIX}{exported.name}"
    (tmp_path / "out" / ("1" * 32) / unfinished).mkdir(parents=True)  # as in a folder that was no export
    capsys.readouterr()
    assert main(["--cache", str(tmp_path / "other"), "import", str(tmp_path / "out")]) == 0
    there = {record.entry for record in upkeep.records(tmp_path / "other")}
    assert there == {record.entry for record in upkeep.records(root)}
    assert len(there) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_no_manifest_names_stays_behind(exported, tmp_path):
    (exported / "more.txt").write_text("not named")
    (exported / "link").symlink_to("/etc/passwd")
    (exported / "folder").mkdir()
    os.mkfifo(exported / "fifo")
    (exported.parent / "evil").mkdir()
    shutil.copy(exported / "manifest.json", exported.parent / "evil")
    there = upkeep.import_entry(tmp_path / "other", exported.parent)
    assert names_of(there) == [exported.name]
    assert set(names_of(exported)) - set(names_of(there / exported.name)) == {"more.txt", "link", "folder", "fifo"}
    assert list(upkeep.verify(tmp_path / "other")) == []


@pytest.mark.parametrize("name", ["manifest.json", "pooled.npy", "labels.npy"])
@pytest.mark.parametrize("kind", ["symbolic link", "fifo", "folder"])
def test_links_and_devices_are_refused_by_name(exported, tmp_path, capsys, name, kind):
    aside = exported.parent.parent / "aside"
    shutil.move(exported / name, aside)
    if kind == "symbolic link":
        (exported / name).symlink_to(aside)
    else:
        os.mkfifo(exported / name) if kind == "fifo" else (exported / name).mkdir()
    refused(exported, tmp_path, capsys, f"{name} is a {kind}, expected a regular file: it is not copied")


def test_a_pass_that_is_a_link_is_refused(exported, tmp_path, capsys):
    aside = exported.parent.parent / "aside"
    shutil.move(exported, aside)
    exported.symlink_to(aside)
    refused(exported, tmp_path, capsys, "is a symbolic link, expected a folder")


def test_hard_links_are_copied_by_content(exported, tmp_path):
    os.link(exported / "pooled.npy", tmp_path / "second name")
    there = upkeep.import_entry(tmp_path / "other", exported.parent)
    assert (there / exported.name / "pooled.npy").stat().st_nlink == 1


@pytest.mark.parametrize("name", ["../../../x", "/etc/passwd", "a/b", "..", "", "manifest.json", "a\\b", "a\0b"])
def test_names_that_lead_out_of_the_folder_are_refused(exported, tmp_path, capsys, name):
    rewrite(exported, lambda manifest: manifest["files"].update({name: "0" * 32}))
    refused(exported, tmp_path, capsys, "names the file .*, expected one in its folder: it is not copied")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("kinds"), lambda m: m.update(kinds=[]), lambda m: m.update(kinds={}),
        lambda m: m.update(files=1),
        lambda m: m.update(n_rows="many"), lambda m: m.update(n_rows=-1), lambda m: m.update(block_rows=0),
        lambda m: m["kinds"]["pooled"].update(dtype="object"), lambda m: m["kinds"]["pooled"].update(shape=[1, 2]),
        lambda m: m["kinds"]["pooled"].update(shape="x"), lambda m: m["kinds"]["words"].update(n_tokens=0),
        lambda m: m["kinds"]["words"].update(offsets="x.npy"), lambda m: m["kinds"]["words"].update(shape=[100]),
        lambda m: m["provenance"].update(backbone=3),
        lambda m: m.update(skipped={"x": 1}), lambda m: m.update(skipped={"500": ["a", "b"]}),
    ],
)  # fmt: skip
def test_a_manifest_with_a_fitting_digest_and_odd_facts_is_refused(exported, tmp_path, capsys, change):
    rewrite(exported, change)
    refused(exported, tmp_path, capsys, "lacks facts of a finished pass, or holds odd ones: it is not copied")


def test_a_pass_under_the_name_of_another_is_refused(exported, tmp_path, capsys):
    """It would stand where the features of those kinds belong, and never be found."""
    other = exported.with_name("0" * 16)
    exported.rename(other)
    refused(other, tmp_path, capsys, "holds the pass .* by its manifest, expected it under that name")


@pytest.mark.parametrize(
    "name",
    ["pooled.npy", "pooled.xxh3.npy", "words.npy", "words.offsets.npy", "valid.npy", "ids.json", "manifest.json"],
)
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_damage_is_named_and_nothing_is_left(exported, tmp_path, capsys, name, damage):
    data = bytearray((exported / name).read_bytes())
    data[len(data) // 2] ^= 1
    (exported / name).unlink()
    if damage != "missing":
        (exported / name).write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    refused(exported, tmp_path, capsys, "it is not copied")


def test_a_mask_of_valid_rows_that_does_not_fit_is_damage(exported, tmp_path, capsys):
    from probe.core.hashing import hash_bytes

    write_array(exported / "valid.npy", np.ones(3, bool))
    digest_of = hash_bytes((exported / "valid.npy").read_bytes())
    rewrite(exported, lambda manifest: manifest["files"].update({"valid.npy": digest_of}))
    refused(exported, tmp_path, capsys, "valid.npy does not fit its manifest")


def test_a_place_that_cannot_be_written_is_a_sentence(root, exported, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/\w{32} cannot be written"):
        upkeep.export(root, "toy", tmp_path / "file")
    with pytest.raises(FileError, match="cannot be written"):
        upkeep.import_entry(tmp_path / "file", exported.parent)


def export_often(root, target, n):
    for i in range(n):
        upkeep.export(root, "toy", target / str(i))


@pytest.mark.parametrize("n_exports", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_concurrent_exports_of_one_entry_into_one_place_all_end_well(root, exported, tmp_path, n_exports):
    context = multiprocessing.get_context("fork")
    target, n = tmp_path / "many", n_exports // 4
    exporters = [context.Process(target=export_often, args=(root, target, n)) for _ in range(4)]
    for exporter in exporters:
        exporter.start()
    for exporter in exporters:
        exporter.join()
    assert [exporter.exitcode for exporter in exporters] == [0] * 4
    for i in range(n):
        assert names_of(target / str(i) / exported.parent.name) == [exported.name]
