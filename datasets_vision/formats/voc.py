"""Pascal VOC: one XML per image, `ImageSets/Main/*.txt` for the split, `labels.csv` for what boxes cannot express.

The standard counts pixels from 1 and includes the last one; many sets count from 0 and exclude it, and a file does
not say which. The corners are read as edges, 0 <= left < right <= width: a box of either kind that lies inside
its image stays inside, and at worst one pixel is lost at the left and the top.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from xml.etree.ElementTree import Element

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import check_size, missing_image, unread_photos
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.folders import LabelTable
from datasets_vision.formats.roles import role_of_folders
from datasets_vision.formats.shapes import Annotation, Size, read_objects
from datasets_vision.formats.text_files import head_of
from datasets_vision.formats.xml_files import parse_xml, with_places
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES, folded, walk

_ANNOTATIONS = "Annotations"
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(slots=True)
class _Set:
    """What is known about the whole set before its annotations are read. Dicts are keyed by stem or name."""

    source: Source
    images: dict[Path, dict[str, Path]]  # folder -> name and stem, folded -> image
    lists: dict[str, list[str]]  # stem -> the split lists that name it
    labels: LabelTable
    annotated: set[str] = field(default_factory=set)  # stems of annotations and their images


def matches(path: Path) -> bool:
    """XML under Annotations, or an XML file that starts like an annotation."""
    first = next(_annotations(path), None)
    if first is None:
        return False
    if (path / _ANNOTATIONS).is_dir():
        return True
    return "<annotation" in head_of(first)


def read(source: Source) -> Iterator[Example | SetAside]:
    """Read boxes, and with a labels.csv (file, class, ...) image classes and columns.

    An annotation without objects means that there are none; if all its objects are set aside, the example's objects
    are unlabelled. An image or a listed name without an annotation is set aside, as is an annotation whose image is
    missing, unreadable or of another size.
    """
    data_set = _Set(source, _images_by_folder(source.path), _split_lists(source.path), LabelTable.of(source))
    yield from data_set.labels.faults
    for path in _annotations(source.path):
        data_set.annotated.add(path.stem)
        yield from or_set_aside(path, _read_annotation(data_set, path))
    if not data_set.annotated:
        raise DataError(source.path, "no XML annotation found", f"give the folder that contains {_ANNOTATIONS}")
    yield from _unannotated(data_set)


def _annotations(root: Path) -> Iterator[Path]:
    """The XML files below the folder Annotations if there is one, else all."""
    folder = root / _ANNOTATIONS
    below = folder if folder.is_dir() else root
    return (file for file in walk(root, {".xml"}) if file.is_relative_to(below))


def _images_by_folder(root: Path) -> dict[Path, dict[str, Path]]:
    found: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in walk(root, IMAGE_SUFFIXES):
        found[path.parent][folded(path.name)] = path
        found[path.parent].setdefault(folded(path.stem), path)
    return found


def _split_lists(root: Path) -> dict[str, list[str]]:
    """Stem -> names of its lists; a list of one class (`name 1`, `name -1`) is not a split."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((root / "ImageSets" / "Main").glob("*.txt")):
        lines = [line.split() for line in path.read_text("utf-8-sig", errors="replace").splitlines()]
        if any(len(words) == 2 and words[1] in ("1", "-1", "0") for words in lines):
            continue
        for words in filter(None, lines):
            found[" ".join(words)].append(path.stem)
    return found


def _unannotated(data_set: _Set) -> Iterator[SetAside]:
    """Set aside images, listed names and rows without an annotation, and photos of other kinds."""
    root = data_set.source.path
    yield from unread_photos(root)
    images = dict.fromkeys(path for names in data_set.images.values() for path in names.values())
    for path in images:
        data_set.labels.take(path.relative_to(root))  # also removes the rows of images that could not be used
        if path.stem not in data_set.annotated:
            yield SetAside(str(path), "no annotation for this image")
    known = data_set.annotated | {path.stem for path in images}
    for stem, lists in data_set.lists.items():
        if stem not in known:
            yield SetAside(f"{root}/ImageSets/Main/{lists[0]}.txt", f"{stem!r} has no annotation and no image")
    yield from data_set.labels.unused()


def _read_annotation(data_set: _Set, path: Path) -> Iterator[Example | SetAside]:
    root = parse_xml(path)
    if root.tag != "annotation":
        raise DataError(path, f"its root is <{root.tag[:80]}>, not <annotation>", "give a Pascal VOC file")
    image = _find_image(data_set, path, root)
    data_set.annotated.add(image.stem)
    size = image_size(image)
    check_size((root.findtext("size/width"), root.findtext("size/height")), size)
    role = _role(data_set, path)
    drawn = with_places(path, root.findall("object"))
    objects, faults = read_objects(drawn, lambda element: _object(element, size))
    yield from faults
    cells = data_set.labels.take(image.relative_to(data_set.source.path))
    label = Label(cells.pop("class", "") or None, objects, cells)
    yield Example.of_photo(image, data_set.source.path, label, path, role)


def _find_image(data_set: _Set, path: Path, root: Element) -> Path:
    """Find the image by <filename>, else by the annotation's stem, beside it or in an image folder next to its own."""
    name = PureWindowsPath((root.findtext("filename") or "").strip()).name
    folders = [path.parent, *(path.parent.parent / folder for folder in _IMAGE_FOLDERS)]
    folders += [data_set.source.path / folder for folder in _IMAGE_FOLDERS]
    for key in map(folded, (name, PureWindowsPath(name).stem, path.stem)):
        for folder in folders:
            if key in data_set.images.get(folder, {}):
                return data_set.images[folder][key]
    raise missing_image(name or path.stem, "put it beside this or into JPEGImages")


def _role(data_set: _Set, path: Path) -> str | None:
    """The name of the only split list that names the file, else the role that its folders state."""
    named = data_set.lists.get(path.stem, [])
    lists = [name for name in named if name != "trainval"] or named
    if len(lists) > 1:
        raise DataError(path, f"listed in {' and '.join(lists)}", "keep it in one list")
    return lists[0] if lists else role_of_folders(path.relative_to(data_set.source.path).parent)


def _object(element: Element, size: Size) -> LabelledObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError("", "an object without a name", "write its <name>")
    given = {key: (element.findtext(key) or "").strip() for key in ("difficult", "truncated", "pose")}
    attributes = {key: {"0": False, "1": True}.get(text, text) for key, text in given.items() if text}
    corners = [element.findtext(f"bndbox/{corner}") or "" for corner in _CORNERS]
    return Annotation(name, size, attributes | _cvat_attributes(element)).box(corners, overrun=0)


def _cvat_attributes(element: Element) -> dict[str, bool | str]:
    """What CVAT adds to the standard flags: <attributes><attribute><name/><value/></attribute></attributes>."""
    pairs = (
        ((found.findtext("name") or "").strip(), (found.findtext("value") or "").strip())
        for found in element.iterfind("attributes/attribute")
    )
    return {name: {"true": True, "false": False}.get(value.lower(), value) for name, value in pairs if name and value}
