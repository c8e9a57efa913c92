"""DICOM pictures are read as pydicom reads them, or rejected with a one-line error that names no patient."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from datasets_vision import dicom
from datasets_vision.example import View, picture_of
from datasets_vision.images import find_images, image_size, open_image
from datasets_vision.windows import PRESETS
from tests.datasets_vision.made import DATA
from tests.datasets_vision.made_dicom import PRIVATE, cut_in_the_header, ramp, write_dicom
from vlm_ft.errors import DataError

SAMPLES = DATA / "scan_abnormalities" / "dicom_samples"
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"  # pydicom's own, of every transfer syntax

real = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no {SAMPLES}; set VLM_FT_DATA")
REFUSED = {"MR_truncated.dcm": "truncated", "badVR.dcm": "NumberOfFrames is not an integer"}
GREY = {"CT_small.dcm", "JPGExtended.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm", "rtdose.dcm"}


def grey(picture: Path | View) -> np.ndarray:
    """The levels of a picture that must be grey."""
    shown = np.asarray(open_image(picture))
    assert (shown == shown[..., :1]).all()
    return shown[..., 0]


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(np.float64) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


@real
def test_every_real_file_is_read_or_refused_with_its_reason():
    for path in sorted(SAMPLES.glob("*.dcm")):
        if path.name in REFUSED:
            with pytest.raises(DataError, match=REFUSED[path.name]):
                open_image(path)
            continue
        image = open_image(path)
        assert (image.mode, image.size) == ("RGB", image_size(path))
        assert len(image.getcolors(1 << 16)) > 1, path


@real
@pytest.mark.parametrize("name", sorted(GREY))
def test_real_values_match_pydicom(name):
    known = pydicom.dcmread(SAMPLES / name)
    open_image(SAMPLES / name)  # registers the decoder of 12-bit JPEG with pydicom
    stored = known.pixel_array.astype(np.int64)
    first = stored[0] if stored.ndim == 3 else stored
    values = apply_modality_lut(first, known) * float(known.get("DoseGridScaling", 1))
    if "WindowCenter" in known:
        half = 2 ** (known.BitsStored - 1)  # signed: pydicom's window spans the stored range
        expected = stretched(apply_windowing(first, known), -half, half - 1)
    else:
        expected = stretched(values, *np.percentile(values, (1, 99)))
    assert np.abs(grey(SAMPLES / name).astype(int) - expected).max() <= 1  # two roundings


@real
def test_the_same_scan_in_three_syntaxes_is_the_same_picture():
    pictures = [grey(SAMPLES / f"MR_small{way}.dcm") for way in ("", "_RLE", "_implicit")]
    assert all((picture == pictures[0]).all() for picture in pictures)


@real
def test_colours_are_the_palette_of_the_test_card():
    for name in ("SC_rgb_jpeg_gdcm.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        card = np.asarray(open_image(SAMPLES / name)).astype(int)
        for row, colour in ((5, (255, 0, 0)), (45, (0, 0, 255)), (65, (0, 0, 0)), (95, (255, 255, 255))):
            assert np.abs(card[row, 50] - colour).max() <= 2, (name, row)  # YBR's rounding


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("SC_rgb_rle_32bit.dcm", "SC_rgb_jpeg_gdcm.dcm"),
        ("SC_rgb_gdcm_KY.dcm", "SC_rgb_jpeg_gdcm.dcm"),
    ],
)
def test_transfer_syntaxes_agree(name, like):
    if not (SHIPPED / name).is_file():
        pytest.skip(f"this pydicom comes without {name}")
    pair = [np.asarray(open_image(SHIPPED / file)).astype(int) for file in (name, like)]
    assert np.abs(pair[0] - pair[1]).max() <= 1


def test_every_file_of_pydicom_is_read_or_refused():
    if not SHIPPED.is_dir():
        pytest.skip("this pydicom comes without its test files")
    paths, lines = sorted(SHIPPED.glob("*.dcm")), {}
    for path in paths:
        try:
            assert open_image(path).mode == "RGB"
        except DataError as error:
            lines[path] = str(error)
    assert all(line.startswith(str(path)) for path, line in lines.items())
    assert len(lines) < len(paths) / 2


def test_windows_are_in_hounsfield_units(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", ramp() + 1024, RescaleSlope=1, RescaleIntercept=-1024)
    for name, (centre, width) in PRESETS.items():
        expected = stretched(ramp(), centre - width / 2, centre + width / 2)
        assert (grey(View(path, window=name)) == expected).all(), name
        assert (grey(View(path, window=(centre, width))) == expected).all(), name
    assert (grey(View(path, window="p10-p90")) == stretched(ramp(), *np.percentile(ramp(), (10, 90)))).all()
    assert (grey(path) == grey(View(path, window="p1-p99"))).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_of_the_tag_match_pydicom(tmp_path, function):
    tags = {"WindowCenter": [40, 400], "WindowWidth": [350, 1500], "VOILUTFunction": function}
    path = write_dicom(tmp_path / "a.dcm", ramp(), RescaleSlope=1, RescaleIntercept=0, **tags)
    expected = apply_windowing(ramp(), pydicom.dcmread(path))
    expected = stretched(expected, -32768, 32767)
    assert np.abs(grey(path).astype(int) - expected).max() <= 1  # two roundings
    assert (grey(View(path, window="tag")) == grey(path)).all()


def test_lookup_tables_are_applied(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], [255 - index for index in range(256)]
    voi = {"VOILUTSequence": Sequence([table])}
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    path = write_dicom(tmp_path / "voi.dcm", values, **voi)
    assert (grey(path) == apply_voi(values, pydicom.dcmread(path))).all()
    path = write_dicom(tmp_path / "modality.dcm", values, ModalityLUTSequence=Sequence([table]))
    assert (grey(View(path, window=(127.5, 255))) == 255 - values).all()


def test_eight_bits_are_shown_in_full_and_monochrome1_is_inverted(tmp_path):
    values = np.full((8, 8), 100, np.uint8)
    assert (grey(write_dicom(tmp_path / "two.dcm", values)) == 100).all()
    turned = write_dicom(tmp_path / "one.dcm", values, PhotometricInterpretation="MONOCHROME1")
    assert (grey(turned) == 155).all()


def test_padding_and_unused_bits_do_not_count(tmp_path):
    values = ramp(0, 1000)
    values[:16] = -2000
    path = write_dicom(tmp_path / "padded.dcm", values, PixelPaddingValue=-2000)
    low, high = np.percentile(values[16:], (1, 99))
    assert (grey(path) == stretched(values, low, high)).all()
    words = ramp(0, 4095).astype(np.uint16)
    plain = write_dicom(tmp_path / "plain.dcm", words, BitsStored=12, HighBit=11)
    overlaid = write_dicom(tmp_path / "overlaid.dcm", words | 0xF000, BitsStored=12, HighBit=11)
    assert (grey(overlaid) == grey(plain)).all()


def test_frames_have_their_own_windows(tmp_path):
    def group(centre: int, slope: int) -> Dataset:
        item, window, rescale = Dataset(), Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 100
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, 0
        item.FrameVOILUTSequence = Sequence([window])
        item.PixelValueTransformationSequence = Sequence([rescale])
        return item

    pixels = np.stack([ramp(0, 100), ramp(0, 100)])
    groups = Sequence([group(50, 1), group(200, 2)])
    path = write_dicom(tmp_path / "a.dcm", pixels, PerFrameFunctionalGroupsSequence=groups)
    assert np.abs(grey(path).astype(int) - stretched(pixels[0], 0, 99)).max() <= 1
    assert np.abs(grey(View(path, 1)).astype(int) - stretched(pixels[1] * 2, 150, 249)).max() <= 1
    with pytest.raises(DataError, match="has no frame 2; its frames are 0 to 1"):
        open_image(View(path, 2))


def test_colour_by_plane_palette_and_cut(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
    by_pixel = write_dicom(tmp_path / "pixel.dcm", colours, PlanarConfiguration=0, **tags)
    planes = np.ascontiguousarray(colours.transpose(2, 0, 1)).reshape(6, 8, 3)
    by_plane = write_dicom(tmp_path / "plane.dcm", planes, PlanarConfiguration=1, **tags)
    for path in (by_pixel, by_plane):
        assert (np.asarray(open_image(path)) == colours).all()
    cut = View(by_pixel, crop=(2, 1, 5, 6))
    assert open_image(cut).size == (3, 5) == image_size(cut)
    assert (np.asarray(open_image(cut)) == colours[1:6, 2:5]).all()
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, shift in (("Red", 0), ("Green", 1), ("Blue", 2)):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        table = (np.arange(256, dtype=np.uint16) * (shift + 1) % 256) << 8
        palette[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    path = write_dicom(tmp_path / "palette.dcm", np.arange(256, dtype=np.uint8).reshape(16, 16), **palette)
    shown = np.asarray(open_image(path)).reshape(256, 3)
    assert np.abs(shown[[10, 100]].astype(int) - [[10, 20, 30], [100, 200, 44]]).max() <= 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_give_the_same_picture(tmp_path, syntax):
    assert (
        grey(write_dicom(tmp_path / "a.dcm", ramp(), syntax)) == grey(write_dicom(tmp_path / "b.dcm", ramp()))
    ).all()


def test_a_file_without_a_suffix_is_recognised_by_its_first_bytes(tmp_path):
    for name in ("IM0001", "1.2.840.1", "SCAN.DCM"):
        write_dicom(tmp_path / name, ramp())
    (tmp_path / "notes").write_text("no picture\n")
    write_dicom(tmp_path / "DICOMDIR", ramp())
    assert {path.name for path in find_images(tmp_path)} == {"IM0001", "1.2.840.1", "SCAN.DCM"}
    assert open_image(tmp_path / "IM0001").size == (32, 32)


def text(path: Path) -> Path:
    path.write_text("not a scan\n" * 100)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def cut_short(path: Path) -> Path:
    write_dicom(path, ramp())
    path.write_bytes(path.read_bytes()[:-700])
    return path


def without_pixels(path: Path) -> Path:
    write_dicom(path, ramp())
    known = pydicom.dcmread(path)
    del known.PixelData
    known.save_as(path)
    return path


def unknown_syntax(path: Path) -> Path:
    write_dicom(path, ramp())
    known = pydicom.dcmread(path)
    known.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    known.PixelData = encapsulate([known.PixelData])
    known.save_as(path)
    return path


def damaged_rle(path: Path) -> Path:
    write_dicom(path, ramp())
    known = pydicom.dcmread(path)
    known.compress(RLELossless)
    known.save_as(path)
    path.write_bytes(path.read_bytes()[:-300] + b"\x7f" * 300)
    return path


FAULTS = {
    "no such image file": lambda path: path,
    "0 bytes": empty,
    "not a DICOM file": text,
    "truncated": cut_short,
    "damaged DICOM header|contains .*, not a picture": cut_in_the_header,
    "contains no pixel data": without_pixels,
    "MPEG2 .* cannot be decoded": unknown_syntax,
    "pixel data damaged|truncated": damaged_rle,
    "60000x60000 is more than": lambda path: write_dicom(path, ramp(), Rows=60_000, Columns=60_000),
    "0x32 is not a picture size": lambda path: write_dicom(path, ramp(), Columns=0),
    "NumberOfFrames is 999999999, which the file cannot hold": lambda path: write_dicom(
        path, ramp(), NumberOfFrames=999_999_999
    ),
    "rescale or window tags are damaged": lambda path: write_dicom(path, ramp(), DoseGridScaling=[1, 2]),
    "colours .PALETTE COLOR. cannot be read": lambda path: write_dicom(
        path, ramp().astype(np.uint16), PhotometricInterpretation="PALETTE COLOR"
    ),
}


@pytest.mark.parametrize("says", FAULTS)
def test_an_unreadable_file_is_reported_without_the_patient(tmp_path, says):
    path = FAULTS[says](tmp_path / "a.dcm")
    with warnings.catch_warnings(record=True) as warned, pytest.raises(DataError, match=says) as caught:
        open_image(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert not any(private in f"{line} {[str(each.message) for each in warned]}" for private in PRIVATE)


def test_a_deflated_bomb_is_refused(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((512, 512), np.int16), DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 4096
    monkeypatch.setattr(dicom, "MAX_INFLATED", 100_000)
    with pytest.raises(DataError, match="inflates to more than 100000 bytes"):
        open_image(path)


@pytest.mark.parametrize(
    ("window", "modality", "says"),
    [
        ("lungs", "CT", "did you mean 'lung'"),
        ("lung", "MR", "applies only to CT"),
        ("tag", "CT", "has no window tag"),
        ("p99-p1", "CT", "invalid window .p99-p1."),
        ((40, 0), "CT", "has no width"),
    ],
)
def test_a_window_that_does_not_apply_is_reported(tmp_path, window, modality, says):
    path = write_dicom(tmp_path / "a.dcm", ramp(), Modality=modality)
    with pytest.raises(DataError, match=says):
        open_image(View(path, window=window))


@pytest.mark.parametrize(
    "view",
    [View(Path("a#b.dcm"), 3, "p1-p99", (1, 2, 3, 4)), View(Path("a.dcm"), 0, (40, 80.5)), View(Path("a & b=c.png"))],
)
def test_a_view_is_parsed_from_its_line(view):
    assert picture_of(str(view)) == view
    assert picture_of(str(view.path)) == view.path


@pytest.mark.parametrize("mode", ["I;16", "L", "F", "I"])
def test_scans_in_other_formats_take_a_window(tmp_path, mode):
    values = (ramp(0, 250)).astype({"I;16": np.uint16, "L": np.uint8, "F": np.float32, "I": np.int32}[mode])
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert (grey(View(tmp_path / "a.tif", window=(100, 50))) == stretched(values, 75, 125)).all()
    assert (grey(View(tmp_path / "a.tif", window="p5-p95")) == stretched(values, *np.percentile(values, (5, 95)))).all()
    assert (grey(View(tmp_path / "a.tif", window="abdomen")) == stretched(values, -150, 250)).all()
    with pytest.raises(DataError, match="only DICOM files have a window tag"):
        open_image(View(tmp_path / "a.tif", window="tag"))
