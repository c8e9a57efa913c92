"""Photos lose what they say about people and places, and neither a pixel nor their orientation."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from datasets_vision.images import open_image
from datasets_vision.metadata import remove_metadata

SECRET = "SECRET 52.5N 13.4E"
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>{SECRET}</dc:creator></x:xmpmeta>'.encode()
KINDS = ("jpg", "png", "webp", "tif")


def photo(folder: Path, kind: str, orientation: int = 6) -> Path:
    """A photo with EXIF and GPS data, a comment and XMP data; its orientation is in its EXIF data."""
    image = Image.radial_gradient("L").resize((40, 24)).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = SECRET
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET.encode()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = SECRET.encode()
    path = folder / f"photo.{kind}"
    settings: dict[str, object] = {"exif": exif, "icc_profile": b"profile" * 9}
    match kind:
        case "jpg":
            settings |= {"comment": SECRET, "xmp": XMP, "progressive": True}
        case "png":
            texts = PngImagePlugin.PngInfo()
            texts.add_text("Author", SECRET)
            texts.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
            settings["pnginfo"] = texts
        case "webp":
            settings |= {"xmp": XMP, "lossless": True}
        case _:
            settings["compression"] = "tiff_lzw"
    image.save(path, **settings)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_only_pixels_orientation_and_colours_stay(tmp_path: Path, kind: str, orientation: int) -> None:
    path = photo(tmp_path, kind, orientation)
    assert SECRET.encode() in path.read_bytes()
    before = open_image(path)
    remove_metadata(path)
    assert SECRET.encode() not in path.read_bytes()
    after = open_image(path)
    assert (after.size, after.tobytes()) == (before.size, before.tobytes())
    with Image.open(path) as image:
        assert image.info["icc_profile"] == b"profile" * 9
        assert set(image.getexif()) <= {ExifTags.Base.Orientation} or kind == "tif"
        assert "xmp" not in image.info
        assert dict(image.getexif().get_ifd(ExifTags.IFD.GPSInfo)) == {}
    cleaned = path.read_bytes()
    remove_metadata(path)
    assert path.read_bytes() == cleaned


def test_an_orientation_in_xmp_data_stays(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.linear_gradient("L").resize((40, 24)).save(path, xmp=b'<rdf tiff:Orientation="8"/>' + XMP)
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image).size
    remove_metadata(path)
    assert open_image(path).size == turned == (24, 40)
    assert SECRET.encode() not in path.read_bytes()


def test_what_follows_the_end_of_a_jpeg_is_removed(tmp_path: Path) -> None:
    path = photo(tmp_path, "jpg")
    path.write_bytes(path.read_bytes() * 2)  # as phones append previews
    remove_metadata(path)
    assert path.read_bytes().count(b"\xff\xd8\xff") == 1


def test_every_page_of_a_tiff_is_cleaned(tmp_path: Path) -> None:
    path, exif = tmp_path / "pages.tif", Image.Exif()
    exif[ExifTags.Base.Artist] = SECRET
    pages = [Image.new("I;16", (30, 20), shade) for shade in (1, 50_000)]
    pages[0].save(path, save_all=True, append_images=pages[1:], exif=exif, big_tiff=True)
    remove_metadata(path)
    assert SECRET.encode() not in path.read_bytes()
    with Image.open(path) as image:
        shades = []
        for page in range(image.n_frames):
            image.seek(page)
            shades.append(image.getpixel((3, 3)))
    assert shades == [1, 50_000]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_cleaned_as_far_as_it_goes(tmp_path: Path, kind: str) -> None:
    whole = photo(tmp_path, kind).read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "part").write_bytes(whole[:size])
        remove_metadata(tmp_path / "part")
        left = (tmp_path / "part").read_bytes()
        if kind == "tif":  # its directory may be lost
            assert len(left) == size
        else:
            assert SECRET.encode() not in left


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    for content in (b"", b"text", b"BM" + bytes(60), b"GIF89a" + bytes(60)):
        (tmp_path / "file").write_bytes(content)
        remove_metadata(tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == content
