import numpy as np
import pytest

from probe.core.errors import InputError
from probe.datasets.shared.partitions import LEFT_OUT, count_duplicates
from probe.datasets.ts import load

HEADER = """# a comment
@problemName Waves
@timeStamps false
@univariate false
@classLabel true up down
@data
"""
TRAIN = "1,2,3:4,5,6:up\n3,2:1,0:down\n\n1,1,1:0,0,0:up\n"
TEST = "1,2,3:4,5,6:down\n2,2,2:1,1,2:up\n"


def write(folder, train=HEADER + TRAIN, test=HEADER + TEST, name="Waves"):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}_TRAIN.ts").write_text(train)
    if test:
        (folder / f"{name}_TEST.ts").write_text(test)
    return str(folder)


def numbers(text):
    return HEADER.replace("@classLabel true up down", "@targetLabel true") + text


def contract_case(root):
    return {"path": write(root)}


def test_channels_are_columns_and_lengths_may_differ(tmp_path):
    data = load(write(tmp_path / "a"))
    train = data.partitions["train"]
    assert (data.name, data.class_names, data.rows) == ("Waves", ("up", "down"), "series")
    assert list(data.partitions) == ["train", "test"]
    assert train.lengths.tolist() == [3, 2, 3]
    assert train.labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(train[1], [[3, 1], [2, 0]])
    np.testing.assert_array_equal(train[-1], [[1, 0], [1, 0], [1, 0]])


def test_the_first_file_brings_its_test_rows_and_another_one_none(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "a" / "whole.ts").write_text(HEADER + TRAIN)
    by_file = load(str(tmp_path / "a" / "Waves_TRAIN.ts"))
    assert by_file.fingerprint == load(str(tmp_path / "a")).fingerprint
    assert list(load(str(tmp_path / "a" / "whole.ts")).partitions) == ["train"]
    assert load(str(tmp_path / "a")).notes[LEFT_OUT] == ["1 file of other sets (whole.ts)"]


def test_of_several_sets_the_one_that_is_called_as_the_folder_counts(tmp_path):
    write(tmp_path / "Waves")
    write(tmp_path / "Waves", name="Waves_eq")
    assert load(str(tmp_path / "Waves")).name == "Waves"
    (tmp_path / "Waves").rename(tmp_path / "other")
    with pytest.raises(InputError, match=r"holds 2 sets \(Waves, Waves_eq\), .* set dataset.path to the first file"):
        load(str(tmp_path / "other"))


def test_content_names_a_set_and_its_files_do_not(tmp_path):
    one, other = load(write(tmp_path / "a")), load(write(tmp_path / "b", name="Elsewhere"))
    assert one.fingerprint == other.fingerprint
    changed = load(write(tmp_path / "c", train=HEADER + TRAIN.replace("3,2:1,0", "3,2:1,9")))
    assert changed.fingerprint != one.fingerprint


def test_a_test_row_that_trains_too_is_counted(tmp_path):
    assert count_duplicates(load(write(tmp_path / "a"))) == {"test": 1}
    longer = HEADER + TEST.replace("1,2,3:4,5,6", "1,2,3,3:4,5,6,6")
    assert count_duplicates(load(write(tmp_path / "b", test=longer))) == {"test": 0}


def test_numbers_are_declared_by_the_header(tmp_path):
    data = load(write(tmp_path / "a", numbers("1,2:0.5\n3,4:-1e3\n"), numbers("1,2:7\n")), units="m")
    assert (data.target.name, data.target.units, data.class_names) == ("number", ("m",), ("target",))
    assert data.partitions["train"].labels.tolist() == [0.5, -1000]
    with pytest.raises(InputError, match=r"the labels of .* are numbers, dataset.ignore_label says something of clas"):
        load(str(tmp_path / "a"), ignore_label="up")
    with pytest.raises(InputError, match=r"the labels of .* are classes, dataset.units says something of numbers"):
        load(write(tmp_path / "b"), units="m")
    with pytest.raises(InputError, match=r"one of train and test of .* has classes and the other numbers"):
        load(write(tmp_path / "c", test=numbers("1:2\n")))


def test_a_missing_number_is_refused_or_its_row_dropped(tmp_path):
    path = write(tmp_path / "a", numbers("1,2:0.5\n3,4:?\n1,1:3\n"), "")
    with pytest.raises(InputError, match=r"row 1 of train of .* has no value in column target"):
        load(path)
    dropped = load(path, missing="drop")
    assert dropped.partitions["train"].labels.tolist() == [0.5, 3]
    with pytest.raises(InputError, match=r"row 1 of train of .* has 'tall' in column target, expected a finite number"):
        load(write(tmp_path / "b", numbers("1:1\n2:tall\n"), ""))


def test_missing_values_are_refused_filled_or_the_end(tmp_path):
    path = write(tmp_path / "a", HEADER + "1,?,3,?:4,5,?,NaN:up\n?,2:1,0:down\n")
    with pytest.raises(
        InputError, match=r"row 0 of train of Waves has no value in step 1 of channel 0, .* dataset.gap"
    ):
        load(path)
    line = load(path, gaps="interpolate").partitions["train"]
    assert line.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(line[0], [[1, 4], [2, 5], [3, 5]])
    np.testing.assert_array_equal(line[1], [[2, 1], [2, 0]])
    np.testing.assert_array_equal(load(path, gaps="zero").partitions["train"][0], [[1, 4], [0, 5], [3, 0]])
    with pytest.raises(InputError, match="gaps is 'mean', expected one of refuse, interpolate, zero"):
        load(path, gaps="mean")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (HEADER + "1,2:a,3:up\n", r"step 0 of channel 1 of line 7 of .* is 'a', expected a number, or \?"),
        (HEADER + "1,2:inf,3:up\n", r"row 0 of train of Waves has inf in step 0 of channel 1, expected a finite"),
        (HEADER + "1,2:3:up\n", r"line 7 of .* has channels of 2, 1 steps, expected as many in each: write \?"),
        (HEADER + "1,2,3\n", r"line 7 of .* has no colon before a label"),
        (HEADER + "1:2:up\n1:down\n", r"row 1 of train of Waves has 1 channels where the first has 2"),
        (HEADER + "?:?:up\n1:2:down\n", r"row 0 of train of Waves has no step with a value"),
        (HEADER + "1:up\n2:sideways\n", r"1 row with labels in .* that are none of the 2 classes .*sideways"),
        (HEADER.replace("@timeStamps false", "@timeStamps true"), r"has a time with every value"),
        (HEADER.replace("@classLabel true up down", ""), r"has no labels, expected @classLabel true <names> or"),
        (HEADER.replace("@data", "1,2:up"), r"line 6 of .* is '1,2:up', expected @data before the series"),
        ("@problemName x\n", r"has no line @data, expected a \.ts file"),
    ],
)
def test_files_that_say_something_else_are_refused_by_line(tmp_path, text, error):
    with pytest.raises(InputError, match=error):
        load(write(tmp_path / "a", text, ""))


def test_a_path_without_such_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none is given: set dataset\.path=<file\.ts or folder>"):
        load()
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "x_TEST.ts"):
        with pytest.raises(InputError, match=r"is no \.ts file and no folder with <name>_TRAIN\.ts"):
            load(str(path))


def test_latin_1_is_read_where_it_is_said(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "whole.ts").write_bytes(("# Müller\n" + HEADER + TRAIN).encode("latin-1"))
    with pytest.raises(InputError, match=r"set dataset\.encoding, such as latin-1"):
        load(str(folder / "whole.ts"))
    assert len(load(str(folder / "whole.ts"), encoding="latin-1").partitions["train"]) == 3
