"""JSON lists, dicts by id, JSON lines and XML records as texts."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter

import pytest

from datasets_vision.formats import detect, json_files
from datasets_vision.formats.contract import shortened
from datasets_vision.source import Source, read
from tests.datasets_vision.made import lines, only, only_set_aside, photo, reading, real_set
from vlm_ft.errors import DataError

ROWS = [{"text": "grüß", "label": "Yes"}, {"text": "b", "label": "No"}]
AS_LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a><q>&y;</q><r>1</r></a>'

WAYS = {
    "list.json": json.dumps(ROWS),
    "tidy.json": json.dumps(ROWS, indent=2),
    "by_id.json": json.dumps({"11": ROWS[0], "12": ROWS[1]}),
    "wrapped.json": json.dumps({"version": 1, "made": ["a", "b"], "data": ROWS}, indent=1),
    "lines.jsonl": AS_LINES,
    "lines.ndjson": AS_LINES.replace("\n", "\n\n"),
    "lines_called.json": AS_LINES,
    "items.xml": "<set>"
    + "".join(f"<i><text>{r['text']}</text><label>{r['label']}</label></i>" for r in ROWS)
    + "</set>",
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", WAYS)
def test_the_same_records_are_read_however_they_are_written(tmp_path, name, mark, end):
    found = reading(tmp_path / name, mark + WAYS[name].replace("\n", end))
    assert detect(tmp_path) == "records"
    assert [example.text for example in found.examples] == ["grüß", "b"]
    assert [dict(example.label.columns) for example in found.examples] == [{"label": "Yes"}, {"label": "No"}]
    assert found.set_aside == ()


def test_ids_and_places_are_by_key_line_or_position(tmp_path):
    def ids(name: str, content: str) -> list[tuple[str, str]]:
        found = reading(tmp_path / name, content)
        return [(example.id, example.source.removeprefix(f"{tmp_path}/")) for example in found.examples]

    assert ids("a_train.jsonl", AS_LINES) == [("a_train:1", "a_train.jsonl:1"), ("a_train:2", "a_train.jsonl:2")]
    tidy = json.dumps({"p7": ROWS[0], "p8": ROWS[1]}, indent=1)
    assert ids("b.json", tidy) == [("b:p7", "b.json:2"), ("b:p8", "b.json:6")]
    assert ids("c.json", json.dumps(ROWS)) == [("c:1", "c.json:1"), ("c:2", "c.json:1")]
    assert [example.role for example in read(Source(path=tmp_path)).examples] == ["train"] * 2 + [None] * 4


def test_nested_values_are_columns_by_dotted_names(tmp_path):
    record = {
        "q": "Why?",
        "meta": {"year": 1999, "ok": True, "note": None, "none": []},
        "target": ["first", "second"],
        "authors": [{"name": "A"}, {"name": "B", "at": {"city": "C"}}],
    }
    options = {"text": "{q} ({meta.year})", "columns": {"summary": "target.0", "names": "authors.name"}}
    example = only(lines(tmp_path / "a.jsonl", record, **options))
    assert example.text == "Why? (1999)"
    assert example.label.columns == {"summary": "first", "names": "A\nB"}
    everything = only(lines(tmp_path / "a.jsonl", record, text="{q}")).label.columns
    assert everything == {
        "meta.year": "1999",
        "meta.ok": "true",
        "target": "first\nsecond",
        "authors.name": "A\nB",
        "authors.at.city": "C",
    }


def test_a_column_that_some_records_lack_is_empty_there(tmp_path):
    rows = [{"text": "a", "title": "T", "label": "x"}, {"text": "b", "label": "y"}, {"text": "c", "title": None}]
    found = lines(tmp_path / "a.jsonl", *rows, text="{title} {text}")
    assert [example.text for example in found.examples] == ["T a", "b", "c"]
    assert [dict(example.label.columns) for example in found.examples] == [{"label": "x"}, {"label": "y"}, {}]


def test_values_and_rename_see_plain_texts(tmp_path):
    rows = [{"text": "a", "ok": True, "kind": "Pump/Gear"}, {"text": "b", "ok": False, "kind": "Valve"}]
    found = lines(
        tmp_path / "a.jsonl",
        *rows,
        columns={"passed": "ok", "kind": "kind"},
        values={"passed": {"true": True, "false": False}},
        rename={"Pump*": "pump"},
    )
    assert [dict(example.label.columns) for example in found.examples] == [
        {"passed": True, "kind": "pump"},
        {"passed": False, "kind": "Valve"},
    ]
    assert found.set_aside == ()


def test_group_by_ties_the_records_of_one_value(tmp_path):
    rows = [{"text": "a", "case": 7}, {"text": "b", "case": 8}, {"text": "c", "case": 7}]
    found = lines(tmp_path / "a.jsonl", *rows, group_by="case")
    assert [example.group for example in found.examples] == ["7", "8", "7"]
    with pytest.raises(DataError, match="no column 'cas'; did you mean 'case'"):
        lines(tmp_path / "a.jsonl", *rows, group_by="cas")


def test_a_photo_path_is_relative_to_the_file(tmp_path):
    photo(tmp_path / "images/a.png")
    photo(tmp_path / "b.png")
    rows = [{"photo": "A.PNG", "label": "x"}, {"photo": ".\\b.png", "label": "y"}, {"photo": "c.png", "label": "z"}]
    found = lines(tmp_path / "a.jsonl", *rows, image="photo")
    assert [example.images for example in found.examples] == [(tmp_path / "images/a.png",), (tmp_path / "b.png",)]
    assert [dict(example.label.columns) for example in found.examples] == [{"label": "x"}, {"label": "y"}]
    assert found.set_aside[0].place == f"{tmp_path}/a.jsonl:3"
    assert "image 'c.png' is missing" in found.set_aside[0].reason


def test_a_missing_text_lists_the_columns(tmp_path):
    with pytest.raises(
        DataError, match=r"no column 'text'; give text, a template over its columns: q, meta\.year"
    ) as it:
        lines(tmp_path / "a.jsonl", {"q": "a", "meta": {"year": 1}})
    assert str(it.value).startswith(f"{tmp_path}/a.jsonl: ")
    with pytest.raises(DataError, match=r"no column 'target.3'; did you mean 'target'"):
        lines(tmp_path / "a.jsonl", {"text": "a", "target": ["b", "c"]}, columns={"summary": "target.3"})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"text": "b", }', "not JSON: "),
        (b'{"text": "b"', "not JSON: "),
        (b'{"text": "b"} {"text": "c"}', "not JSON: more text after the end"),
        (b'{"text": "\xfc"}', "not UTF-8: byte 0xfc"),
        (b'{"text": "b", "text": "c"}', "key 'text' appears twice"),
        (b'["b"]', "a record must be an object with keys"),
        (b"{}", "a record must be an object with keys"),
        (b'{"text": " "}', "no text in '{text}'"),
        (b'{"text": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"text": 1' + b"0" * 5000 + b"}", "Exceeds the limit"),
        (b'{"text": -Infinity}', "number -Infinity is infinite"),
        (b'{"text": 1e999}', "number 1e999 is infinite"),
    ],
)
def test_a_bad_line_is_set_aside_by_file_and_line(tmp_path, line, says):
    found = reading(tmp_path / "a.jsonl", b'{"text": "a"}\r\n' + line + b'\r\n{"text": "c"}\r\n')
    assert [example.text for example in found.examples] == ["a", "c"]
    assert says in only_set_aside(found, f"{tmp_path}/a.jsonl:2")


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        ('[\n{"text": "a"},\n{"text": "b",}\n]', ":3", "not JSON from here on"),
        ('[\n{"text": "a"}\n{"text": "b"}\n]', ":3", "',' is missing"),
        ('[{"text": "a"}', ":1", "',' is missing"),
        ('[{"text": "a"}]\n]', ":2", "more text after the end"),
        ('{"p1": {"text": "a"},\n"p2": {"text": ', ":2", "not JSON from here on"),
        ('[{"text": "b", "text": "c"},\n{"text": "a"}]', ":1", "key 'text' appears twice"),
        ('[{"text": "a"},\n{"text": Infinity}]', ":2", "number Infinity is infinite"),
        ('[{"text": "a"},\n"b"]', ":2", "a record must be an object with keys"),
    ],
)
def test_broken_json_is_reported_by_line_and_the_other_entries_are_used(tmp_path, content, place, says):
    found = reading(tmp_path / "a.json", content)
    assert [example.text for example in found.examples] == ["a"]
    assert says in only_set_aside(found, f"{tmp_path}/a.json{place}")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.xml"])
@pytest.mark.parametrize(
    ("content", "says"), [(b"", "empty file|not well-formed"), (b"\xff\xfe{\x00}\x00", "UTF-16|not well-formed")]
)
def test_a_bad_file_is_reported(tmp_path, name, content, says):
    with pytest.raises(DataError, match=says) as caught:
        reading(tmp_path / name, content, format="records")
    assert str(caught.value).startswith(f"{tmp_path}/{name}")


def test_a_duplicate_key_is_set_aside_by_both_places(tmp_path):
    found = reading(tmp_path / "a.json", '{"p1": {"text": "a"},\n"p1": {"text": "b"}}')
    assert [example.text for example in found.examples] == ["a"]
    assert found.set_aside[0].reason == f"id 'a:p1' is already used by {tmp_path}/a.json:1"


def test_an_overlong_line_is_set_aside_without_being_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_LINE", 1 << 16)
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n')
        file.truncate(1 << 27)  # a sparse line of 128 MiB, which takes no space on disk
        file.seek(0, 2)
        file.write(b'\n{"text": "b"}\n')
    tracemalloc.start()
    try:
        found = read(Source(path=path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [example.text for example in found.examples] == ["a", "b"]
    assert [item.place for item in found.set_aside] == [f"{path}:2"]
    assert peak < 8 << 20  # a few pieces of 1 MiB, however long the line is


def test_a_json_file_too_large_to_parse_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_FILE", 10)
    with pytest.raises(DataError, match="write it as JSON lines"):
        reading(tmp_path / "a.json", json.dumps(ROWS))


def test_xml_items_have_the_columns_around_them(tmp_path):
    document = """<doc id="d1"><focus>Gout</focus><names><n>a</n><n>b</n></names>
      <pairs><pair pid="1"><q type="x">What
         is it?</q><a>A <b>swollen</b> toe.</a></pair><!-- no --><pair pid="2"><q type="y">Who?</q><a/></pair>
      </pairs></doc>"""
    found = reading(tmp_path / "d.xml", document, text="{doc.focus}: {q}", group_by="doc.focus")
    assert [example.text for example in found.examples] == ["Gout: What\nis it?", "Gout: Who?"]
    assert [example.group for example in found.examples] == ["Gout", "Gout"]
    assert [example.source for example in found.examples] == [f"{tmp_path}/d.xml:2", f"{tmp_path}/d.xml:3"]
    assert found.examples[0].label.columns == {
        "pid": "1",
        "q.type": "x",
        "a": "A swollen toe.",
        "doc.id": "d1",
        "doc.focus": "Gout",
        "doc.names.n": "a\nb",
    }
    assert "a" not in found.examples[1].label.columns
    outer = only(reading(tmp_path / "d.xml", document, text="{focus} {names.n.1}", record="doc"))
    assert outer.text == "Gout b"


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        (BOMB, "", "declares XML entities, which are not allowed"),
        ("<a>\n<q>1</q>\n<r>2</a>", ":3", "not well-formed XML"),
        ("<other/>", "", "contains no <item>"),
    ],
)
def test_a_bad_xml_file_is_set_aside_among_others(tmp_path, content, place, says):
    (tmp_path / "good.xml").write_text("<a><item><text>x</text><l>1</l></item></a>")
    (tmp_path / "bad.xml").write_text(content)
    found = read(Source(path=tmp_path, record="item"))
    assert len(found.examples) == 1
    assert found.set_aside[0].place == f"{tmp_path}/bad.xml{place}"
    assert says in found.set_aside[0].reason


def test_xml_without_nested_elements_says_why_it_has_no_items(tmp_path):
    with pytest.raises(DataError, match="no element contains others, so none is an item; set record"):
        reading(tmp_path / "a.xml", "<a>text</a>")


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("One. Two.", 9, "One. Two."),
        ("One. Two. Three.", 12, "One. Two."),
        ("Do this:\n1. Open it\n2. Close it", 22, "Do this:\n1. Open it"),
        ("no end in sight at all", 10, "no end in"),
        ("undividable", 5, "undiv"),
    ],
)
def test_a_long_answer_keeps_its_first_sentences(text, limit, cut):
    assert shortened(text, limit) == cut
    assert len(cut) <= limit


def test_shorten_reaches_the_field(tmp_path):
    rows = {"text": "a", "long": "One. Two. Three."}
    example = only(lines(tmp_path / "a.jsonl", rows, columns={"reply": "long"}, shorten={"reply": 10}))
    assert example.label.columns == {"reply": "One. Two."}


def test_pubmedqa_has_its_stated_counts():
    found = real_set("medical_conditions/pubmedqa_json", text="{QUESTION}\n{CONTEXTS}", columns={"d": "final_decision"})
    assert found.set_aside == ()
    assert Counter(example.role for example in found.examples) == {"train": 420, "val": 80}
    assert Counter(example.label.columns["d"] for example in found.examples) == {"yes": 276, "no": 169, "maybe": 55}


def test_medquad_has_its_stated_counts():
    found = real_set("medical_conditions/medquad_xml", text="{Question}", group_by="Document.Focus")
    assert len(found.examples) == 2133
    assert len({example.source.rpartition(":")[0] for example in found.examples}) == 567
    assert len(found.set_aside) == 4
    assert all("0000199.xml" in item.place for item in found.set_aside)  # a document that names no disease
    assert all(example.group == example.label.columns["Document.Focus"] for example in found.examples)
    assert all(example.label.columns["Question.qtype"] for example in found.examples)


def test_scitldr_has_its_stated_counts():
    found = real_set("scientific_research/scitldr_jsonl", text="{title} {source}", columns={"summary": "target.0"})
    assert found.set_aside == ()
    assert Counter(example.role for example in found.examples) == {"train": 1400, "val": 200}
    assert all("\n" not in example.label.columns["summary"] for example in found.examples)
