import shutil
from types import SimpleNamespace

import pytest

from probe.core.errors import StoreError
from probe.features.extraction.plan import Block
from probe.features.extraction.segments import check_room
from probe.features.layout import array_file


@pytest.mark.parametrize(("assembled", "needed"), [((), 1600), (("a",), 800), (("a", "b"), 800)])
def test_what_a_killed_process_assembled_makes_room_for_what_takes_its_place(assembled, needed, tmp_path, monkeypatch):
    block = Block(0, hashes={}, shapes={"a": [4], "b": [4]}, invalid={}, seconds=0.0,
                  lengths={"a": [40, 60], "b": [50, 50]}, places={"a": ["x", 0], "b": ["y", 0]})  # fmt: skip
    work = SimpleNamespace(data=tmp_path, plan=SimpleNamespace(kinds={"a": "float16", "b": "float16"}))
    for kind in assembled:
        (tmp_path / array_file(kind)).write_bytes(bytes(800))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    check_room(work, ["a", "b"], {0: block})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(StoreError, match="MiB of features are to be put in the order"):
        check_room(work, ["a", "b"], {0: block})
