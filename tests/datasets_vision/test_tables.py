"""CSV and TSV tables as programs and people write them."""

from __future__ import annotations

import unicodedata

import pytest

from datasets_vision.formats.tables import MAX_LINE
from datasets_vision.source import Reading, Source, read
from tests.datasets_vision.made import only_set_aside, reading
from vlm_ft.errors import DataError


def texts(found: Reading) -> list[str]:
    return [example.text for example in found.examples]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".TSV", "\t")])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path, end, mark, suffix, delimiter):
    rows = [f"text{delimiter}label", f"grüß{delimiter}Yes", "", f"b{delimiter}No"]
    found = reading(tmp_path / f"train{suffix}", mark + end.join(rows) + end)
    assert texts(found) == ["grüß", "b"]
    assert [example.label.columns for example in found.examples] == [{"label": "Yes"}, {"label": "No"}]
    assert [example.id for example in found.examples] == ["train:2", "train:4"]
    assert [example.role for example in found.examples] == ["train", "train"]
    assert found.set_aside == ()


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_may_have_the_delimiter_of_a_spreadsheet(tmp_path, mark):
    found = reading(tmp_path / "a.csv", f'text{mark}label\n"a, b{mark} c"{mark}x\nd,e{mark}y\n')
    assert texts(found) == [f"a, b{mark} c", "d,e"]
    assert [example.label.columns["label"] for example in found.examples] == ["x", "y"]


def test_outer_blanks_and_the_encoding_of_accents_do_not_count(tmp_path):
    content = "text, label ,Größe des Teils\nx, Ölfleck , \n"
    found = reading(tmp_path / "a.csv", content + unicodedata.normalize("NFD", "y,Ölfleck,3\n"))
    assert [example.label.columns for example in found.examples] == [
        {"label": "Ölfleck"},
        {"label": "Ölfleck", "Größe des Teils": "3"},
    ]
    found = reading(tmp_path / "a.csv", unicodedata.normalize("NFD", content), columns={"size": "Größe des Teils"})
    assert len(found.examples) == 1


@pytest.mark.parametrize("template", ["label", "{label", "", "{}"])
def test_a_template_that_shows_no_column_is_refused(tmp_path, template):
    (tmp_path / "a.csv").write_text("text,label\na,x\n")
    with pytest.raises(DataError, match=r"shows no column; put one in braces: \{text\}"):
        read(Source(path=tmp_path / "a.csv", text=template))


def test_quotes_in_a_tsv_are_text_unless_it_is_quoted(tmp_path):
    plain = reading(tmp_path / "plain.tsv", 'text\tlabel\n"twelve" inch\tA\n5" pipe\tB\n"open\tC\n')
    assert texts(plain) == ['"twelve" inch', '5" pipe', '"open']
    quoted = reading(tmp_path / "quoted.tsv", 'text\tlabel\n"the ""Term"""\tA\n"two\nlines"\tB\n')
    assert texts(quoted) == ['the "Term"', "two\nlines"]


def test_a_csv_cell_may_contain_commas_quotes_and_lines(tmp_path):
    found = reading(tmp_path / "a.csv", 'text,label\n"a, ""b""\nc",x\nd,y\n')
    assert texts(found) == ['a, "b"\nc', "d"]
    assert found.examples[1].source.endswith("a.csv:4")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,b,c", "expected 2 cells, found 3"),
        ("a", "expected 2 cells, found 1"),
        ("x" * MAX_LINE + ",A", "a line is longer than"),
        (" ,A", "no text in '{text}'"),
    ],
)
def test_a_bad_row_is_set_aside_by_file_and_line(tmp_path, row, says):
    found = reading(tmp_path / "a.csv", f"text,label\ngood,A\n{row}\ngood,B\n")
    assert texts(found) == ["good", "good"]
    assert says in only_set_aside(found, f"{tmp_path}/a.csv:3")


def test_a_quote_left_open_is_named_where_it_opens(tmp_path):
    (item,) = reading(tmp_path / "a.csv", 'text,label\ngood,A\n"open,B\nc,D\n').set_aside
    assert item.place.endswith("a.csv:3")
    assert "extends to line 4: is there an unclosed quote?" in item.reason


def test_a_cell_of_many_lines_and_too_long_is_set_aside(tmp_path):
    content = "text,label\ngood,A\n" + '"' + ("y" * 1000 + "\n") * 1100 + '",B\ngood,C\n'
    found = reading(tmp_path / "a.csv", content)
    assert texts(found) == ["good"]
    assert found.set_aside[0].place.endswith("a.csv:3")
    assert "field larger" in found.set_aside[0].reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty table"),
        (b"\xef\xbb\xbf\r\n", "empty table"),
        ("text,label\nGrüße,A\n".encode("latin-1"), "not UTF-8: byte 0xfc at offset 13"),
        ("text,label\nb,A\n".encode("utf-16"), "not UTF-8: byte 0xff at offset 0"),
        (b"text,text\na,b\n", "two columns named 'text'; rename one"),
        (b"text,,\na,b,c\n", "two columns named ''; name them, or remove empty ones"),
        (b'"text,label\na,b\n', "does it have an unclosed quote"),
        ("text,label\nb,A\n".encode("utf-16-le"), "the header is not plain text; save it as UTF-8"),
        (b"\ntext,label\na,b\n", "no header in the first line"),
        (b"txt,label\na,b\n", "no column 'text'; give text, a template over its columns: txt, label"),
        (b"text,label\n", "nothing to read"),
    ],
)
def test_a_bad_table_is_an_error_alone_and_set_aside_among_others(tmp_path, content, says):
    path = tmp_path / "set/bad.csv"
    with pytest.raises(DataError, match=says) as caught:
        reading(path, content)
    assert str(caught.value).startswith(str(path))
    (tmp_path / "set/good.csv").write_text("text,label\na,b\n")
    found = read(Source(path=tmp_path / "set"))
    assert len(found.examples) == 1
    assert [item.place for item in found.set_aside] == [str(path)] * (says != "nothing to read")


def test_the_template_shows_columns_and_the_folder(tmp_path):
    found = reading(
        tmp_path / "insurance/val.tsv",
        "text\tslot-labels\tanswer\nWe {insure}.\tO O\tYes\nNot us.\tO\tNo\nPerhaps.\tO\tMaybe\nSilence.\tO\t\n",
        text="[{folder}] {text} ({slot-labels})",
        columns={"present": "answer", "clause": "{folder}"},
        values={"present": {"Yes": True, "No": False}},
        rename={"insurance": "cover"},
    )
    assert texts(found)[0] == "[insurance] We {insure}. (O O)"
    assert [dict(example.label.columns) for example in found.examples] == [
        {"present": True, "clause": "cover"},
        {"present": False, "clause": "cover"},
        {"clause": "cover"},
    ]
    assert "values: no entry for 'Maybe' under present" in found.set_aside[0].reason


def test_a_tree_gives_ids_by_folder(tmp_path):
    for name in ("a/train.tsv", "a/val.tsv", "b/faa_train.tsv", "b/notes.tsv", "test_2/notes.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\tlabel\nx\ty\n")
    assert {example.id: example.role for example in read(Source(path=tmp_path)).examples} == {
        "a/train:2": "train",
        "a/val:2": "val",
        "b/faa_train:2": "train",
        "b/notes:2": None,
        "test_2/notes:2": "test",
    }


def test_a_shown_column_can_group_its_rows(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,A\nx,B\n")
    found = read(Source(path=tmp_path, group_by="text"))
    assert [example.group for example in found.examples] == ["x", "x"]
