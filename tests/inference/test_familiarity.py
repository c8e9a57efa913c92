"""Familiar examples are flagged as often as stated, strange ones nearly always, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from weakref import ref

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image
from rich.console import Console

from datasets_vision.example import Picture, Turn
from datasets_vision.images import opened
from tests.decoding.oracle import closed_form
from tests.families import SEEING
from tests.untrained import write_run
from vlm_ft.adapters import ADAPTER, FAMILIARITY, read_card
from vlm_ft.answers.confidence import Familiar
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.shared_images import tower_once_per_image
from vlm_ft.conversation import Conversation, Row
from vlm_ft.data.cases import load
from vlm_ft.errors import AdapterError
from vlm_ft.evaluation.calibrate import calibrate_run
from vlm_ft.inference import familiarity
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.familiarity import Description, Extractor, fit_familiarity, in_words, strangeness
from vlm_ft.inference.request import Request
from vlm_ft.recipe import Recipe, Tiling

CHANNELS = 200


def like(count: int, seed: int, domain: int = 0) -> np.ndarray:
    """Features of images of one domain: near one of its four kinds, and not negative, as after a rectifier."""
    kinds = np.abs(default_rng(domain).normal(size=(4, CHANNELS)))
    random = default_rng(seed)
    rows = kinds[random.integers(4, size=count)] + 0.3 * random.normal(size=(count, CHANNELS))
    return np.maximum(rows, 0).astype(np.float32)


def test_strange_features_are_distinguished_from_familiar_ones() -> None:
    none = [np.zeros((count, 0), dtype=np.float32) for count in (500, 2000)]
    description = Description.fit(like(500, 1), none[0])
    held_out = np.sort(strangeness(description.scores(like(2000, 2), none[1])))
    threshold = held_out[int(0.95 * 2000)]
    fresh = strangeness(description.scores(like(2000, 3), none[1]))
    assert (fresh > threshold).mean() == pytest.approx(0.05, abs=0.02)
    strange = strangeness(description.scores(like(2000, 4, domain=1), none[1]))
    assert (strange > threshold).mean() > 0.99


def test_a_description_is_small_and_reads_back(tmp_path: Path) -> None:
    features = default_rng(0).normal(size=(400, 1280)).astype(np.float32)
    quality = default_rng(1).normal(size=(400, 2)).astype(np.float32)
    description = Description.fit(features, quality)
    description.write(tmp_path)
    assert (tmp_path / FAMILIARITY).stat().st_size < 200_000
    again = Description.read(tmp_path).scores(features, quality)
    np.testing.assert_allclose(again, description.scores(features, quality))
    (tmp_path / FAMILIARITY).unlink()
    with pytest.raises(AdapterError, match=r"cannot be read \(No such file.*\); run vlm-ft calibrate again"):
        Description.read(tmp_path)


def test_the_reason_says_what_is_strange() -> None:
    assert "unlike" in in_words(np.array([9.0, 1.0, 1.0]), photo=True)
    assert "the text is unlike" in in_words(np.array([9.0]), photo=False)
    assert "blurred" in in_words(np.array([1.0, -9.0, 1.0]), photo=True)
    assert "brighter" in in_words(np.array([1.0, 1.0, 9.0]), photo=True)


@pytest.mark.parametrize("base", ["fast_vlm", "qwen3_vl"])
def test_an_adapter_asks_a_person_about_strange_photos(
    base: str, run_of: Callable[..., Path], drawings: Path, tmp_path: Path
) -> None:
    run = run_of(base)
    pictures = sorted((drawings / "JPEGImages").glob("*.png"))
    turned = [opened(picture).rotate(turn) for turn in range(0, 360, 20) for picture in pictures]
    shown = [Request(images=(photo,)) for photo in turned[:90]]
    found = fit_familiarity(Extractor(load_base(read_card(run / ADAPTER).base.name)), shown[:45], shown[45:])
    assert found is not None
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in (run / ADAPTER).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    description, familiar = found
    description.write(folder)
    read_card(folder).model_copy(update={"familiar": familiar}).write(folder)
    engine = Engine.open([folder])
    own, noise = opened(pictures[0]), Image.effect_noise((256, 256), 200).convert("RGB")
    plain, strange = engine.predict([Request(images=(photo,), adapter="trial") for photo in (own, noise)])
    assert strange.decision == "ask a person"
    assert "than those that the adapter was trained on" in strange.reason or "unlike" in strange.reason
    assert strange.values
    assert plain.values == Engine.open([run / ADAPTER]).predict([Request(images=(own,), adapter="trial")])[0].values
    stored = folder / FAMILIARITY
    stored.write_bytes(stored.read_bytes()[:100])
    for _ in ("damaged", "missing"):
        with pytest.raises(AdapterError, match=r"safetensors: cannot be read \(.*\); run vlm-ft calibrate again"):
            Engine.open([folder])
        stored.unlink(missing_ok=True)


def test_a_text_alone_is_left_to_a_person_if_all_examples_had_photos(
    run_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(copytree(run_of("fast_vlm") / ADAPTER, tmp_path / "adapter"))
    card, familiar = read_card(folder), Familiar(threshold=1.0, false_alarms=0.05, trained=60, held_out=60)
    card.model_copy(update={"familiar": familiar, "inputs": ("photo", "text")}).write(folder)
    random = default_rng(0)
    Description.fit(random.normal(size=(60, 256)).astype(np.float32), random.random((60, 2), np.float32)).write(folder)
    (answer,) = Engine.open([folder]).predict([Request(turns=(Turn("user", "A scratch?"),), adapter="trial")])
    assert (answer.decision, answer.reason) == ("ask a person", "the adapter was trained on examples with photos")
    assert answer.values


def test_a_photo_in_tiles_is_judged_by_most_of_them(
    recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(familiarity, "FEWEST", 5)
    recipe = recipe_of(
        "fast_vlm",
        fields=["findings.kind", "findings.box"],
        tiling={"side": 40, "overlap": 8},
        splits={"train": 0.3, "tune": 0.1, "calibrate": 0.5, "test": 0.1},
    )
    write_run(recipe, tmp_path / "run")
    calibrate_run(tmp_path / "run", console=quiet)
    engine, cases = Engine.open([tmp_path / "run" / ADAPTER]), load(recipe).cases

    def asked(photos: Sequence[Picture | Image.Image]) -> list[Prediction]:
        return engine.predict([Request(images=(photo,), adapter="trial") for photo in photos])

    held_out = [case.example.images[0] for case in cases["calibrate"]]
    shares = [answer.strange or 0 for answer in asked(held_out)]
    assert max(shares) == pytest.approx(1, abs=1e-3)  # of so few, the strangest sets the threshold
    noise = Image.effect_noise((64, 64), 200).convert("RGB")
    own = opened(held_out[int(np.argmin(shares))])
    own.paste(noise.crop((0, 0, 24, 24)), (0, 0))  # within one of four tiles
    partly, foreign = asked([own, noise])
    assert (partly.decision, foreign.decision) == ("answer", "ask a person")
    assert "adapter was trained on" in foreign.reason


def test_few_tiles_of_a_photo_are_held_at_once(
    tiny_base: Callable[[str], Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    crops: list[ref[Image.Image]] = []
    held: list[int] = []
    crop = Image.Image.crop

    def counted(photo: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
        tile = crop(photo, box)
        crops.append(ref(tile))
        held.append(sum(one() is not None for one in crops))
        return tile

    monkeypatch.setattr(Image.Image, "crop", counted)
    monkeypatch.setattr(familiarity, "FEWEST", 1)
    shown = [Request(images=(Image.effect_noise((160, 160), 50 + number),)) for number in range(4)]
    assert fit_familiarity(Extractor(tiny_base("fast_vlm")), shown, shown[:1], Tiling(side=16, overlap=0))
    assert len(held) >= 100
    assert max(held) <= 2 * familiarity.AT_ONCE  # one chunk, and the next one while it is cut


def test_no_photos_give_no_features(tiny_base: Callable[[str], Base]) -> None:
    features, quality = Extractor(tiny_base("fast_vlm")).of_photos([])
    assert (len(features), quality.shape) == (0, (0, 2))


@pytest.mark.parametrize("base", SEEING)
def test_reused_tower_features_equal_those_computed_alone(
    base: str, tiny_base: Callable[[str], Base], drawings: Path
) -> None:
    loaded = tiny_base(base)
    photos = [opened(picture) for picture in sorted((drawings / "JPEGImages").glob("*.png"))[:2]]
    photos[1] = photos[1].resize((150, 64))  # another number of tiles or patches
    shown = [photos[0], photos[1], photos[0]]
    conversation = Conversation(loaded.reader)
    batch = conversation.encode([Row(closed_form(), (), (photo,)) for photo in shown])
    with (
        torch.inference_mode(),
        tower_once_per_image(loaded.model, loaded.family, batch, [id(photo) for photo in shown]) as look,
    ):
        together = loaded.model(**batch).logits
        features = look.means(range(3))
    np.testing.assert_allclose(features, Extractor(loaded).of_photos(shown)[0], rtol=1e-4, atol=1e-5)  # another batch
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(**batch).logits, together, rtol=1e-4, atol=1e-4)


def test_texts_have_a_description_too(tiny_base: Callable[[str], Base]) -> None:
    extractor = Extractor(tiny_base("qwen3"))
    texts = [Request(turns=(Turn("user", f"cancel order {number} please"),)) for number in range(100)]
    found = fit_familiarity(extractor, texts[:50], texts[50:])
    assert found is not None
    description, familiar = found
    other = Request(turns=(Turn("user", "%%%% §§ 0x3f {{}} ;;"),))
    assert strangeness(description.scores(*extractor.of([other])))[0] > familiar.threshold
    assert fit_familiarity(extractor, texts[:10], texts[50:]) is None
    mixed = [*texts[:50], Request(images=(Image.new("RGB", (9, 9)),))]
    assert fit_familiarity(extractor, mixed, texts[50:]) is None


def test_texts_that_repeat_training_texts_give_a_threshold_to_divide_by() -> None:
    class Same:
        def of(self, inputs: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
            return np.ones((len(inputs), CHANNELS), np.float32), np.zeros((len(inputs), 0), np.float32)

    texts = [Request(turns=(Turn("user", "cancel"),))] * 50
    found = fit_familiarity(Same(), texts, texts)
    assert found is not None
    assert found[1].threshold > 0


def test_a_card_keeps_the_threshold() -> None:
    familiar = Familiar(threshold=3.0, false_alarms=0.05, trained=100, held_out=50)
    assert Familiar.model_validate_json(familiar.model_dump_json()) == familiar
