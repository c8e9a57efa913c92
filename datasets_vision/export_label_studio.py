"""Export examples to Label Studio: tasks as JSON, and the labelling interface that shows them.

`formats.label_studio` reads the same labels back. Label Studio finds the images in its local storage; their addresses
are relative to its root.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from datasets_vision.errors import DataError
from datasets_vision.example import BOX_SCALE, Example, Label, LabelledObject, View, path_of, photo_of
from datasets_vision.formats.contract import SetAside, plain
from datasets_vision.formats.label_studio import IMAGE_CLASS, OWN, UNPLACED
from datasets_vision.formats.shapes import Annotation, Size, box_outline
from datasets_vision.images import image_size
from datasets_vision.placing import whole_file

ADDRESS = "/data/local-files/?d="
"""The prefix of an image's path in Label Studio's local storage."""

_MAX_CHOICES = 24  # distinct words; with more, they are typed instead of chosen
_MAX_CHOICE_LENGTH = 60  # characters
_SPAN = ("text", "start", "end")

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """The files that were written, and the examples that Label Studio cannot show."""

    tasks: Path
    interface: Path
    count: int
    set_aside: tuple[SetAside, ...]


def export(examples: Sequence[Example], out: Path, root: Path | None = None, *, predicted: bool = False) -> Exported:
    """Write tasks to `out` (JSON), and beside it the labelling interface (.xml).

    `root` is the root of the local storage; None takes the folder that contains all images. With `predicted`, the
    labels become predictions for annotators to check, instead of annotations. Raises DataError if an image lies
    outside the root or nothing can be written.
    """
    interface = out.with_suffix(".xml") if out.name else out
    if interface == out:
        raise DataError(f"{str(out)!r}", "cannot hold tasks next to their interface (.xml)", "write to a .json file")
    _check_interface(interface)
    shown, aside = _showable(examples)
    if not shown:
        raise DataError(out, "nothing to export", str(aside[0]) if aside else "the recipe reads no examples")
    images = [path_of(picture).absolute() for example in shown for picture in example.images]
    folders = [image.parent for image in images] or [Path()]
    storage = (root or Path(os.path.commonpath(folders))).absolute()
    values = _grouped(pair for example in shown for pair in _values(example.label))
    kinds = {control: _kind(given) for control, given in values.items()}
    tasks = [_task(example, number, storage, kinds, predicted) for number, example in enumerate(shown, 1)]
    with whole_file(out) as part, whole_file(interface) as beside:
        part.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
        beside.write_text(_labelling_interface(shown, values, kinds), encoding="utf-8")
    return Exported(out, interface, len(tasks), tuple(aside))


def _check_interface(interface: Path) -> None:
    """Refuse to overwrite an XML file of the same name that is not an interface: it may hold annotations."""
    if interface.is_file():
        with interface.open("rb") as file:
            if not file.read(64).lstrip().startswith(b"<View"):
                raise DataError(interface, "is not a labelling interface and would be overwritten", "give another name")


def _showable(examples: Iterable[Example]) -> tuple[list[Example], list[SetAside]]:
    shown: list[Example] = []
    aside: list[SetAside] = []
    for example in examples:
        views = [picture for picture in example.images if isinstance(picture, View) and picture != View(picture.path)]
        if views:
            remedy = "Label Studio shows only whole files, so save it as a file"
            aside.append(SetAside(example.source, f"shows {views[0]}", remedy))
        else:
            shown.append(example)
    return shown, aside


def _grouped(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found


def _kind(values: Sequence[Any]) -> str:
    """How Label Studio enters the values of a control: as choices, number, textarea or json."""
    words = {plain(value) for value in values if isinstance(value, bool | str)}
    numbers = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if any(not isinstance(value, str | int | float) for value in values) or (numbers and words):
        return "json"
    if "true" in values or "false" in values:  # these texts would be read as booleans
        return "json"
    if numbers:
        return "number"
    if len(words) <= _MAX_CHOICES and all(0 < len(word) <= _MAX_CHOICE_LENGTH for word in words):
        return "choices"
    return "json" if {"true", "false"} & words else "textarea"


def _values(label: Label) -> Iterator[tuple[str, Any]]:
    """Every value of a label, with the name of its control."""
    yield from ((f"column.{name}", value) for name, value in label.columns.items())
    for obj in label.objects or ():
        drawn = _drawn_by_shape(obj)
        yield from ((f"object.{name}", value) for name, value in obj.attributes.items() if name not in drawn)


def _drawn_by_shape(obj: LabelledObject) -> tuple[str, ...]:
    """The attributes that the shape itself encodes."""
    return {"polygon": ("polygon",), "keypoint": ("point",), "span": _SPAN}.get(_shape(obj), ())


def _shape(obj: LabelledObject) -> str:
    """polygon, rectangle, keypoint, span, or "" for an object without a position."""
    if obj.box is not None:
        return "polygon" if _is_exact(obj) else "rectangle"
    point = obj.attributes.get("point")
    if isinstance(point, list) and len(point) == 2:
        return "keypoint"
    return "span" if {"start", "end"} <= set(obj.attributes) else ""


def _is_exact(obj: LabelledObject) -> bool:
    """Whether reading an object's polygon back gives the same box and the same polygon."""
    if "polygon" not in obj.attributes:
        return False
    try:
        back = Annotation(obj.name, (BOX_SCALE, BOX_SCALE), {}).polygon(obj.attributes["polygon"])
    except DataError:
        return False
    return (back.box, back.attributes.get("polygon")) == (obj.box, obj.attributes["polygon"])


def _task(example: Example, number: int, storage: Path, kinds: Mapping[str, str], predicted: bool) -> dict[str, Any]:
    images = [path_of(picture) for picture in example.images]
    sizes = [image_size(image) for image in images]
    results = list(_results(example.label, sizes, kinds))
    labelled: dict[str, Any] = {"result": results}
    return {
        "id": number,
        "data": _data(example, [_address(image, storage) for image in images]),
        "annotations": [] if predicted else [labelled],
        "predictions": [{"model_version": "vlm-ft", **labelled}] if predicted else [],
    }


def _address(image: Path, storage: Path) -> str:
    try:
        return ADDRESS + quote(image.absolute().relative_to(storage).as_posix())
    except ValueError as error:
        raise DataError(image, f"lies outside {storage}", "give a root that contains all images") from error


def _data(example: Example, addresses: list[str]) -> dict[str, Any]:
    """A task's data: what annotators see, and under OWN what Label Studio cannot represent."""
    own = {
        "id": example.id,
        "group": example.group,
        "role": example.role,
        "turns": [{"role": turn.role, "text": turn.text} for turn in example.turns],
        "objects": example.label.objects is not None,
    }
    data: dict[str, Any] = (
        {"image": addresses[0]} if len(addresses) == 1 else {"images": addresses} if addresses else {}
    )
    if example.turns:
        several = len(example.turns) > 1
        data["text"] = "\n".join(f"{turn.role}: {turn.text}" if several else turn.text for turn in example.turns)
    return {**data, OWN: own}


def _results(label: Label, sizes: list[Size], kinds: Mapping[str, str]) -> Iterator[Result]:
    if label.image_class is not None:
        yield {"id": "class", **_result(IMAGE_CLASS, "choices", {"choices": [label.image_class]})}
    for name, value in label.columns.items():
        yield {"id": f"column {name}", **_stated("column", name, value, kinds)}
    for index, obj in enumerate(label.objects or ()):
        region = f"object {index + 1}"
        drawn = _drawn(obj, sizes)
        yield {"id": region, **drawn}
        for name, value in obj.attributes.items():
            if name not in _drawn_by_shape(obj):
                place = {key: part for key, part in drawn["value"].items() if not key.endswith("labels")}
                stated = _stated("object", name, value, kinds)
                yield {"id": region, **stated, "value": {**place, **stated["value"]}}


def _stated(scope: str, name: str, value: Any, kinds: Mapping[str, str]) -> Result:
    """A value as the result of its control."""
    kind = kinds[f"{scope}.{name}"]
    entry: dict[str, Any] = {"text": [json.dumps(value, ensure_ascii=False) if kind == "json" else value]}
    if kind == "choices":
        entry = {"choices": [plain(value)]}
    elif kind == "number":
        entry = {"number": value}
    control = f"{scope}:json.{name}" if kind == "json" else f"{scope}.{name}"
    return _result(control, "textarea" if kind == "json" else kind, entry)


def _result(control: str, kind: str, value: dict[str, Any], **more: Any) -> Result:
    return {"from_name": control, "to_name": "shown", "type": kind, "value": value, **more}


def _drawn(obj: LabelledObject, sizes: list[Size]) -> Result:
    """The region of an object, in percent of the image as Label Studio counts."""
    shape = _shape(obj)
    if shape == "span":
        words = {key: obj.attributes[key] for key in _SPAN if key in obj.attributes}
        return _result("span", "labels", {**words, "labels": [obj.name]})
    if not shape or not sizes:
        return _result(UNPLACED, "textarea", {"text": [obj.name]})
    index = photo_of(obj, len(sizes))
    width, height = sizes[index]
    image = {"original_width": width, "original_height": height, "image_rotation": 0}
    if len(sizes) > 1:
        image["item_index"] = index
    return _result(shape, f"{shape}labels", {**_place(obj, shape), f"{shape}labels": [obj.name]}, **image)


def _place(obj: LabelledObject, shape: str) -> dict[str, Any]:
    per_percent = BOX_SCALE / 100
    if shape == "keypoint":
        x, y = obj.attributes["point"]
        return {"x": x / per_percent, "y": y / per_percent, "width": 0.5}
    if shape == "polygon":
        return {"points": [[x / per_percent, y / per_percent] for x, y in obj.attributes["polygon"]], "closed": True}
    (left, top), _, (right, bottom), _ = box_outline(obj.box or (0, 0, 1, 1))
    sides = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return {**{key: value / per_percent for key, value in sides.items()}, "rotation": 0}


def _labelling_interface(examples: Sequence[Example], values: dict[str, list[Any]], kinds: Mapping[str, str]) -> str:
    """The XML to paste into a project's labelling interface; its controls are named like the results."""
    view = Element("View")
    pictures = max((len(example.images) for example in examples), default=0)
    if pictures:
        value = {"value": "$image"} if pictures == 1 else {"valueList": "$images"}
        SubElement(view, "Image", {"name": "shown", **value, "zoom": "true", "zoomControl": "true"})
    if any(example.turns for example in examples):
        SubElement(view, "Text", name="text" if pictures else "shown", value="$text")
    classes = dict.fromkeys(example.label.image_class for example in examples if example.label.image_class)
    if classes:
        _add_options(view, "Choices", "Choice", {"name": IMAGE_CLASS, "toName": "shown"}, classes)
    objects = [obj for example in examples for obj in example.label.objects or ()]
    for shape, names in _grouped((_shape(obj), obj.name) for obj in objects).items():
        if shape:
            control = {"name": shape, "toName": "shown"}
            _add_options(view, f"{_TAGS[shape]}Labels", "Label", control, dict.fromkeys(names))
        else:
            SubElement(view, "TextArea", name=UNPLACED, toName="shown")
    for name, given in values.items():
        _add_control(view, name, kinds[name], given)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


_TAGS = {"rectangle": "Rectangle", "polygon": "Polygon", "keypoint": "KeyPoint", "span": ""}


def _add_options(view: Element, tag: str, option: str, attributes: dict[str, str], words: Iterable[str]) -> None:
    control = SubElement(view, tag, attributes)
    for word in words:
        SubElement(control, option, value=word)


def _add_control(view: Element, control: str, kind: str, values: Iterable[Any]) -> None:
    scope, _, name = control.partition(".")
    region = {"perRegion": "true"} if scope == "object" else {}
    SubElement(view, "Header", value=name, size="6")
    written = {"name": f"{scope}:json.{name}" if kind == "json" else control, "toName": "shown", **region}
    if kind == "choices":
        _add_options(view, "Choices", "Choice", written, dict.fromkeys(map(plain, values)))
    else:
        SubElement(view, "Number" if kind == "number" else "TextArea", written)
