import re
import warnings

import pytest

from lit_tf.errors import DataError
from lit_tf.texts.files import read_list


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\xef\xbb\xbfcat\r\n\r\n red  cat \r\n", ["cat", "red  cat"]),
        (b"1 person\n2 people\n", ["1 person", "2 people"]),
        (b"3.5 mm jack\n24\n", ["3.5 mm jack", "24"]),
        (b'"cat"\n"red cat"\n', ['"cat"', '"red cat"']),
        (b"0\tcat\n1\tdog\n", "columns, separated by tabs"),
        (b"1. cat\n2. dog\n", "numbers or ids before the class names: '1. cat'"),
        (b"(0) cat\n(1) dog\n", "numbers or ids"),
        (b"0: cat\n1: dog\n", "numbers or ids"),
        (b"n01440764 tench\nn01443537 goldfish\n", "numbers or ids"),
        (b'["cat", "dog"]', "JSON"),
        (b'{\n"0": "cat",\n"1": "dog"\n}\n', "JSON"),
        ("cat\ndog".encode("utf-16-le"), "NUL bytes"),
        ("cat\ndog".encode("utf-16"), "UTF-8"),
    ],
)
def test_a_list_file_holds_one_name_per_line_and_nothing_else(tmp_path, data, found):
    path = tmp_path / "names.txt"
    path.write_bytes(data)
    if isinstance(found, list):
        assert read_list(path, "class name") == found
    else:
        with pytest.raises(DataError, match=f"names.txt.*{re.escape(found)}"):
            read_list(path, "class name")


@pytest.mark.parametrize(
    "lines",
    [
        ["0 cat", "1 dog"],
        ["0,cat", "1,dog"],
        ["001.cat", "002.dog", "003.cow"],
        ["1;a", "2;b", "3;c"],
    ],
)
def test_lines_that_seem_numbered_are_taken_with_a_warning(tmp_path, lines):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines))
    with pytest.warns(UserWarning, match=r"names.txt seems to number its lines"):
        assert read_list(path, "class name") == lines


@pytest.mark.parametrize(
    "lines", [["1 cat", "2 cats"], ["0", "1", "2"], ["7 up", "8 up", "9 up"], ["0 cat", "dog"]]
)
def test_names_that_begin_with_numbers_are_no_cause_for_a_warning(tmp_path, lines):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert read_list(path, "class name") == lines
