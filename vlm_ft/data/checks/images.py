"""Checks of the image files: can they be read, do their suffixes match, do they show anything?"""

from __future__ import annotations

from collections.abc import Iterator

from vlm_ft.data.checks.fault import Fault
from vlm_ft.data.checks.index import Index, file_of

CONSTANT = 2
"""A picture whose grey levels (0 to 255) span no more than this shows nothing."""
SMALL_PICTURE = 24
"""A picture with a side below this many pixels is reported."""
_SAME_FORMAT = {"MPO": "JPEG", "JPEG2000": "JPEG 2000"}  # a phone's JPEG with a second picture inside


def unreadable(index: Index) -> Iterator[Fault]:
    """An image that would stop training is an error; one that the loader set aside is a warning."""
    query = """SELECT place, picture, fault, pictures.remedy FROM pictures JOIN items ON items.number = item
        WHERE fault IS NOT NULL"""
    for place, picture, fault, remedy in index.rows(query):
        yield Fault("error", str(file_of(picture)), fault, f"{remedy or 'repair the file'}, or remove it and {place}")
    for place, problem, remedy in index.all_set_aside("image"):
        yield Fault("warning", place, f"set aside: {problem}", remedy or "repair the file, or remove its label")


def extension(index: Index) -> Iterator[Fault]:
    """Files whose suffix does not match their content."""
    from PIL.Image import registered_extensions

    formats = registered_extensions()
    query = "SELECT picture, format FROM pictures WHERE format != '' AND fault IS NULL GROUP BY picture"
    for picture, form in index.rows(query):
        path = file_of(picture)
        stated = formats.get(path.suffix.lower())
        if stated is not None and _SAME_FORMAT.get(stated, stated) != _SAME_FORMAT.get(form, form):
            remedy = f"rename it to .{form.lower()}, and update its labels"
            yield Fault("warning", str(path), f"the content is {form}, the suffix says {stated}", remedy, (picture,))


def orientation(index: Index) -> Iterator[Fault]:
    """Photos with boxes that their EXIF orientation rotates: the boxes may have been drawn before the rotation."""
    query = "SELECT picture, orientation FROM pictures WHERE boxed AND orientation BETWEEN 2 AND 8 GROUP BY picture"
    for picture, turn in index.rows(query):
        yield Fault(
            "warning",
            str(file_of(picture)),
            f"EXIF orientation {turn} rotates it, and its boxes may have been drawn on the unrotated picture",
            "look at it in vlm-ft data preview; if the boxes are off, save the photo upright and draw them again",
            (picture,),
        )


def constant(index: Index) -> Iterator[Fault]:
    """Pictures of a single colour."""
    query = "SELECT picture, spread FROM pictures WHERE spread <= ? GROUP BY picture"
    for picture, spread in index.rows(query, CONSTANT):
        value = f"shows nothing: its grey levels differ by {spread} of 255"
        yield Fault("warning", str(file_of(picture)), value, "retake the photo, or remove it", (picture,))


def small(index: Index) -> Iterator[Fault]:
    """Pictures that are only a few pixels wide or high."""
    query = """SELECT picture, width, height FROM pictures
        WHERE fault IS NULL AND width > 0 AND min(width, height) < ? GROUP BY picture"""
    for picture, width, height in index.rows(query, SMALL_PICTURE):
        value = f"{width}x{height} pixels"
        yield Fault("warning", str(file_of(picture)), value, "is it a thumbnail? use the photo itself", (picture,))
