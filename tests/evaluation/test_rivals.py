"""Every rival answers what it can learn from the training examples, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets_vision.example import Example, Turn
from tests.cards import answered
from tests.evaluation.made import Scripted, clause_cases, defect_cases, form_of
from vlm_ft.adapters import ADAPTER
from vlm_ft.answers.form import Form
from vlm_ft.answers.metrics import match_items
from vlm_ft.bases.load import load_base
from vlm_ft.bases.tower import Tower
from vlm_ft.conversation import Row
from vlm_ft.data.cases import Case
from vlm_ft.evaluation.evaluate import evaluate
from vlm_ft.evaluation.pairs import RULES
from vlm_ft.evaluation.rivals import RIVALS
from vlm_ft.evaluation.rivals.rival_data import Attempt, RivalData
from vlm_ft.inference.engine import Engine

BASES = ["fast_vlm", "llava_siglip_qwen2", "llava_clip_llama", "qwen3_vl", "llava_onevision", "idefics3", "internvl"]


def data(form: Form, train: Sequence[Case], tune: Sequence[Case], test: Sequence[Case], **options: Any) -> RivalData:
    return RivalData(form, train, tune, [case.example for case in test], **options)


def attempts(given: RivalData) -> dict[str, Attempt]:
    found = {name: rival.answer(given) for name, rival in RIVALS.items()}
    return {name: attempt for name, attempt in found.items() if attempt is not None}


@pytest.mark.parametrize("base", BASES)
def test_a_tower_gives_one_row_per_image_whatever_its_neighbours(
    base: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    tower = Tower(load_base(str(tiny_folder(base))))
    pictures = [case.example.images[0] for case in defect_cases(tmp_path, 3)]
    rows = tower.pooled(pictures)
    assert rows.shape[0] == 3
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows[1:2], tower.pooled(pictures[1:2]), rtol=1e-3, atol=1e-5)  # sums in another order
    grids = tower.grids(pictures)
    if grids is not None:
        assert grids.shape[:2] == (3, rows.shape[1] // 2)


def test_rivals_see_the_original_tower_even_if_the_adapter_trained_it(
    untrained_run_of: Callable[..., Path], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    run = untrained_run_of("llava_siglip_qwen2", adapter={"vision": "full"})
    engine = Engine.open([run / ADAPTER])
    pictures = [case.example.images[0] for case in defect_cases(tmp_path, 2)]
    bare = Tower(load_base(str(tiny_folder("llava_siglip_qwen2")))).pooled(pictures)
    np.testing.assert_array_equal(Tower(engine.base).pooled(pictures), bare)


@pytest.mark.parametrize("base", ["llava_siglip_qwen2", "fast_vlm"])
def test_colours_are_learned_from_a_frozen_tower(base: str, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    cases = defect_cases(tmp_path, 48)
    blind = Case(clause_cases()[0].example, {"kind": "pit"})
    tower = Tower(load_base(str(tiny_folder(base))))
    form = form_of("product_defects", cases).narrow(("passed", "kind"))
    found = attempts(data(form, cases[:30], cases[30:39], [*cases[39:], blind], tower=tower))
    assert set(found) == {"majority", "probe"}
    *answers, last = found["probe"].predictions
    assert last.error is not None
    right = [answer.values["kind"] == case.values["kind"] for answer, case in zip(answers, cases[39:], strict=True)]
    assert sum(right) >= 5  # 3 by chance: even a random tower preserves colours
    assert all(isinstance(answer.values["passed"], bool) for answer in answers)
    assert "C=" in found["probe"].settings


class Squares:
    """A tower that sees where an object is: its map has the kind in the cells of the box."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.items = {case.example.images[0]: case.values["findings"] for case in cases}

    def grids(self, pictures: Sequence[Path]) -> torch.Tensor:
        maps = torch.zeros(len(pictures), 3, 10, 10, dtype=torch.half)
        for place, picture in enumerate(pictures):
            for item in self.items[picture]:
                left, top, right, bottom = (round(side / 100) for side in item["box"])
                maps[place, ("pit", "scratch").index(item["kind"]), top:bottom, left:right] = 1
                maps[place, 2, (top + bottom) // 2, (left + right) // 2] = 1
        return maps

    def pooled(self, pictures: Sequence[Path]) -> np.ndarray[Any, Any]:
        return np.zeros((len(pictures), 2))


def test_a_detector_finds_what_the_map_shows(tmp_path: Path) -> None:
    cases = defect_cases(tmp_path, 60)
    form = form_of("product_defects", cases).narrow(("findings",))
    state = torch.random.get_rng_state()
    given = data(form, cases[:40], cases[40:50], cases[50:], tower=Squares(cases), seconds=20)
    attempt = attempts(given)["detector"]
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random state is unchanged
    kind: Any = form.field("findings").kind
    truths = [case.values["findings"] for case in cases[50:]]
    answers = [prediction.values["findings"] for prediction in attempt.predictions]
    hits = sum(len(match_items(kind, *pair)) for pair in zip(truths, answers, strict=True))
    assert 2 * hits / (sum(map(len, truths)) + sum(map(len, answers))) > 0.8
    for values in (prediction.values for prediction in attempt.predictions):
        assert form.parse(form.target(values)) == values


def test_texts_are_answered_from_their_words() -> None:
    cases = [
        Case(
            Example(id=str(number), turns=(Turn("user", f"A study of {topic} {number}\nWe measure {topic}."),)),
            {"clause_type": topic, "risk": "low", "summary": f"On {topic}."},
        )
        for number, topic in enumerate(["audit", "notice", "audit", "notice"] * 5)
    ]
    form = form_of("legal_documents", cases)
    found = attempts(data(form, cases[:12], cases[12:16], cases[16:]))
    assert set(found) == {"majority", "words", "neighbour", "first line"}
    for case, words, near, title in zip(
        cases[16:], *(found[name].predictions for name in ("words", "neighbour", "first line")), strict=True
    ):
        assert (words.values["clause_type"], words.values["risk"]) == (case.values["clause_type"], "low")
        assert near.values == {"summary": case.values["summary"]}
        assert title.values["summary"].startswith("A study of")


def test_without_anything_to_learn_there_is_no_attempt() -> None:
    cases = clause_cases()
    form = form_of("legal_documents", cases)
    assert attempts(data(form, [], [], cases)) == {}


def numbered(texts: Sequence[str]) -> list[Case]:
    return [
        Case(
            Example(id=str(index), turns=(Turn("user", text),)),
            {"clause_type": ("audit", "notice")[index % 2], "summary": f"Number {index}."},
        )
        for index, text in enumerate(texts)
    ]


def test_rivals_that_need_words_are_left_out_with_a_note_if_no_text_has_any() -> None:
    cases = numbered(["7", "€ 5", "--", "x = 2"] * 3)
    form = form_of("legal_documents", cases)
    asked = Scripted(form, lambda request: answered(cases[0].values))
    evaluation = evaluate(asked, "made", cases[8:], train=cases[:8], rivals=RIVALS)
    assert set(evaluation.systems) == {"base", "adapter", "majority"}
    assert [note for note in evaluation.notes if "no training text has a word" in note] == [
        f"The rival {name} is left out: no training text has a word of two or more characters."
        for name in ("words", "neighbour")
    ]


def test_texts_without_words_teach_nothing_but_are_answered() -> None:
    cases = numbered(["7", "the audit", "8", "the notice"] * 3)
    form = form_of("legal_documents", cases)
    found = attempts(data(form, cases[:8], [], cases[8:]))
    assert all(answer.error is None for name in ("words", "neighbour") for answer in found[name].predictions)
    assert found["neighbour"].predictions[1].values == {"summary": "Number 1."}


def test_word_overlap_is_the_share_of_a_reply_that_the_prompt_has() -> None:
    case = Case(Example("a", turns=(Turn("user", "Door seal torn."),)), {"reply": "Replaced the SEAL."})
    form = form_of("industry_language", [case])
    row = Row(form, case.example.turns, (), form.target(case.values))
    assert RULES["word overlap"](row) == pytest.approx(1 / 3)
    assert RULES["longer reply"](row) == len('{"reply":"Replaced the SEAL."}')
