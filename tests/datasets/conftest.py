import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Remembered digests go into the test's own folder."""
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
