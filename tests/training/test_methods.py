"""Every method learns what it claims to, from the data that it requires, and leaves a working adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from datasets_vision.example import Example, Turn
from datasets_vision.synthetic import write_set
from tests.families import SEEING, tower_inputs
from tests.forms import form_of
from vlm_ft.adapters import TENSORS, read_card
from vlm_ft.answers.kinds import Flag, Text
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.tiny import TINY
from vlm_ft.bases.value_head import add_value_head
from vlm_ft.conversation import IGNORED, MARKS, REFERENCE, SHOWN, Conversation, Row
from vlm_ft.data.cases import Case, Reply
from vlm_ft.errors import AdapterError, DataError, RecipeError
from vlm_ft.evaluation.pairs import evaluate_pairs
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.likelihood import log_likelihoods
from vlm_ft.recipe import AdapterSettings, Preference, Recipe
from vlm_ft.reward_model import RewardModel
from vlm_ft.runs import Run
from vlm_ft.training import references
from vlm_ft.training.methods import METHODS
from vlm_ft.training.methods.method import Method
from vlm_ft.training.methods.preference import DPO, KTO
from vlm_ft.training.prepare import prepare
from vlm_ft.training.run import train

pytestmark = pytest.mark.usefixtures("terse")
BETA = 0.3


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pairs of a chosen and a rejected reply."""
    return write_set("industry_language", tmp_path_factory.mktemp("pairs") / "set", 24, 3)


@pytest.fixture
def judged(recipe_of: Callable[..., Recipe], pairs: Path) -> Callable[..., Recipe]:
    """A recipe on these pairs for a text base."""

    def recipe(method: str, **settings: Any) -> Recipe:
        own = {"task": "industry_language", "data": [{"path": str(pairs)}], "fields": ["reply"], "method": method}
        return recipe_of("llama", **{**own, **settings})

    return recipe


@pytest.fixture(scope="module")
def text_base(tiny_base: Callable[[str], Base]) -> Base:
    return tiny_base("llama")


REPLY = form_of(reply=Text(max_length=40))


def batch_of(base: Base, *replies: str) -> dict[str, Any]:
    rows = [Row(REPLY, (Turn("user", "What is it?"),), (), REPLY.target({"reply": reply})) for reply in replies]
    return Conversation(base.reader, "answer").encode(rows, supervised=True)


def as_trl(batch: dict[str, Any], rows: list[int]) -> dict[str, torch.Tensor]:
    """Some rows of a batch under TRL's names."""
    return {
        "input_ids": batch["input_ids"][rows],
        "attention_mask": batch["attention_mask"][rows],
        "completion_mask": (batch["labels"][rows] != IGNORED).long(),
    }


def another(folder: Path) -> Any:
    """The model with other weights, which stands in for the one being trained."""
    model = load_base(str(folder)).model
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


OPTIONS: dict[str, Any] = {"beta": BETA, "use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}


THEIR_WARNING = pytest.mark.filterwarnings("ignore:`gradient_checkpointing.* is deprecated:FutureWarning")  # TRL's own


def require_equal(method: Method, base: Base, batch: dict[str, Any], theirs: Any, given: dict[str, Any]) -> None:
    """Compare a method's loss of a batch with that of TRL's trainer, which was given the same under its own names."""
    with torch.no_grad():
        reference = log_likelihoods(base.model, batch)
    ours = method.loss(theirs.model, {**batch, REFERENCE: reference})
    expected = theirs.compute_loss(theirs.model, given)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)  # float32, summed in another order


@THEIR_WARNING
def test_the_dpo_loss_equals_trls(text_base: Base, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_folder("llama")
    batch = batch_of(text_base, "It is worn.", "No idea!", "Bearing failed", "hm")
    texts = Dataset.from_dict({"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]})
    theirs = DPOTrainer(
        model=another(folder),
        ref_model=AutoModelForCausalLM.from_pretrained(folder),
        args=DPOConfig(str(tmp_path), **OPTIONS),
        train_dataset=texts,
        processing_class=text_base.reader.tokenizer,
    )
    require_equal(DPO(Preference(beta=BETA)), text_base, batch, theirs, as_trl(batch, [0, 2, 1, 3]))


@THEIR_WARNING
def test_the_kto_loss_equals_trls(text_base: Base, tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_folder("llama")
    batch = batch_of(text_base, "It is worn.", "hm", "No idea!", "Seal torn")
    marks = torch.tensor([1.0, 0.0, -1.0, 0.0])
    settings = {"desirable_weight": 1.0, "undesirable_weight": 0.5, **OPTIONS}
    texts = Dataset.from_dict({"prompt": ["a", "d"], "completion": ["b", "c"], "label": [True, False]})
    theirs = KTOTrainer(
        model=another(folder),
        ref_model=AutoModelForCausalLM.from_pretrained(folder),
        args=KTOConfig(str(tmp_path), per_device_train_batch_size=2, **settings),
        train_dataset=texts,
        processing_class=text_base.reader.tokenizer,
    )
    unrelated = {f"KL_{name}": value for name, value in as_trl(batch, [1, 3]).items()}
    verdicts = {"label": torch.tensor([True, False])}
    method, given = KTO(Preference(beta=BETA, disliked_weight=0.5)), {**as_trl(batch, [0, 2]), **unrelated, **verdicts}
    require_equal(method, text_base, {**batch, MARKS: marks}, theirs, given)


def test_a_model_compared_with_itself_has_no_preference(text_base: Base) -> None:
    """At the first step, every DPO pair costs ln 2."""
    loss = DPO(Preference()).loss(text_base.model, batch_of(text_base, "It is worn.", "No idea!"))
    torch.testing.assert_close(loss, torch.tensor(np.log(2), dtype=loss.dtype))


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_policy_is_served(method: str, recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path) -> None:
    folder = train(recipe_of("fast_vlm", method=method, policy={"answers": 4}), tmp_path / "run", console=quiet)
    photo = Image.new("RGB", (64, 64), (90, 120, 150))
    (answer,) = Engine.open([folder]).predict([Request((photo,), adapter="trial")])
    assert answer.error is None
    assert read_card(folder).method == method


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_an_adapter_trained_on_preferences_is_served(
    method: str, judged: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    folder = train(judged(method), tmp_path / "run", console=quiet)
    card = read_card(folder)
    assert (card.method, card.training["steps"]) == (method, 2)
    (answer,) = Engine.open([folder]).predict([Request(turns=(Turn("user", "It leaks."),), adapter=card.name)])
    assert answer.error is None
    assert isinstance(answer.values["reply"], str)


def test_references_are_computed_once(
    judged: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run keeps the references of its original start, and does not compute them from its checkpoint."""
    recipe = judged("dpo", training={"max_steps": 4, "evaluations": 2})
    whole = train(recipe, tmp_path / "whole", console=quiet)
    part = Run(shutil.copytree(tmp_path / "whole", tmp_path / "part"))
    shutil.rmtree(part.checkpoints / "checkpoint-4")
    written = json.loads(part.references.read_text())
    assert [len(rows) for role in written for rows in role] == [2] * sum(map(len, written))
    (part.adapter / "card.json").unlink()

    def computed_again(*given: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(references, "_likelihoods", computed_again)
    train(recipe, part.folder, resume=True, console=quiet)
    tensors = "adapter_model.safetensors"
    assert (part.adapter / tensors).read_bytes() == (whole / tensors).read_bytes()


def test_a_reward_model_learns_which_reply_is_better(
    judged: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    settings = {"max_steps": 40, "batch_size": 8, "evaluations": 1, "learning_rate": 2e-2}
    folder = train(judged("reward", training=settings), tmp_path / "run", console=quiet)
    result = evaluate_pairs(tmp_path / "run", console=quiet)
    assert result.value > 0.7  # drawn pairs: trade terms against a layman's words
    assert set(result.rivals) == {"longer reply", "word overlap"}
    assert read_card(folder).metrics["pair_accuracy"]["n"] == result.n
    with pytest.raises(AdapterError, match="is a reward model"):
        Engine.open([folder])
    again, rows = RewardModel.open(folder), batch_rows(folder)
    assert again.scores(rows) == pytest.approx(RewardModel.open(folder).scores(rows[::-1])[::-1], abs=1e-4)


def batch_rows(folder: Path) -> list[Row]:
    form = read_card(folder).form
    return [Row(form, (Turn("user", "It leaks."),), (), form.target({"reply": text})) for text in ("Seal torn.", "Hm")]


def test_an_answer_can_be_rewarded_by_a_model(judged: Callable[..., Recipe], quiet: Console, tmp_path: Path) -> None:
    judge = train(judged("reward"), tmp_path / "judge", console=quiet)
    recipe = judged("rloo", policy={"answers": 2, "reward_model": str(judge)})
    assert read_card(train(recipe, tmp_path / "run", console=quiet)).method == "rloo"
    with pytest.raises(AdapterError, match=r"was trained with method rloo"):
        RewardModel.open(tmp_path / "run")


def test_dpo_learns_which_reply_is_better_and_is_compared_with_its_start(
    judged: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    start = train(judged("sft"), tmp_path / "start", console=quiet)
    settings = {"max_steps": 40, "batch_size": 8, "learning_rate": 2e-2}
    folder = train(continuing(judged("dpo", training=settings), start), tmp_path / "run", console=quiet)
    result = evaluate_pairs(tmp_path / "run", console=quiet)
    assert (result.field, result.metric) == ("reply", "pair_accuracy")
    assert result.value > 0.7  # drawn pairs: trade terms against a layman's words
    assert read_card(folder).metrics["pair_accuracy"]["n"] == result.n
    shutil.copy(start / TENSORS, folder / TENSORS)
    assert evaluate_pairs(tmp_path / "run", console=quiet).value == 0.5  # no reply became more likely


def continuing(recipe: Recipe, start: Path, **adapter: Any) -> Recipe:
    """The recipe, starting from an adapter whose rank it keeps."""
    return recipe.model_copy(update={"from_adapter": start, "adapter": AdapterSettings(**adapter)})


def test_training_continues_from_an_adapter(judged: Callable[..., Recipe], quiet: Console, tmp_path: Path) -> None:
    first = train(judged("sft", training={"learning_rate": 5e-2}), tmp_path / "first", console=quiet)
    settings = {"max_steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
    second = train(continuing(judged("dpo", training=settings), first), tmp_path / "second", console=quiet)
    rows = batch_rows(first)
    answers = [Engine.open([folder]) for folder in (first, second)]
    asked = [Request(turns=row.turns, adapter="trial") for row in rows]
    assert answers[0].predict(asked) == answers[1].predict(asked)
    assert read_card(second).provenance.began_with == "trial"
    with pytest.raises(AdapterError, match="was trained with"):
        train(continuing(judged("dpo"), first, language="dora"), tmp_path / "third", console=quiet)


def test_a_reward_model_may_start_from_an_adapter(
    judged: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    first = train(judged("sft"), tmp_path / "first", console=quiet)
    recipe = continuing(judged("reward"), first)
    folder = train(recipe, tmp_path / "judge", console=quiet)
    (head,) = [tensor for name, tensor in load_file(folder / TENSORS).items() if "value_head" in name]
    assert head.abs().max() > 0
    with pytest.raises(AdapterError, match="is a reward model, which writes no answers"):
        prepare(continuing(recipe, folder))


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("name", list(TINY))
def test_every_family_takes_a_step_with_every_method(
    name: str, method: str, recipe_of: Callable[..., Recipe], tiny_base: Callable[[str], Base]
) -> None:
    base = tiny_base(name)
    add_value_head(base.model)
    photo = (Image.new("RGB", (64, 64), (200, 60, 20)),) if base.reader.sees else ()
    form = form_of(ok=Flag())
    example = Example("0", turns=() if photo else (Turn("user", "Well?"),))
    case = Case(example, {"ok": True}, (Reply({"ok": True}, True), Reply({"ok": False}, False)))
    conversation = Conversation(base.reader, "decisions")
    learning = METHODS[method](recipe_of(name, policy={"answers": 24}))
    torch.manual_seed(0)
    learning.begin(base, conversation)
    (arranged,) = learning.arranged([case])
    batch = learning.encode(conversation, learning.rows(form, arranged, photo, arranged.values))
    if marks := learning.marks(arranged):
        batch[MARKS] = torch.tensor(marks)
    loss = learning.loss(base.model.train(), batch, None)
    loss.backward()
    assert loss.isfinite()
    assert max(weight.grad.abs().max() for weight in base.model.parameters() if weight.grad is not None) > 0


@pytest.mark.parametrize("name", SEEING)
def test_the_tower_runs_once_on_the_photo_of_a_pair(name: str, tiny_base: Callable[[str], Base]) -> None:
    base = tiny_base(name)
    form = form_of(ok=Flag())
    photos = [(Image.new("RGB", (width, 64), (red, 60, 20)),) for red, width in ((20, 64), (220, 150))]
    replies = (Reply({"ok": True}, True), Reply({"ok": False}, False))
    method, conversation = DPO(Preference()), Conversation(base.reader, "decisions")
    case = Case(Example("0"), {"ok": True}, replies)
    rows = [row for photo in photos for row in method.rows(form, case, photo, case.values)]
    batch = method.encode(conversation, rows)
    assert batch[SHOWN].tolist() == [id(photo) for (photo,) in photos for _ in range(2)]
    alone = {key: value for key, value in batch.items() if key != SHOWN}
    with tower_inputs(base) as seen:
        losses = [log_likelihoods(base.model, either) for either in (batch, alone)]
    assert 2 * seen[0] == seen[1]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("sft", "grpo", "rloo")])
def test_unjudged_answers_are_refused(method: str, recipe_of: Callable[..., Recipe], quiet: Console) -> None:
    with pytest.raises(DataError, match=method):
        prepare(recipe_of("qwen3_vl", method=method))


def test_settings_that_a_method_ignores_are_refused(judged: Callable[..., Recipe], tmp_path: Path) -> None:
    for recipe, says in (
        (judged("sft", policy={"answers": 3}), "policy: has no effect with method sft"),
        (judged("reward", preference={"beta": 0.5}), "preference: has no effect with method reward"),
        (judged("grpo", training={"loss_on": "answer"}), "training.loss_on: grpo learns only"),
        (judged("dpo", from_adapter=str(tmp_path)), "adapter.rank: from_adapter keeps its own"),
    ):
        with pytest.raises(RecipeError, match=says):
            prepare(recipe)


def test_photos_that_are_compared_are_not_augmented(judged: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="dpo compares replies to the same photos"):
        prepare(judged("dpo", augment="flips"))
