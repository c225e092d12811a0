"""Numbers of things in sentences."""

from probe.core.words import counted, leaked


def test_one_is_no_plural():
    assert [counted(n, "row") for n in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]


def test_copies_agree_with_their_number():
    assert leaked(1, "data") == "1 test row of data is a copy of training rows"
    assert leaked(33, "data") == "33 test rows of data are copies of training rows"
