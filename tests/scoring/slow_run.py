"""Scores a folder slowly, in a process that a test kills: slow_run.py FOLDER OUT LOG."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.cards import card_of, sample_prediction
from tests.forms import whole_form
from tests.scoring.conftest import Canned
from vlm_ft.answers.prediction import Prediction
from vlm_ft.inference.request import Request
from vlm_ft.scoring.score import score_folder
from vlm_ft.tasks import TASKS


def main(folder: Path, out: Path, log: Path) -> None:
    task = TASKS["product_defects"]

    def answer(request: Request) -> Prediction:
        time.sleep(0.01)
        with log.open("a") as file:
            file.write(f"{request.images[0].getpixel((0, 0))[0]}\n")  # every image has its own colour
        return sample_prediction(task)

    score_folder(Canned(card_of(whole_form(task)), answer), "trial", folder, out, batch_size=8)


main(*(Path(argument) for argument in sys.argv[1:]))
