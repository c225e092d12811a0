"""Damage of what is stored is noticed when it is read."""

import json
import os
import shutil

import extraction_child as child
import numpy as np
import pytest
from extraction_parent import interrupt, pass_folder
from extraction_toys import Unguarded

import probe.features.entry
from probe.core.arrays import read_rows
from probe.core.base import digest
from probe.core.errors import StoreError
from probe.core.hashing import hash_bytes
from probe.features.layout import entry_digest, entry_identity

pytestmark = pytest.mark.usefixtures("server")


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
