"""A run leaves a plain PEFT adapter that does what its card says; nothing is truncated, half-written or overwritten."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import PeftModel
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from datasets_vision.example import Turn
from tests.training.processes import losses
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import PARTS, Part, leaf_modules, low_rank_modules
from vlm_ft.errors import AdapterError, DataError, RecipeError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.recipe import Recipe, Training
from vlm_ft.runs import LIBRARIES, Run, store, stored
from vlm_ft.training import run as runs
from vlm_ft.training import show
from vlm_ft.training.attach import attach
from vlm_ft.training.prepare import Prepared, prepare
from vlm_ft.training.run import train
from vlm_ft.training.trainer import Collators

Recipes = Callable[..., Recipe]
Runs = Callable[..., Path]
Folders = Callable[[str], Path]
Bases = Callable[[str], Base]

EVERY_BASE = pytest.mark.parametrize("base", ["qwen3_vl", "llava_siglip_qwen2"])
WHOLE = {"language": "lora", "projector": "lora", "vision": "lora"}


@EVERY_BASE
def test_plain_peft_loads_the_adapter(base: str, run_of: Runs, tiny_folder: Folders) -> None:
    run = run_of(base)
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder(base))
    model = PeftModel.from_pretrained(plain, run / ADAPTER)
    moved = [float(weight.abs().max()) for name, weight in model.named_parameters() if "lora_B" in name]
    assert moved
    assert max(moved) > 0


@EVERY_BASE
def test_the_card_describes_the_run(base: str, run_of: Runs, tiny_folder: Folders) -> None:
    card = read_card(run_of(base) / ADAPTER)
    assert (card.base.name, card.base.kind) == (str(tiny_folder(base)), "vision")
    assert card.provenance.counts == {"train": 9, "tune": 5, "calibrate": 0, "test": 6}
    assert card.provenance.synthetic
    assert "drawings" in card.notice
    assert card.training["steps"] == 2
    assert card.training["tensors_moved"] > 0
    assert card.training["probe_change"] > 0


def test_a_run_and_its_card_state_the_versions_of_the_libraries(
    run_of: Runs, recipe_of: Recipes, quiet: Console, tmp_path: Path
) -> None:
    run = Run(run_of("qwen3_vl"))
    found = stored(run.versions, dict[str, str])
    assert found == {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}
    assert read_card(run.adapter).training["versions"] == found
    assert f"torch {found['torch']}" in (run.adapter / "README.md").read_text(encoding="utf-8")
    resumed = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    store(resumed.versions, found | {"torch": "1.0"})
    said = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    train(recipe_of("qwen3_vl"), resumed.folder, resume=True, console=said)
    assert f"note: torch was '1.0', and is '{found['torch']}' now" in said.export_text()
    assert stored(resumed.versions, dict[str, str])["torch"] == "1.0"


def test_a_run_is_tracked_by_tensorboard(recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    recipe = recipe_of("fast_vlm", training={"report_to": ["tensorboard"]})
    assert Training().report_to == recipe.training.report_to
    train(recipe, tmp_path / "run", console=quiet)
    (events,) = Run(tmp_path / "run").checkpoints.rglob("events.out.tfevents.*")
    curves = EventAccumulator(str(events.parent)).Reload().Tags()["scalars"]
    assert {"train/loss", "train/grad_norm", "eval/loss"} <= set(curves)


@EVERY_BASE
def test_the_loss_falls_on_a_set_seen_again_and_again(base: str, run_of: Runs) -> None:
    run = run_of(base, training={"max_steps": 24, "evaluations": 1}, adapter={**WHOLE, "rank": 16, "alpha": 32})
    # the frozen head's random rows are so short that no hidden state gets below 0.8 of chance, ln(vocabulary)
    assert losses(run)[-1] < 0.9 * losses(run)[0]
    assert (run / "loss.png").stat().st_size > 0


def test_one_process_decodes_and_augments_in_all_epochs(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the epoch, although it is older, and ends with the training."""
    seen, real = tmp_path / "seen", Collators.__call__
    seen.mkdir()

    def noted(self: Collators, features: Any) -> Any:
        if features[0]["training"]:
            (seen / f"{os.getpid()}-{self.by_role[True].epoch}").touch()
        return real(self, features)

    monkeypatch.setattr(Collators, "__call__", noted)
    train(recipe_of("fast_vlm", training={"max_steps": 6, "workers": 1}), tmp_path / "run", console=quiet)
    found = [file.name.partition("-") for file in seen.iterdir()]
    assert {epoch for *_, epoch in found} == {"0", "1"}
    (process,) = {process for process, *_ in found}
    assert not psutil.pid_exists(int(process))


def test_a_folder_belongs_to_one_recipe(run_of: Runs, recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    run = run_of("qwen3_vl")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(RecipeError, match="already holds a run; continue it with --resume"):
        train(recipe_of("qwen3_vl"), run, console=quiet)
    with pytest.raises(RecipeError, match="max_steps was 2, and is 3 now"):
        train(recipe_of("qwen3_vl", training={"max_steps": 3}), run, resume=True, console=quiet)
    with pytest.raises(RecipeError, match="holds no run to resume"):
        train(recipe_of("qwen3_vl"), tmp_path / "none", resume=True, console=quiet)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert not (tmp_path / "none").exists()


def test_a_run_that_cannot_start_leaves_its_folder_free(recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for wrong in ({"data": [{"path": str(tmp_path / "none")}]}, {"training": {"max_length": 16}}):
        with pytest.raises(DataError):
            train(recipe_of("qwen3_vl", **wrong), out, console=quiet)
        assert not out.exists()


def test_a_row_that_is_too_long_is_named_and_not_truncated(recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows exceed 60 tokens: .*scene_\d+\S* \(\d+ tokens\)") as error:
        train(recipe_of("qwen3_vl", training={"max_length": 60}), tmp_path / "run", console=quiet)
    assert "\n" not in str(error.value)


def test_a_rehearsal_writes_nothing_and_changes_nothing(
    recipe_of: Recipes, one_shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("qwen3_vl", augment="flips")
    monkeypatch.chdir(tmp_path)
    prepared: list[Prepared] = []
    states: list[dict[str, torch.Tensor]] = []

    def kept(*given: Any, **options: Any) -> Prepared:
        prepared.append(real(*given, **options))
        states.append({name: tensor.clone() for name, tensor in prepared[0].attached.model.state_dict().items()})
        return prepared[0]

    real = show.prepare
    monkeypatch.setattr(show, "prepare", kept)
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    show.dry_run(recipe, console)
    said = console.export_text()
    assert "2 steps of" in said
    assert "image tokens]" in said
    assert one_shape in said
    assert list(tmp_path.iterdir()) == [tmp_path / "said"]
    for name, tensor in prepared[0].attached.model.state_dict().items():
        assert torch.equal(tensor, states[0][name]), name
    assert all(parameter.grad is None for parameter in prepared[0].attached.model.parameters())


@pytest.mark.parametrize("base", ["qwen3_vl", "llava_siglip_qwen2", "fast_vlm"])
@pytest.mark.parametrize(
    ("part", "tuning"),
    [(part, tuning) for part in PARTS for tuning in ("lora", "full") if (part, tuning) != ("language", "full")],
)  # with a whole language model, no adapter is saved: see test_attach
def test_a_tuning_applies_to_exactly_its_part(
    base: str, part: Part, tuning: str, recipe_of: Recipes, tiny_base: Bases
) -> None:
    loaded = tiny_base(base)
    modules = low_rank_modules if tuning == "lora" else leaf_modules
    wanted = modules(loaded.model, loaded.family, part)
    adapter = dict.fromkeys(PARTS, "frozen") | {part: tuning, "rank": 4}
    attached = attach(loaded, recipe_of(base, adapter=adapter).adapter, seed=0)
    names = [name for name, parameter in attached.model.named_parameters() if parameter.requires_grad]
    touched = {re.split(r"\.lora_|\.modules_to_save", name.removeprefix("base_model.model."))[0] for name in names}
    assert touched == set(wanted)


def test_batch_norms_keep_their_statistics(run_of: Runs) -> None:
    """`Trainer` calls `model.train()`; the check after training compares with a freshly loaded base."""
    run = run_of("fast_vlm", adapter={"projector": "full"})
    assert read_card(run / ADAPTER).training["reload_difference"] < 1e-4


def test_a_dora_adapter_has_trained_magnitudes(run_of: Runs, tiny_folder: Folders) -> None:
    run = run_of("qwen3_vl", adapter={"language": "dora", "projector": "frozen"})
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder("qwen3_vl"))
    model = PeftModel.from_pretrained(plain, run / ADAPTER)
    assert any("lora_magnitude_vector" in name for name, _ in model.named_parameters())
    assert read_card(run / ADAPTER).training["probe_change"] > 0


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantized_base_trains(quantize: str, run_of: Runs) -> None:
    training = read_card(run_of("qwen3_vl", quantize=quantize, adapter=WHOLE) / ADAPTER).training
    assert training["steps"] == 2
    assert training["tensors_moved"] > 0


def test_a_text_task_trains_on_a_text_base(run_of: Runs, tiny_folder: Folders, clauses: Path) -> None:
    run = run_of("qwen3", task="legal_documents", data=[{"path": str(clauses)}], fields=None)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder("qwen3")), run / ADAPTER)
    engine = Engine.open([run / ADAPTER])
    (answer,) = engine.predict([Request(turns=(Turn("user", "The licensee may audit."),), adapter="trial")])
    assert answer.error is None


def test_a_custom_task_is_served_without_its_file(
    own_task: Path, recipe_of: Recipes, quiet: Console, tmp_path: Path, drawings: Path
) -> None:
    recipe = recipe_of("qwen3_vl", task="my_task", task_file=str(own_task), fields=None)
    folder = train(recipe, tmp_path / "run", console=quiet)
    own_task.unlink()
    engine = Engine.open([folder])
    image = next((drawings / "JPEGImages").glob("*.png"))
    (answer,) = engine.predict([Request(images=(image,), adapter="trial")])
    assert answer.error is None
    assert answer.values["verdict"] in ("good", "bad")
    assert engine.cards["trial"].form.title == "My task"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("trained_values", "changed none"),
        ("checksum", "frozen weights changed"),
        ("probe_logits", "does not change the probe"),
    ],
)
def test_a_run_that_fails_its_check_leaves_no_adapter(
    spoil: str, message: str, recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlm_ft.training import verify

    spoilt = {
        "trained_values": lambda model: {},
        "checksum": lambda model: torch.ones(1),
        "probe_logits": lambda *given: torch.ones(3),
    }
    monkeypatch.setattr(verify, spoil, spoilt[spoil])
    if spoil == "trained_values":
        monkeypatch.setattr(runs, spoil, spoilt[spoil])
    with pytest.raises(AdapterError, match=message):
        train(recipe_of("qwen3_vl"), tmp_path / "run", console=quiet)
    with pytest.raises(AdapterError):
        read_card(tmp_path / "run" / ADAPTER)


def test_an_evaluation_does_not_change_the_gradients_of_a_quantized_base(recipe_of: Recipes) -> None:
    prepared = prepare(recipe_of("qwen3_vl", quantize="nf4", adapter=WHOLE))
    model = prepared.attached.model
    batch = prepared.train([0])
    gradients = []
    for _ in range(2):
        model.train()
        model(**batch).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad})
        model.zero_grad()
        model.eval()
        with torch.no_grad():
            model(**batch)
    assert any(gradient.any() for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name
