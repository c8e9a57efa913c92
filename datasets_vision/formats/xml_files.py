"""Read XML files as records: find the element that is one item, and the columns of each item and its surroundings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from datasets_vision.errors import DataError
from datasets_vision.formats.drafts import Draft
from datasets_vision.formats.flat import Leaf, Steps, flatten

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_FILE = 512 << 20
"""Bytes of an XML file, which is parsed from memory."""

LINE = "\0line"
"""The attribute of a parsed element for its line."""

_MAX_SAMPLED = 64  # files, evenly spaced, read to find the element of an item


def record_tag(files: list[Path]) -> str | None:
    """The most frequent element with child elements, the outer one of two that are equally frequent; None without one.

    Files that cannot be parsed do not count: `xml_drafts` raises their errors, by which they are set aside.
    """
    counts: Counter[str] = Counter()  # in order of first appearance, so the outer before the inner
    step = max(1, len(files) // _MAX_SAMPLED)
    for path in files[::step]:
        with suppress(DataError):
            counts.update(_tag(element) for element in parse_xml(path).iter() if len(element))
    return max(counts, key=lambda tag: counts[tag]) if counts else None


def xml_drafts(path: Path, tag: str | None) -> Iterator[Draft]:
    """The elements `tag` of one file, with their columns and those around them, prefixed with the root's name.

    Raises DataError for a file that cannot be parsed, or that has no such element.
    """
    root = parse_xml(path)
    items = [element for element in root.iter() if _tag(element) == tag]
    if not items:
        problem = "no element contains others, so none is an item" if tag is None else f"contains no <{tag}>"
        raise DataError(path, problem, "set record to the element of an item")
    around, around_more = flatten(_leaves(root, (_tag(root),), without=tag) if items[0] is not root else ())
    for number, element in enumerate(items, 1):
        cells, more = flatten(_leaves(element, ()))
        yield Draft(str(number), f"{path}:{element.get(LINE)}", {**cells, **around}, {**more, **around_more})


def parse_xml(path: Path) -> Any:  # an Element; the parser is untyped
    """The root element; each element's attribute `LINE` is its line.

    Raises DataError for a file that is too large, broken, or declares entities.
    """
    from defusedxml import DefusedXmlException

    if path.stat().st_size > MAX_FILE:
        raise DataError(path, f"{path.stat().st_size >> 20} MiB of XML", "split it into smaller files")
    try:
        return _lined_tree(path.read_bytes())
    except DefusedXmlException as error:
        raise DataError(path, "declares XML entities, which are not allowed", "remove its DOCTYPE") from error
    except ParseError as error:
        line = error.position[0]
        raise DataError(f"{path}:{line}", f"not well-formed XML ({error})", "export it again") from error
    except (ValueError, LookupError) as error:
        raise DataError(path, f"not well-formed XML ({error})", "export it again") from error


def _lined_tree(data: bytes) -> Element:
    from defusedxml.ElementTree import DefusedXMLParser

    class Lined(DefusedXMLParser):  # type: ignore[misc]  # defusedxml comes without types
        def _start(self, tag: str, attributes: list[str]) -> Any:
            return super()._start(tag, [*attributes, LINE, str(self.parser.CurrentLineNumber)])

    parser = Lined()
    parser.feed(data)
    root: Element = parser.close()
    return root


def _tag(element: Element) -> str:
    """An element's tag without its namespace; "" for a comment."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _leaves(element: Element, path: Steps, without: str | None = None) -> Iterator[Leaf]:
    """The attributes and unindented texts below an element; elements inside running text count as text."""
    for name, value in element.attrib.items():
        if name != LINE:
            yield (*path, name.rpartition("}")[2]), value
    parts = [part for part in element if _tag(part)]
    if not parts or any((part.tail or "").strip() for part in parts):
        lines = (" ".join(line.split()) for line in "".join(element.itertext()).splitlines())
        yield path, "\n".join(filter(None, lines))
        return
    repeated = Counter(_tag(part) for part in parts)
    seen: Counter[str] = Counter()
    for part in parts:
        tag = _tag(part)
        if tag == without:
            continue
        inner: Steps = (*path, tag, seen[tag]) if repeated[tag] > 1 else (*path, tag)
        seen[tag] += 1
        yield from _leaves(part, inner, without)


def with_places(path: Path, elements: Iterable[Element]) -> Iterator[tuple[str, Element]]:
    """Each element after its place, file:line."""
    return ((f"{path}:{element.get(LINE)}", element) for element in elements)
