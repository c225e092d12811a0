import csv

import pytest

from probe.core.errors import InputError
from probe.datasets.shared.tables import read_table


@pytest.fixture
def read(tmp_path):
    def of(content, name="t.csv", **options):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(tmp_path / name, **options).columns

    return of


COLUMNS = {"file": ["a.png", "b.png"], "label": ["Löwe", "dog, wild"]}


@pytest.mark.parametrize(
    "content",
    [
        'file,label\na.png,Löwe\nb.png,"dog, wild"\n'.encode(),
        'file,label\r\na.png,Löwe\r\n\r\nb.png,"dog, wild"'.encode("utf-8-sig"),
        'file,label\na.png,Löwe\nb.png,"dog, wild"\n'.encode("utf-16"),
        b"file;label\na.png;L\xc3\xb6we\nb.png;dog, wild\n",
    ],
)
def test_tables_of_every_program_are_the_same_table(read, content):
    assert read(content) == COLUMNS


def test_an_encoding_is_named_and_not_guessed(read):
    content = "file\tlabel\na.png\tLöwe\nb.png\tdog, wild\n".encode("latin-1")
    assert read(content, "t.tsv", encoding="latin-1") == COLUMNS
    with pytest.raises(InputError, match=r"t\.tsv is no text in UTF-8 .*dataset\.encoding=latin-1"):
        read(content, "t.tsv")


def test_a_long_field_is_read_and_the_limit_of_others_stays(read):
    before = csv.field_size_limit()
    assert len(read(f"file,note\na.png,{'x' * 300_000}\n")["note"][0]) == 300_000
    assert csv.field_size_limit() == before


def test_an_index_without_a_name_is_a_column(read):
    assert read(",file\n0,a.png\n") == {"": ["0"], "file": ["a.png"]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("file,label\na.png\n", r"row 0 of .*t\.csv has fewer values than the header has columns \(1 and 2\)"),
        ("file,label\na,b\na,b,c\n", r"row 1 of .*t\.csv has more values than .*\(3 and 2\): quote"),
        ("file,label,file\na,b,c\n", r"t\.csv has 2 columns named 'file', expected one: rename the others"),
        ('file,label\na,"b\nc,d\ne,f\n', r"t\.csv cannot be read as a table \(.*\): mend its quotes"),
        ('file,label\na,"b\nc,d"e\n', r"t\.csv cannot be read as a table \(.*\): mend its quotes"),
        ("file,label\n\n", r"t\.csv has no rows"),
        ("", r"t\.csv has no rows"),
        (b"file,label\na,\0b\n", "holds zero bytes"),
    ],
)
def test_no_line_vanishes_and_no_column_hides_another(read, content, text):
    with pytest.raises(InputError, match=text):
        read(content)
