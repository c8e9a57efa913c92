"""Photos that a person should look at, but that cannot be shown, are counted and named with the reason."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from demo.batch_tab import _pictures, _unshown
from tests.demo.test_views import Markup


def test_photos_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000)).save(tmp_path / "whole.png")
    (tmp_path / "<b>cut.jpg").write_bytes(b"no image")
    pictures, problems = _pictures(tmp_path, ["whole.png", "<b>cut.jpg", "gone.png"])
    assert [name for _, name in pictures] == ["whole.png"]
    text = Markup(_unshown(problems)).text
    assert "Photos that cannot be shown: 2" in text
    assert "<b>cut.jpg: not a readable image" in text
    assert "gone.png: " in text
    assert str(tmp_path) not in text
    assert _unshown([]) == ""
