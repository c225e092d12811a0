import pytest

from probe.core.errors import InputError
from probe.core.texts import one_spelling, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_with_or_without_a_mark_is_the_same(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("Löwe,\r\nHund\n".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "Löwe,\r\nHund\n"


def test_other_encodings_are_read_when_they_are_named_and_asked_for_otherwise(tmp_path):
    (tmp_path / "a.txt").write_bytes("Löwe".encode("latin-1"))
    assert read_text(tmp_path / "a.txt", "latin-1") == "Löwe"
    with pytest.raises(InputError, match=r"a\.txt is no text in UTF-8 .*expected UTF-8: save it anew"):
        read_text(tmp_path / "a.txt", remedy="save it anew")
    with pytest.raises(InputError, match="encoding latin-77 is unknown, expected one such as latin-1"):
        read_text(tmp_path / "a.txt", "latin-77")
    (tmp_path / "a.txt").write_bytes("no mark".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"a\.txt holds zero bytes"):
        read_text(tmp_path / "a.txt")


def test_accents_that_stand_apart_are_one_spelling():
    assert one_spelling("Lo\u0308we") == one_spelling("Löwe") == "Löwe"
