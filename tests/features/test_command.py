"""The command `probe cache`."""

import os
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest
from extraction_toys import Unguarded

from probe.core.errors import InputError, StoreError
from probe.features import upkeep
from probe.features.command import main, n_bytes, span


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


def fill(root, backbone, dataset, kinds=("pooled",), partition="train"):
    return Unguarded(root).get(backbone, dataset, partition, list(kinds), batch_size=8, progress=False)


@pytest.fixture
def three(root, make_backbone, make_dataset):
    """Three entries, used 40, 20 and 0 days ago."""
    names = []
    for i, days in enumerate((40, 20, 0)):
        backbone = make_backbone(seed=i, width=64 * (i + 1))
        backbone.name = f"timm/net{i}"
        before = {r.entry for r in upkeep.records(root)}
        fill(root, backbone, make_dataset())
        (name,) = {r.entry for r in upkeep.records(root)} - before
        moment = time.time() - 86400 * days
        os.utime(root / "features" / name / "used", (moment, moment))
        names.append(name)
    return names


def test_ls_says_what_size_when_and_by_whom(root, three, capsys):
    assert main(["--cache", str(root), "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [name[:12] for name in reversed(three)]
    assert "timm/net0  toys/train  100 rows  pooled" in lines[2]
    assert "used 40 d ago by " in lines[2]
    assert "@" in lines[2]
    assert "kB" in lines[2]


def test_ls_takes_patterns(root, three, capsys):
    main(["--cache", str(root), "ls", "timm/net[01]"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(InputError, match="nothing in the cache matches 'resnet': see `probe cache ls`"):
        main(["--cache", str(root), "ls", "resnet"])


def test_an_empty_cache_is_no_error(root, capsys):
    for word in ("ls", "du", "verify"):
        assert main(["--cache", str(root), word]) == 0
    assert "holds no features" in capsys.readouterr().out


def test_du_adds_up(root, three, capsys):
    main(["--cache", str(root), "du"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith(str(root))
    assert sum(r.bytes for r in upkeep.records(root)) >= 100 * (64 + 128 + 192) * 4


def test_nothing_and_a_file_in_the_place_of_a_cache_are_not_taken_for_whole_ones(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match="file is a file, and the cache is to stand there: set --cache=<folder> or PROBE_"
    ):
        main(["--cache", str(tmp_path / "file"), "verify"])
    with pytest.raises(StoreError, match="file is a file, and the cache is to stand there"):
        main([f"--cache={tmp_path / 'file' / 'below'}", "verify"])
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="link is a symbolic link to nothing, and the cache is to stand there"):
        main(["--cache", str(tmp_path / "link"), "verify"])
    assert main(["--cache", str(tmp_path / "nowhere"), "verify"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'nowhere'} holds no features\n"


def test_verify_passes_what_is_whole(root, three, capsys):
    assert main(["--cache", str(root), "verify"]) == 0
    assert "everything matches its checksums" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["tokens", "words"])
@pytest.mark.parametrize(("row", "rows"), [(0, "0 to 7"), (50, "48 to 55"), (99, "96 to 99")])
def test_verify_names_entry_kind_and_rows_of_one_flipped_bit(root, backbone, make_dataset, capsys, row, rows, kind):
    fill(root, backbone, make_dataset(), ["pooled", kind])
    (path,) = root.rglob(f"{kind}.npy")
    first = 3 * row if kind == "tokens" else np.load(path.with_name("words.offsets.npy"))[row]
    with open(path, "r+b") as file:
        file.seek(4096 + first * 64 * 2 + 17)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 16]))
    assert main(["--cache", str(root), "verify"]) == 1
    error = capsys.readouterr().err
    assert f"{kind} rows {rows} in {path.parent} do not match" in error
    assert len(error.splitlines()) == 1


def test_verify_goes_on_after_the_first_damage(root, three, capsys):
    for name, file in zip(three, ("labels.npy", "manifest.json", "pooled.npy"), strict=True):
        (path,) = (root / "features" / name).glob(f"*/{file}")
        path.write_bytes(b"")
    assert main(["--cache", str(root), "verify"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_prune_removes_what_was_not_used_for_long(root, three):
    gone = upkeep.prune(root, older_than=timedelta(days=30))
    assert [r.entry for r in gone] == three[:1]
    assert sorted(p.name for p in (root / "features").iterdir()) == sorted(three[1:])


def test_prune_removes_the_longest_unused_until_it_fits(root, three):
    sizes = {r.entry: r.bytes for r in upkeep.records(root)}
    upkeep.prune(root, max_size=sizes[three[2]] + sizes[three[1]])
    assert {r.entry for r in upkeep.records(root)} == set(three[1:])
    upkeep.prune(root, max_size=0)
    assert upkeep.records(root) == []


def test_prune_keeps_what_is_to_be_kept(root, three, capsys):
    main(["--cache", str(root), "prune", "--max-size", "0", "--keep", "timm/net0", three[1][:6]])
    assert {r.entry for r in upkeep.records(root)} == set(three[:2])
    assert "removed" in capsys.readouterr().out


def test_a_dry_run_removes_nothing(root, three, capsys):
    main(["--cache", str(root), "prune", "--older-than", "1d", "--dry-run"])
    assert len(upkeep.records(root)) == 3
    assert "would remove" in capsys.readouterr().out


def test_prune_wants_to_know_what_may_go(root):
    with pytest.raises(InputError, match="nothing says what may go: give --older-than or --max-size"):
        main(["--cache", str(root), "prune"])


def test_reading_counts_as_use(root, three, make_backbone, make_dataset):
    fill(root, make_backbone(seed=0, width=64), make_dataset())
    assert upkeep.prune(root, older_than=timedelta(days=30)) == []


def test_features_that_were_pruned_are_extracted_again(root, backbone, make_dataset):
    first = fill(root, backbone, make_dataset())
    upkeep.prune(root, max_size=0)
    again = fill(root, backbone, make_dataset())
    assert again.seconds > 0
    np.testing.assert_array_equal(first.arrays["pooled"], again.arrays["pooled"])


def test_interrupted_extractions_are_listed_and_pruned(root, backbone, make_dataset, capsys):
    with pytest.raises(InputError, match="row 60"):
        fill(root, backbone, make_dataset(broken=(60,)))
    main(["--cache", str(root), "ls"])
    assert capsys.readouterr().out.rstrip().endswith("  toy  toys/train  100 rows  pooled  interrupted")
    upkeep.prune(root, max_size=0)
    assert list((root / "features").iterdir()) == []


def test_what_is_being_extracted_is_never_pruned(root, make_backbone, make_dataset):
    backbone = make_backbone()
    plain = backbone.extract

    def pruned_meanwhile(batch, kinds):
        (record,) = upkeep.records(root)
        assert record.state == "extracting"
        assert upkeep.prune(root, max_size=0, older_than=timedelta(0)) == []
        return plain(batch, kinds)

    backbone.extract = pruned_meanwhile
    assert fill(root, backbone, make_dataset(20)).valid.all()


def test_an_exported_entry_can_be_imported_elsewhere(root, tmp_path, make_backbone, make_dataset, capsys):
    first = fill(root, make_backbone(), make_dataset())
    fill(root, make_backbone(), make_dataset(), ["tokens"])
    (name,) = {r.entry for r in upkeep.records(root)}
    main(["--cache", str(root), "export", "toys", str(tmp_path / "usb stick")])
    main(["--cache", str(tmp_path / "other"), "import", str(tmp_path / "usb stick" / name)])
    assert capsys.readouterr().out.splitlines()[-1].endswith(name)
    backbone = make_backbone()
    there = fill(tmp_path / "other", backbone, make_dataset(), ["pooled", "tokens"])
    assert backbone.rows_extracted == 0
    assert there.seconds == 0.0
    np.testing.assert_array_equal(there.arrays["pooled"], first.arrays["pooled"])


def test_importing_twice_changes_nothing(root, tmp_path, backbone, make_dataset):
    fill(root, backbone, make_dataset())
    exported = upkeep.export(root, "toy", tmp_path / "out")
    upkeep.import_entry(root, exported)
    assert len(upkeep.records(root)) == 1


def test_damaged_entries_are_neither_exported_nor_imported(root, tmp_path, backbone, make_dataset):
    fill(root, backbone, make_dataset())
    exported = upkeep.export(root, "toy", tmp_path / "out")
    for folder in (exported, root):
        (path,) = folder.rglob("pooled.npy")
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(StoreError, match=r"pooled rows 96 to 99 in .* do not match their checksum: it is not copied"):
        upkeep.import_entry(tmp_path / "other", exported)
    with pytest.raises(StoreError, match="it is not copied"):
        upkeep.export(root, "toy", tmp_path / "again")


def test_what_is_no_exported_entry_is_refused(root, tmp_path):
    with pytest.raises(InputError, match="is no exported entry and holds none: give the folder that `probe cache"):
        upkeep.import_entry(root, tmp_path)


def test_export_wants_one_entry(root, three, tmp_path):
    with pytest.raises(InputError, match=r"'timm/\*' means 3 finished entries .*, expected one: give the start"):
        upkeep.export(root, "timm/*", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("500MB", 5e8), ("1.5 GiB", 1.5 * 2**30), ("2tb", 2e12), ("200G", 2e11)]
)
def test_sizes(text, value):
    assert n_bytes(text) == value


def test_times():
    assert span("12h") == timedelta(hours=12)
    assert span("8w") == timedelta(weeks=8)


@pytest.mark.parametrize("argument", ["--older-than=soon", "--max-size=many"])
def test_wrong_sizes_and_times_say_how_to_write_them(root, argument, capsys):
    with pytest.raises(SystemExit):
        main(["--cache", str(root), "prune", argument])
    assert "write it as" in capsys.readouterr().err


def test_the_command_needs_no_torch():
    code = "import sys, probe.features.command; print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
