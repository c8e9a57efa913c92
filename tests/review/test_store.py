"""Verdicts are stored with their photos, without metadata, and read back as training data."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.formats.reviews import PHOTOS
from datasets_vision.source import Source, read
from vlm_ft.adapters import Card, read_card
from vlm_ft.data.cases import Case
from vlm_ft.errors import FormError
from vlm_ft.review.store import Reviews
from vlm_ft.tasks import TASKS


def answer_of(card: Card) -> dict[str, object]:
    return {"passed": True, "kind": card.form.field("kind").kind.options[0]}  # type: ignore[union-attr]


@pytest.fixture
def card(run_of: Callable[..., Path]) -> Card:
    return read_card(run_of("fast_vlm") / "adapter")


def photo(red: int) -> Image.Image:
    image = Image.new("RGB", (12, 9), (red, 0, 0))
    image.getexif()[0x010E] = "SECRET"
    return image


def test_corrections_are_cases_to_learn_from(card: Card, tmp_path: Path) -> None:
    kinds = card.form.field("kind").kind.options  # type: ignore[union-attr]
    answer, correct = {"passed": True, "kind": kinds[0]}, {"passed": False, "kind": kinds[1]}
    store = Reviews(tmp_path)
    store.add(card, [photo(1)], "", answer, "accepted", reviewer="ann")
    store.add(card, [photo(2)], "", answer, "corrected", correct)
    store.add(card, [photo(3)], "", answer, "rejected")
    cases = [Case.of(TASKS["product_defects"], example) for example in read(Source(path=tmp_path)).examples]
    assert [case.values for case in cases] == [answer, correct, {}]
    assert [[(reply.values, reply.liked) for reply in case.replies] for case in cases] == [
        [(answer, True)],
        [(correct, True), (answer, False)],
        [(answer, False)],
    ]
    assert [review.reviewer for review in store.last()] == ["ann", None, None]


def test_the_version_that_answered_is_stored(card: Card, tmp_path: Path) -> None:
    store = Reviews(tmp_path)
    store.add(card, [photo(1)], "", answer_of(card), "accepted")
    store.add(card.model_copy(update={"number": 3}), [photo(2)], "", answer_of(card), "accepted")
    unnumbered, numbered = store.last()
    assert (unnumbered.version, numbered.version) == (None, 3)
    assert unnumbered.card == numbered.card == card.fingerprint
    assert numbered.answered_by == f"3 ({card.fingerprint[:8]})"


def test_reviews_without_a_version_can_still_be_read(card: Card, tmp_path: Path) -> None:
    store = Reviews(tmp_path)
    store.add(card, [photo(1)], "", answer_of(card), "accepted")
    lines = tmp_path / "reviews.jsonl"
    entry = json.loads(lines.read_text())
    del entry["version"], entry["card"]
    lines.write_text(json.dumps(entry) + "\n")
    assert [review.answered_by for review in store.last()] == ["unknown"]
    assert len(read(Source(path=tmp_path)).examples) == 1


def test_a_later_verdict_replaces_the_earlier_one(card: Card, tmp_path: Path) -> None:
    store, answer = Reviews(tmp_path), answer_of(card)
    for verdict in ("rejected", "accepted"):
        store.add(card, [photo(1)], "", answer, verdict)  # type: ignore[arg-type]
    store.add(card, [photo(1)], "another text", answer, "accepted")
    assert [(review.verdict, review.text) for review in store.last()] == [
        ("accepted", ""),
        ("accepted", "another text"),
    ]
    assert len(list((tmp_path / PHOTOS).iterdir())) == 1


def test_a_verdict_on_another_adapters_answer_replaces_nothing(card: Card, tmp_path: Path) -> None:
    store, other = Reviews(tmp_path), card.model_copy(update={"name": "other"})
    store.add(card, [photo(1)], "", answer_of(card), "accepted")
    store.add(other, [photo(1)], "", answer_of(card), "rejected")
    assert [review.verdict for review in store.of(card.name, card.form.task)] == ["accepted"]
    assert [review.verdict for review in store.of("other", card.form.task)] == ["rejected"]


def test_photos_are_stored_without_metadata(card: Card, tmp_path: Path) -> None:
    Reviews(tmp_path).add(card, [photo(1)], "", answer_of(card), "accepted")
    (stored,) = (tmp_path / PHOTOS).iterdir()
    assert b"SECRET" not in stored.read_bytes()
    with Image.open(stored) as image:
        assert image.getpixel((3, 3)) == (1, 0, 0)


def test_a_correction_must_fit_the_form(card: Card, tmp_path: Path) -> None:
    with pytest.raises(FormError, match="kind: 'no such' does not fit"):
        Reviews(tmp_path).add(card, [], "text", answer_of(card), "corrected", {"passed": True, "kind": "no such"})
    assert Reviews(tmp_path).last() == []


def test_a_correction_without_a_change_is_an_acceptance(card: Card, tmp_path: Path) -> None:
    answer = {"passed": True, "kind": card.form.field("kind").kind.options[0]}  # type: ignore[union-attr]
    review = Reviews(tmp_path).add(card, [photo(1)], "", answer, "corrected", dict(answer))
    assert (review.verdict, review.correct) == ("accepted", None)


def test_threads_lose_no_verdict(card: Card, tmp_path: Path) -> None:
    store = Reviews(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: store.add(card, [photo(number % 8)], str(number), answer_of(card), "rejected"), range(64)
            )
        )
    assert len(store.last()) == 64


def test_an_answer_must_fit_the_form(card: Card, tmp_path: Path) -> None:
    for verdict in ("accepted", "rejected"):
        with pytest.raises(FormError, match="does not fit"):
            Reviews(tmp_path).add(card, [], "text", {"passed": "maybe", "kind": "pit"}, verdict)  # type: ignore[arg-type]


def test_a_broken_line_does_not_affect_the_others(card: Card, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Reviews(tmp_path)
    store.add(card, [], "line one\u2028line two\x85line three", answer_of(card), "rejected")
    with (tmp_path / "reviews.jsonl").open("a") as file:
        file.write('{"case": 1}\n{"torn')
    store.add(card, [], "another", answer_of(card), "accepted")
    assert [review.text for review in store.last()] == ["line one\u2028line two\x85line three", "another"]
    assert "reviews.jsonl:2: is not a review" in caplog.text
    assert "reviews.jsonl:3: is not a review" in caplog.text
    assert len(read(Source(path=tmp_path)).examples) == 2
