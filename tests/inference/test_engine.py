"""Answers do not depend on the rest of the batch, fit every form, and unusable inputs are reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from datasets_vision.example import Turn
from tests.families import SEEING, families
from tests.forms import whole_form
from tests.inference.likeness import alike, altered
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import FieldSpec, Items, Text
from vlm_ft.bases.load import load_base
from vlm_ft.bases.tiny import TINY
from vlm_ft.decoding import form_decoder
from vlm_ft.decoding.rows import Prefix
from vlm_ft.errors import AdapterError, FormError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request
from vlm_ft.tasks import TASKS

Runs = Callable[..., Path]
LORA = {"language": "lora", "projector": "lora"}
SCOPES = {
    "language": {"projector": "frozen"},
    "vision": {**LORA, "vision": "lora"},
    "projector": {"projector": "full"},
}
BASES = [("qwen3_vl", "language"), ("fast_vlm", "projector"), *(("llava_siglip_qwen2", scope) for scope in SCOPES)]
"""Bases, and what their adapters tune; test_mixing.py has the other combinations."""

ASKED = (Turn("user", "Is it good?"),)


def shortened(field: FieldSpec) -> FieldSpec:
    """Short texts and lists, since a random model fills each to its limit, one forward pass per token."""
    kind = field.kind
    if isinstance(kind, Text):
        kind = Text(max_length=12)
    if isinstance(kind, Items):
        kind = Items(fields=tuple(map(shortened, kind.fields)), max_items=2)
    return field.model_copy(update={"kind": kind})


def short(form: Form) -> Form:
    return form.model_copy(update={"fields": tuple(map(shortened, form.fields))})


@pytest.fixture(scope="module", params=BASES, ids="-".join)
def engine(request: pytest.FixtureRequest, untrained_run_of: Runs, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Two adapters on one base, with different weights and forms."""
    base, scope = request.param
    adapter = {**SCOPES[scope], "rank": 8, "alpha": 64}  # far enough from the base to answer differently
    one = untrained_run_of(base, adapter=adapter, fields=["passed", "kind", "findings"]) / ADAPTER
    two = altered(one, tmp_path_factory.mktemp("altered") / "two")
    opened = Engine(load_base(read_card(one).base.name), {"one": one, "two": two})
    for name, fields in (("one", ("passed", "kind")), ("two", ("kind", "findings"))):
        card = opened.cards[name]
        opened.cards[name] = card.model_copy(update={"form": short(card.form.narrow(fields))})
    return opened


def mixed(engine: Engine, photos: list[Path]) -> list[Request]:
    """Every system on every picture, some with text; the base answers the first adapter's form."""
    form = short(engine.cards["one"].form)
    return [
        Request(images=(photo,), adapter=adapter, turns=turns, form=form if adapter == BASE else None)
        for photo, turns in zip(photos, [(), ASKED], strict=True)
        for adapter in ("one", "two", BASE)
    ]


def test_a_mixed_batch_gives_the_same_answers_as_single_requests(engine: Engine, photos: list[Path]) -> None:
    requests = mixed(engine, photos)
    together = engine.predict(requests)
    alone = [engine.predict([request])[0] for request in requests]
    assert alike(together, alone)
    assert [answer.error for answer in together] == [None] * len(requests)


def test_order_and_batch_size_change_no_answer(engine: Engine, photos: list[Path]) -> None:
    requests = mixed(engine, photos)
    answers = engine.predict(requests)
    assert alike(engine.predict(requests[::-1])[::-1], answers)
    engine.batch_size, kept = 5, engine.batch_size
    assert alike(engine.predict(requests), answers)
    engine.batch_size = kept


def test_the_constant_prefix_is_computed_once_per_adapter(
    engine: Engine, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[tuple[int, ...]] = []

    class Counted(Prefix):
        def __init__(self, tokens: tuple[int, ...], *rest: Any) -> None:
            computed.append(tokens)
            super().__init__(tokens, *rest)

    monkeypatch.setattr(form_decoder, "Prefix", Counted)
    engine._decoder.forget(["one", "two"])
    for _ in range(2):
        engine.predict([Request(images=(photo,), adapter=name) for photo in photos for name in ("one", "two")])
    assert len(computed) == (2 if engine._decoder._shares else 0)


def test_the_least_recently_used_prefix_is_dropped(
    engine: Engine, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request(images=(photos[0],), adapter=name) for name in ("one", "two", "one")]
    engine._decoder.forget(["one", "two", BASE])
    answers = [engine.predict([request])[0] for request in requests]
    monkeypatch.setattr(form_decoder, "PREFIXES", 1)
    for request, answer in zip(requests, answers, strict=True):
        assert alike(engine.predict([request]), [answer])
        assert [name for name, *_ in engine._decoder._prefixes] == [request.adapter][: engine._decoder._shares]


def test_the_base_answers_as_in_an_engine_without_adapters(engine: Engine, photos: list[Path], run_of: Runs) -> None:
    base = load_base(engine.base.ref.name)
    bare = Engine(base)
    form = short(engine.cards["one"].form)
    request = Request(images=(photos[0],), form=form)
    assert alike(engine.predict([request]), bare.predict([request]))


def test_unreadable_input_is_an_error_in_its_place(engine: Engine, photos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:200])
    places = [photos[0], broken, photos[1], tmp_path / "none.png"]
    answers = engine.predict([Request(images=(place,), adapter="one") for place in places] + [Request((), (), "one")])
    assert [answer.error is None for answer in answers] == [True, False, True, False, False]
    for answer, message in zip(
        (answers[1], answers[3], answers[4]), ("truncated", "no such image", "neither image"), strict=True
    ):
        assert message in str(answer.error)
        assert "\n" not in str(answer.error)
        assert answer.decision == "ask a person"
        assert not answer.fields
    assert alike(answers[:1], engine.predict([Request(images=(photos[0],), adapter="one")]))


def test_an_unknown_adapter_or_a_missing_form_is_reported(engine: Engine, photos: list[Path]) -> None:
    with pytest.raises(AdapterError, match=r"adapter 'on' is not loaded; did you mean 'one'\?"):
        engine.predict([Request(images=(photos[0],), adapter="on")])
    with pytest.raises(FormError, match="the bare base has no form"):
        engine.predict([Request(images=(photos[0],))])


@pytest.mark.parametrize("name", list(TINY))
def test_a_random_model_s_answers_fit_every_form(name: str, bare: Callable[[str], Engine], photos: list[Path]) -> None:
    forms = [short(whole_form(task)) for task in TASKS.values()]
    images = tuple(photos[:1]) if name in SEEING else ()
    requests = [Request(images, ASKED, form=form) for form in forms]
    for request, answer in zip(requests, bare(name).predict(requests), strict=True):
        assert answer.error is None
        assert request.form is not None
        assert request.form.check(answer.values) == answer.values
        assert tuple(answer.values) == request.form.names


@pytest.mark.parametrize("name", [name for name in TINY if name not in SEEING])
def test_a_text_base_reports_that_it_takes_no_images(name: str, bare: Callable[[str], Engine]) -> None:
    form = whole_form(TASKS["legal_documents"])
    (answer,) = bare(name).predict([Request(images=(Image.new("RGB", (9, 9)),), form=form)])
    assert "takes no images" in str(answer.error)


def test_a_prompt_that_does_not_fit_is_reported(bare: Callable[[str], Engine]) -> None:
    form = short(whole_form(TASKS["legal_documents"]))
    long = Request(turns=(Turn("user", "word " * 9000),), form=form)
    answers = bare("qwen3").predict([Request(turns=ASKED, form=form), long])
    assert answers[0].error is None
    assert "does not fit the base's 8192" in str(answers[1].error)


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run / ADAPTER, folder))


def test_another_base_s_adapter_is_refused(run_of: Runs, tiny_folder: Callable[[str], Path]) -> None:
    run = run_of("qwen3_vl")
    with pytest.raises(AdapterError, match=r"its base is .*load that base, or train again"):
        Engine.open([run / ADAPTER], base=str(tiny_folder("llava_siglip_qwen2")))


def with_another_template(base: Path) -> None:
    file = base / "chat_template.jinja"
    file.write_text(file.read_text(encoding="utf-8").replace("assistant", "helper"), encoding="utf-8")


def with_fewer_merges(base: Path) -> None:
    content = json.loads((base / "tokenizer.json").read_bytes())
    del content["model"]["merges"][100:]
    (base / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("change", [with_another_template, with_fewer_merges])
@pytest.mark.parametrize("name", families("qwen3_vl", "fast_vlm"))
def test_a_template_that_differs_from_training_is_refused(
    name: str,
    change: Callable[[Path], None],
    untrained_run_of: Runs,
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Adapters of earlier versions, whose cards have no hash of it, are still served."""
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    shutil.copytree(untrained_run_of(name) / ADAPTER, adapter)
    shutil.copytree(tiny_folder(name), base)
    Engine.open([adapter], base=str(base))
    change(base)
    with pytest.raises(AdapterError, match=r"chat template of .* has changed since it was trained; restore"):
        Engine.open([adapter], base=str(base))
    read_card(adapter).model_copy(update={"template": None}).write(adapter)
    Engine.open([adapter], base=str(base))


def test_a_renamed_tensor_is_refused(run_of: Runs, tmp_path: Path) -> None:
    folder = copied(run_of("qwen3_vl"), tmp_path / "renamed")
    file = folder / "adapter_model.safetensors"
    stored = load_file(file)
    first = next(iter(stored))
    stored[first.replace("layers.0", "layer.0")] = stored.pop(first)
    save_file(stored, file)
    with pytest.raises(AdapterError, match="tensors do not match the base"):
        Engine.open([folder])
    stored[first] = stored.pop(first.replace("layers.0", "layer.0")) * float("nan")
    save_file(stored, file)
    with pytest.raises(AdapterError, match="1 tensors contain non-finite numbers"):
        Engine.open([folder])


def test_a_reshaped_or_unreadable_adapter_is_refused(run_of: Runs, tmp_path: Path) -> None:
    folder = copied(run_of("qwen3_vl"), tmp_path / "other rank")
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 2'))
    with pytest.raises(AdapterError) as error:
        Engine.open([folder])
    assert "\n" not in str(error.value)
    folder = copied(run_of("qwen3_vl"), tmp_path / "cut")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AdapterError) as error:
        Engine.open([folder])
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")  # PEFT only warns; the engine refuses
def test_a_refused_adapter_leaves_no_trace(run_of: Runs, tmp_path: Path, photos: list[Path]) -> None:
    good = run_of("qwen3_vl") / ADAPTER
    broken = copied(run_of("qwen3_vl"), tmp_path / "renamed")
    stored = load_file(broken / "adapter_model.safetensors")
    stored["base_model.model.nowhere"] = stored.pop(next(iter(stored)))
    save_file(stored, broken / "adapter_model.safetensors")
    clean = Engine.open([good])
    form = clean.cards["trial"].form
    bare = [Request(images=(photo,), form=form) for photo in photos]
    requests = [*bare, *(replace(request, adapter="trial", form=None) for request in bare)]
    engine = Engine(load_base(clean.base.ref.name))
    for folder in (broken, good, broken):
        if folder is good:
            engine.add("trial", folder)
            continue
        with pytest.raises(AdapterError):
            engine.add("broken", folder)
        assert alike(engine.predict(bare), clean.predict(bare))
    assert alike(engine.predict(requests), clean.predict(requests))


def test_adapters_with_the_same_name_are_all_served(run_of: Runs, tmp_path: Path) -> None:
    run = run_of("qwen3_vl")
    other, third = copied(run, tmp_path / "other"), copied(run, tmp_path / "third")
    read_card(third).model_copy(update={"name": "trial-2"}).write(third)
    engine = Engine.open([run / ADAPTER, third, other])
    assert list(engine.cards) == ["trial", "trial-2", "trial-3"]
    with pytest.raises(AdapterError, match="the name 'trial' is taken"):
        engine.add("trial", other)
    with pytest.raises(AdapterError, match="the name 'base' is taken"):
        engine.add(BASE, other)


def test_a_path_and_an_opened_image_give_the_same_answer(engine: Engine, photos: list[Path]) -> None:
    by_path = Request(images=(photos[0],), adapter="one")
    opened = replace(by_path, images=(Image.open(photos[0]),))
    assert alike(engine.predict([by_path]), engine.predict([opened]))
