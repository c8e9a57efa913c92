"""The app, as the package `vlm_ft.demo`: a checkout has it in `demo`, a wheel in the folder of this name."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "demo")]
