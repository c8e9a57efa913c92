"""Serving sends exactly the tokens that training saw, for every family, with images and turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import torch
from PIL import Image

from datasets_vision.example import Turn
from tests.decoding.oracle import form_of
from tests.families import SEEING
from tests.forms import whole_form
from vlm_ft.answers.box_format import GRID
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Text
from vlm_ft.bases.load import Base
from vlm_ft.bases.reader import open_reader
from vlm_ft.bases.tiny import TINY
from vlm_ft.conversation import IGNORED, Batch, Conversation, Row, special_tokens
from vlm_ft.errors import DataError, FormError
from vlm_ft.tasks import TASKS

READING = [name for name in TINY if name not in SEEING]
ASKED = (Turn("user", "What of this part?"),)
TALKED = (Turn("user", "Look closely."), Turn("assistant", "I do. It is a part."), Turn("user", "Is it good?"))
CASES = [(name, images) for name in TINY for images in (0, 1, 2) if images == 0 or name in SEEING]
EVERY_CASE = pytest.mark.parametrize(("name", "images"), CASES)
EVERY_FAMILY = pytest.mark.parametrize("name", list(TINY))

TARGET = '{"passed":false,"kind":"scratch"}'


@pytest.fixture(scope="module")
def talk(tiny_folder: Callable[[str], Path]) -> Callable[[str], Conversation]:
    """The conversation of a family's tiny base, read once, since nothing here changes it."""
    return cache(lambda name: Conversation(open_reader(str(tiny_folder(name)))))


def pictures(count: int) -> tuple[Image.Image, ...]:
    """Pictures of different shapes and colours."""
    shapes = ((120, 80), (64, 96), (90, 90))
    return tuple(Image.new("RGB", shapes[index], (40 * index, 90, 200)) for index in range(count))


def row_of(batch: Batch, index: int) -> list[int]:
    """A row's tokens without padding."""
    return batch["input_ids"][index][batch["attention_mask"][index].bool()].tolist()


@EVERY_CASE
@pytest.mark.parametrize("turns", [(), ASKED, TALKED], ids=["no text", "a question", "several turns"])
def test_serving_sends_the_same_tokens_as_training(
    name: str, images: int, turns: tuple[Turn, ...], talk: Callable[[str], Conversation], form: Form
) -> None:
    conversation = talk(name)
    row = Row(form, turns, pictures(images), TARGET)
    trained, served = conversation.encode([row], supervised=True), conversation.encode([row])
    supervised = trained["labels"][0] != IGNORED
    first = int(supervised.nonzero()[0])
    assert trained["input_ids"][0, :first].tolist() == row_of(served, 0)
    assert served.keys() == trained.keys() - {"labels"}
    for key in served.keys() - {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}:
        assert torch.equal(served[key], trained[key]), key


@EVERY_CASE
def test_only_the_answer_and_the_end_of_turn_are_supervised(
    name: str, images: int, talk: Callable[[str], Conversation], form: Form, tiny_base: Callable[[str], Base]
) -> None:
    conversation = talk(name)
    batch = conversation.encode([Row(form, TALKED, pictures(images), TARGET)], supervised=True)
    labels, ids = batch["labels"][0], batch["input_ids"][0]
    places = (labels != IGNORED).nonzero().flatten()
    assert places.tolist() == list(range(int(places[0]), len(ids)))  # one contiguous stretch, up to the end
    assert torch.equal(labels[places], ids[places])
    text = conversation.tokenizer.decode(ids[places])
    assert text.startswith(TARGET)
    end = conversation.tokenizer(text.removeprefix(TARGET), add_special_tokens=False)["input_ids"]
    stops = tiny_base(name).model.generation_config.eos_token_id
    assert len(end) == 1
    assert end[0] in (stops if isinstance(stops, list) else [stops])


@EVERY_CASE
def test_a_row_is_the_same_in_a_batch(name: str, images: int, talk: Callable[[str], Conversation], form: Form) -> None:
    conversation = talk(name)
    rows = [
        Row(form, turns, pictures(images)[::step], target)
        for turns, step, target in (
            (ASKED, 1, TARGET),
            (TALKED, -1, '{"passed":true,"kind":"another"}'),
            (ASKED, 1, TARGET),
        )
    ]
    for supervised in (False, True):
        together = conversation.encode(rows, supervised=supervised)
        kept = together["attention_mask"].bool()
        for index, row in enumerate(rows):
            alone = conversation.encode([row], supervised=supervised)
            for key in ("input_ids", "labels", "token_type_ids", "mm_token_type_ids"):
                if key in alone:
                    assert together[key][index][kept[index]].tolist() == alone[key][0].tolist(), key
        if supervised:
            assert set(together["labels"][~kept].tolist()) <= {IGNORED}


@pytest.mark.parametrize("name", SEEING)
def test_a_row_has_the_same_logits_in_a_batch_as_alone(
    name: str, talk: Callable[[str], Conversation], form: Form, tiny_base: Callable[[str], Base]
) -> None:
    conversation = talk(name)
    model = tiny_base(name).model
    rows = [Row(form, ASKED, pictures(1)), Row(form, TALKED, pictures(3)[2:])]
    with torch.inference_mode():
        together = model(**conversation.encode(rows)).logits[:, -1]
        alone = torch.cat([model(**conversation.encode([row])).logits[:, -1] for row in rows])
    # other shapes use other kernels, which sum in another order, so float32 differs in its last digits
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@EVERY_FAMILY
def test_the_constant_part_comes_first_if_the_family_allows_it(
    name: str, talk: Callable[[str], Conversation], form: Form
) -> None:
    conversation = talk(name)
    base = conversation.reader
    prompt = conversation.prompt(Row(form, ASKED, pictures(int(base.sees))))
    assert prompt.count(form.prompt) == 1
    assert prompt.index(form.prompt) < prompt.index(ASKED[0].text)
    if base.sees:
        image = _first_image(conversation, prompt)
        assert (prompt.index(form.prompt) < image) == base.family.system_role


def _first_image(conversation: Conversation, prompt: str) -> int:
    """The position of an image's first placeholder."""
    processor, base = conversation.reader.processor, conversation.reader
    names = (getattr(processor, "image_token", None), getattr(base.tokenizer, "boi_token", None), "<image>")
    return min(prompt.index(name) for name in names if name and name in prompt)


@EVERY_FAMILY
def test_users_and_assistants_take_turns(name: str, talk: Callable[[str], Conversation], form: Form) -> None:
    """Whoever speaks first, or twice, every word is kept, in order."""
    conversation = talk(name)
    roles = ("assistant", "user", "user", "assistant", "user")
    said = [Turn(role, f"word {place}") for place, role in enumerate(roles)]
    for start, count in enumerate((5, 3, 3, 3, 1)):
        row = Row(form, tuple(said[start:]), pictures(int(conversation.reader.sees)))
        roles = [message["role"] for message in conversation.messages(row)][
            int(conversation.reader.family.system_role) :
        ]
        assert roles == ["user", "assistant", "user", "assistant", "user"][:count]
        prompt = conversation.prompt(row)
        places = [prompt.index(turn.text) for turn in said[start:]]
        assert places == sorted(places)


@pytest.mark.parametrize("name", SEEING)
def test_two_images_are_placed_in_the_first_user_turn(
    name: str, talk: Callable[[str], Conversation], form: Form
) -> None:
    conversation = talk(name)
    counts = [conversation.lengths(Row(form, TALKED, pictures(count)))[1] for count in (0, 1, 2)]
    assert counts[0] == 0
    assert min(counts[1:]) > 0  # two may take fewer than one: LLaVA-OneVision tiles a single image alone
    if conversation.reader.family.system_role:
        first, second = conversation.messages(Row(form, TALKED, pictures(2)))[1::2]
        assert [part["type"] for part in first["content"]] == ["image", "image", "text"]
        assert [part["type"] for part in second["content"]] == ["text"]


@EVERY_FAMILY
def test_the_view_shows_the_row(name: str, talk: Callable[[str], Conversation], form: Form) -> None:
    conversation = talk(name)
    row = Row(form, ASKED, pictures(int(conversation.reader.sees)), TARGET)
    pieces = conversation.view(row)
    assert [supervised for _, supervised in pieces] == sorted(supervised for _, supervised in pieces)
    assert "".join(text for text, supervised in pieces if supervised) == conversation.tokenizer.decode(
        conversation.completion(row).ids
    )
    assert any("image tokens]" in text for text, _ in pieces) == conversation.reader.sees


def test_rows_of_image_tokens_are_numbered_for_boxes_only(talk: Callable[[str], Conversation], form: Form) -> None:
    conversation = talk("fast_vlm")
    image = conversation.reader.image_token_id

    def tokens(form: Form) -> list[int]:
        return row_of(conversation.encode([Row(form, ASKED, pictures(2))]), 0)

    asked = whole_form(TASKS["product_defects"]).narrow(("passed", "findings"))
    unnumbered = GRID.model_copy(update={"numbered_rows": False})
    plain, numbered = tokens(asked.with_boxes(unnumbered)), tokens(asked.with_boxes(GRID))
    side = math.isqrt(plain.count(image) // 2)
    rows = [str(GRID.row_number(row, side)) for row in range(side)] * 2
    runs = [(key, list(run)) for key, run in groupby(numbered, key=lambda token: token == image)]
    assert [len(run) for key, run in runs if key] == [side] * len(rows)
    labels = [conversation.tokenizer.decode(run) for key, run in runs if not key][:-1]
    assert [label[-1:] for label in labels] == rows
    assert len(numbered) == len(plain) + len(rows)
    assert tokens(form) == tokens(form.with_boxes(GRID))


@pytest.mark.parametrize("name", READING)
def test_a_text_base_takes_no_image(name: str, talk: Callable[[str], Conversation], form: Form) -> None:
    with pytest.raises(DataError, match="takes no images"):
        talk(name).encode([Row(form, ASKED, pictures(1))])


def test_a_row_that_cannot_be_encoded_is_reported(
    talk: Callable[[str], Conversation], form: Form, tmp_path: Path
) -> None:
    conversation = talk("qwen3_vl")
    with pytest.raises(FormError, match="no target"):
        conversation.encode([Row(form, ASKED, pictures(1))], supervised=True)
    with pytest.raises(DataError, match="no such image file"):
        conversation.encode([Row(form, ASKED, (tmp_path / "none.png",))])


@EVERY_FAMILY
def test_special_tokens_in_messages_are_plain_text(name: str, talk: Callable[[str], Conversation]) -> None:
    """A special token in a question or an answer is plain text: it ends no turn and represents no image."""
    conversation, form = talk(name), form_of(note=Text(max_length=100))
    images = pictures(int(conversation.reader.sees))

    def counted(word: str) -> dict[str, int]:
        row = Row(form, (Turn("user", f"x {word} x"),), images, form.target({"note": word}))
        ids = row_of(conversation.encode([row], supervised=True), 0)
        return {token: ids.count(conversation.tokenizer.convert_tokens_to_ids(token)) for token in special}

    special = special_tokens(conversation.reader)
    plain = counted("word")
    for token in special:
        assert counted(token) == plain, token


@pytest.mark.parametrize("name", ["qwen3_vl", "llama"])
def test_the_hash_of_a_template_does_not_depend_on_the_time(name: str, tiny_folder: Callable[[str], Path]) -> None:
    """Some templates write the date, as those of Llama 3 do."""
    conversation = Conversation(open_reader(str(tiny_folder(name))))
    plain = conversation.template_hash()
    conversation.reader.processor.chat_template += "{{ strftime_now('%f') }}"  # microseconds
    dated = conversation.template_hash()
    assert plain != dated == conversation.template_hash()
    conversation.reader.processor.chat_template += "."
    assert conversation.template_hash() != dated
