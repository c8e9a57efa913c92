"""Label Studio: tasks with their annotations, as its JSON export writes them.

A region is an object; the choices, texts and numbers given for it are its attributes. Those given for the whole task
are columns, except that a choice named `choice`, `class` or `image_class` is the image's class. Exports of
`datasets_vision.export_label_studio` are read back unchanged.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, LabelledObject, Turn
from datasets_vision.formats.annotation_files import Pictures, sorted_by_kind
from datasets_vision.formats.contract import SetAside, Source, or_set_aside, plain
from datasets_vision.formats.json_files import read_json
from datasets_vision.formats.shapes import Annotation, Point, Size, read_objects, rotated_corners
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES

OWN = "vlm_ft"
"""The key in a task's data for what Label Studio cannot represent: id, group, role, turns, objects."""

IMAGE_CLASS = "image_class"
UNPLACED = "unplaced"
"""Names of controls: the class of the whole image, and objects without a position."""

SCOPED = re.compile(r"(object|column)(:json)?\.(.*)", re.DOTALL)
"""The name of a control in our export: its scope, whether its text is JSON, and the name itself."""

SHAPES = ("rectangle", "polygon", "ellipse", "keypoint", "brush")

_CLASS_CONTROLS = (IMAGE_CLASS, "choice", "class")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # the prefix that Label Studio gives an uploaded file
_VALUE_KEYS = {"choices": "choices", "textarea": "text", "number": "number", "rating": "rating", "datetime": "datetime"}


@dataclass(frozen=True, slots=True)
class _Task:
    place: str
    path: Path
    number: str
    data: dict[str, Any]
    results: dict[str, list[dict[str, Any]]]  # by region, in order of first appearance
    has_regions: bool  # whether any task of the file has a region

    @property
    def own(self) -> dict[str, Any]:
        """The facts that our export added; empty for other tasks."""
        given = self.data.get(OWN)
        return given if isinstance(given, dict) else {}


def read(source: Source) -> Iterator[Example | SetAside]:
    """Read the annotation marked as ground truth, else the last that was not cancelled; predictions are ignored.

    A task without regions has no objects if other tasks of its file have regions; otherwise its objects are
    unlabelled. The folder may be the pool from which the tasks were drawn, so all images without a task are reported in
    one entry.
    """
    files, others = sorted_by_kind(source.path, "label_studio")
    if not files:
        raise DataError(source.path, "no Label Studio JSON found", "export as JSON and give the file")
    pictures = Pictures.of(source.path, source.image_folder)
    for path in files:
        try:
            content = read_json(path)
            if not isinstance(content, list):
                raise DataError(path, "is not a list of tasks", "export as JSON from Label Studio")
        except DataError as error:
            pictures.broken = True
            yield SetAside.of(path, error)
            continue
        yield from _read_tasks(source, pictures, path, content)
    if left := sum(1 for _ in pictures.unreferenced()):
        yield SetAside(
            str(pictures.root), f"contains {left} images without a task", "annotate those that belong to the set"
        )
    yield from others


def _read_tasks(source: Source, pictures: Pictures, path: Path, tasks: list[Any]) -> Iterator[Example | SetAside]:
    has_regions = any(_is_region(group) for task in tasks for group in _grouped(_chosen(task)[0]).values())
    for index, given in enumerate(tasks):
        number = str(given.get("id", index + 1)) if isinstance(given, dict) else str(index + 1)
        place = f"{path}: task {number[:40]}"
        if not isinstance(given, dict) or not isinstance(given.get("data"), dict):
            yield SetAside(place, "has no data", "export the tasks with their data")
            continue
        annotation, others = _chosen(given)
        if annotation is None:
            yield SetAside(place, "is not annotated yet, or its annotation was cancelled")
            continue
        if others:
            yield SetAside(place, f"has {others} more annotations", "the ground truth or the last one was read")
        yield from _valueless(place, annotation)
        task = _Task(place, path, number, given["data"], _grouped(annotation), has_regions)
        yield from or_set_aside(place, _read_task(source, pictures, task))


def _chosen(task: Any) -> tuple[dict[str, Any] | None, int]:
    """The annotation to read, and the number of others."""
    given = task.get("annotations", task.get("completions")) if isinstance(task, dict) else None
    done = [
        annotation
        for annotation in (given if isinstance(given, list) else [])
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
    ]
    truths = [annotation for annotation in done if annotation.get("ground_truth")]
    return ((truths or done)[-1], len(done) - 1) if done else (None, 0)


def _grouped(annotation: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Results by their region; a result without one is its own group."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for index, result in enumerate(_results(annotation)):
        if _has_value(result):
            found[str(result.get("id", f"#{index}"))].append(result)
    return found


def _results(annotation: dict[str, Any] | None) -> list[Any]:
    """An annotation's results; if they are not a list, one result that cannot be read."""
    given = annotation.get("result") if annotation else []
    return given if isinstance(given, list) else [given]


def _has_value(result: Any) -> bool:
    return isinstance(result, dict) and isinstance(result.get("value"), dict)


def _valueless(place: str, annotation: dict[str, Any]) -> Iterator[SetAside]:
    """Set aside results without a value, such as relations between regions."""
    for index, result in enumerate(_results(annotation)):
        if not _has_value(result):
            kind = str(result.get("type")) if isinstance(result, dict) else str(result)
            yield SetAside(f"{place} result {index + 1}", f"{kind[:40]!r} has no value and is ignored", "use regions")


def _is_region(group: list[dict[str, Any]]) -> bool:
    return any(_shape(result) or result.get("from_name") == UNPLACED for result in group)


def _shape(result: dict[str, Any]) -> str | None:
    """The shape that a result draws: its type without `labels`, or a span of text."""
    kind = str(result.get("type"))
    if kind in ("labels", "hypertextlabels"):
        return "span" if "start" in result["value"] and "end" in result["value"] else None
    return kind.removesuffix("labels") if kind.removesuffix("labels") in SHAPES else None


def _read_task(source: Source, pictures: Pictures, task: _Task) -> Iterator[Example | SetAside]:
    images = tuple(_image(pictures, task, written) for written in _written_images(task.data))
    sizes = [image_size(image) for image in images]
    turns = _turns(source, task)
    if not images and not turns:
        raise DataError("", "has neither an image nor a text", "name the key of its text with text: '{key}'")
    regions = (
        (f"{task.place} region {region[:40]}", group) for region, group in task.results.items() if _is_region(group)
    )
    objects, faults = read_objects(regions, lambda group: _object(task, group, sizes))
    yield from faults
    kind, columns, unread = _task_values(source, task)
    yield from unread
    labelled = bool(task.own["objects"]) if "objects" in task.own else task.has_regions
    label = Label(kind, objects if labelled or objects else None, columns)
    if images:
        example = pictures.example(images[-1], label, task.place, task.path)
    else:
        example = Example(f"{task.path.stem}:{task.number}", label=label, source=task.place)
    own = {key: task.own[key] for key in ("id", "group", "role") if isinstance(task.own.get(key), str)}
    yield replace(example, images=images, turns=turns, **own)


def _written_images(data: Mapping[str, Any]) -> list[str]:
    """The image addresses in a task's data: the first list of them, else every value that is an address."""
    values = [value for key, value in data.items() if key != OWN]
    listed = next((value for value in values if isinstance(value, list) and value and all(map(_is_image, value))), None)
    return listed or [value for value in values if _is_image(value)]


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and "\n" not in value and Path(_file_of(value)).suffix.lower() in IMAGE_SUFFIXES


def _file_of(address: str) -> str:
    """The path in an address: of local storage (?d=), of a bucket, or of an upload."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _image(pictures: Pictures, task: _Task, address: str) -> Path:
    written = Path(_file_of(address))
    try:
        return pictures.find(str(written), task.path)
    except DataError:
        bare = _UPLOAD.sub("", written.name)
        if bare == written.name:
            raise
        return pictures.find(bare, task.path)


def _turns(source: Source, task: _Task) -> tuple[Turn, ...]:
    own = task.own.get("turns")
    if isinstance(own, list):
        return tuple(
            Turn("assistant" if turn.get("role") == "assistant" else "user", str(turn.get("text", "")))
            for turn in own
            if isinstance(turn, dict)
        )
    row = {key: plain(value) for key, value in task.data.items() if isinstance(value, str | int | float)}
    text = source.render(row)
    return (Turn("user", text),) if text else ()


def _object(task: _Task, group: list[dict[str, Any]], sizes: list[Size]) -> LabelledObject:
    drawn = next((result for result in group if _shape(result)), group[0])
    name = "+".join(str(label) for result in group for label in _labels(result))
    if not name:
        raise DataError("", "has no label", "choose one")
    attributes: dict[str, Any] = {}
    for result in group:
        if _shape(result) or result.get("from_name") == UNPLACED or result.get("type") == "labels":
            continue
        key, value = _control_value(result)
        attributes[key] = value
    last = len(sizes) - 1
    item = drawn.get("item_index", last)
    if last > 0 and not task.own and item != last:
        if type(item) is not int or not 0 <= item <= last:
            problem = f"item_index {str(item)[:40]!r} is not one of the {last + 1} images"
            raise DataError("", problem, "they start at 0")
        attributes["photo"] = item + 1
    return _drawn(name, drawn, sizes, attributes)


def _labels(result: dict[str, Any]) -> list[Any]:
    """The names in a result, under `rectanglelabels`, `labels` and the like."""
    value = result["value"]
    if result.get("from_name") == UNPLACED:
        names = value.get("text", [])
        return names if isinstance(names, list) else [names] if isinstance(names, str) else []
    return [
        name for key, names in value.items() if key.endswith("labels") and isinstance(names, list) for name in names
    ]


def _drawn(name: str, result: dict[str, Any], sizes: list[Size], attributes: dict[str, Any]) -> LabelledObject:
    value, shape = result["value"], _shape(result)
    if shape == "span":
        words = {key: value[key] for key in ("text", "start", "end") if key in value}
        return LabelledObject(name, None, {**attributes, **words})
    if shape is None:
        return LabelledObject(name, None, attributes)
    photo = attributes.get("photo")
    if not sizes or (photo is not None and (type(photo) is not int or not 0 < photo <= len(sizes))):
        raise DataError("", f"{name!r} is not on any image of the task", "add the task's images")
    size = sizes[photo - 1 if photo else -1]
    annotation = Annotation(name, size, attributes)
    if shape == "polygon":
        return annotation.polygon([_pixels(point, size) for point in annotation.points("points", value.get("points"))])
    x, y = _pixels(annotation.numbers("place", [value.get("x"), value.get("y")], 2), size)
    degrees = annotation.numbers("rotation", value.get("rotation") or 0, 1)[0]
    if shape == "keypoint":
        return annotation.point((x, y))
    if shape == "ellipse":
        radii = annotation.numbers("radii", [value.get("radiusX"), value.get("radiusY")], 2)
        return annotation.ellipse((x, y), _pixels(radii, size), degrees)
    if shape == "rectangle":
        width, height = _pixels(annotation.numbers("sides", [value.get("width"), value.get("height")], 2), size)
        if degrees:
            return annotation.polygon(rotated_corners(x, y, width, height, degrees, (x, y)))
        return annotation.box((x, y, x + width, y + height))
    raise annotation.error(f"is drawn with a {shape}", "export it as polygons or boxes")


def _pixels(percent: Any, size: Size) -> Point:
    return percent[0] * size[0] / 100, percent[1] * size[1] / 100


def _task_values(source: Source, task: _Task) -> tuple[str | None, dict[str, Any], list[SetAside]]:
    """The image's class and the columns, from the results for the whole task, and the results that were set aside."""
    kind: str | None = None
    columns: dict[str, Any] = {}
    if not task.own:
        shown = source.shown()
        stated = {key: value for key, value in task.data.items() if key not in shown and not _is_image(value)}
        columns = {key: value for key, value in stated.items() if isinstance(value, str | int | float)}
    faults: list[SetAside] = []
    for group in task.results.values():
        if _is_region(group):
            continue
        for result in group:
            try:
                key, value = _control_value(result)
            except DataError as error:
                faults.append(SetAside.of(task.place, error))
                continue
            controls = (IMAGE_CLASS,) if task.own else _CLASS_CONTROLS
            if key in controls and result.get("type") == "choices" and not SCOPED.fullmatch(_control(result)):
                kind = plain(value)
            else:
                columns[key] = value
    return kind, columns, faults


def _control(result: dict[str, Any]) -> str:
    return str(result.get("from_name", ""))


def _control_value(result: dict[str, Any]) -> tuple[str, Any]:
    """The name of a result's control, and its value."""
    kind, control = str(result.get("type")), _control(result)
    if kind not in _VALUE_KEYS or _VALUE_KEYS[kind] not in result["value"]:
        problem = f"a result of type {kind[:40]!r} is not supported"
        raise DataError("", problem, "use regions, choices, texts or numbers")
    value = result["value"][_VALUE_KEYS[kind]]
    scoped = SCOPED.fullmatch(control)
    if kind == "choices":
        word = "+".join(map(str, value)) if isinstance(value, list) else str(value)
        return (scoped[3] if scoped else control), {"true": True, "false": False}.get(word, word)
    if isinstance(value, list):
        value = "\n".join(str(line) for line in value)
    if scoped is None:
        return control, value
    if scoped[2]:
        try:
            value = json.loads(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise DataError("", f"{control!r} is no longer valid JSON", "correct its text") from error
    return scoped[3], value
