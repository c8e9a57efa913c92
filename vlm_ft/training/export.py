"""Export an adapter for use without this package: as LoRA for servers that load it, or merged into its base."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image
from rich.console import Console

from datasets_vision.example import Turn
from datasets_vision.placing import new_folder
from vlm_ft.adapters import CARD, CONFIG, FAMILIARITY, PEFT_FILES, README, Card, adapter_folder, read_card
from vlm_ft.bases.load import Base, fingerprint
from vlm_ft.card_base import base_of, require_base, with_adapter
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import AdapterError
from vlm_ft.training.model_card import model_card
from vlm_ft.training.verify import COARSE, TOLERANCES, load_saved, probe_logits

As = Literal["auto", "lora", "merged"]
VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)  # values that vLLM accepts for --max-lora-rank; the first is the default
SIDE = 64  # pixels, side of the photo on which the logits are compared


def export(place: Path, out: Path, kind: As = "auto", *, base: str | None = None, console: Console) -> Path:
    """Write an adapter to the folder `out`, as LoRA or merged, and return `out`.

    "auto" exports plain LoRA on the language model, which vLLM serves, as LoRA, and merges anything else. The logits of
    a merged model are compared with the adapter's. Raises `AdapterError` for a whole model, a reward model, another
    base, or "lora" if the adapter is not plain LoRA, and `DataError` for a folder that is not empty.
    """
    folder = adapter_folder(place)
    card = read_card(folder)
    if card.weights or card.method == "reward":
        what = "already a whole model" if card.weights else "a reward model, whose value head no server supports"
        raise AdapterError(f"adapter {folder}", f"is {what}", "export another adapter")
    plain = _is_language_lora(card)
    if kind == "lora" and not plain:
        raise AdapterError(
            f"adapter {folder}", f"is more than LoRA on the language model ({card.tuning})", "export it merged"
        )
    with new_folder(out) as part:
        loaded = base_of(card.model_copy(update={"quantize": None}), folder, base)  # quantized weights do not merge
        require_base(card, folder, loaded)
        if kind == "merged" or not plain:
            drift = _merge(loaded, card, folder, part)
            lines = [
                f"merged {out}: logits within {drift:.2g} of the adapter's",
                f"  {shlex.join(['vllm', 'serve', str(out), '--served-model-name', card.name])}",
            ]
        else:
            with_adapter(loaded.model, folder)  # checks that every tensor fits the base
            _copy(folder, part, (*PEFT_FILES, CARD, FAMILIARITY))
            (part / README).write_text(model_card(card), encoding="utf-8")
            rank = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["r"]
            lines = [f"LoRA {out}", f"  {_vllm_command(loaded, card.name, out, rank)}"]
    for line in lines:
        console.print(line, markup=False, highlight=False)
    return out


def _vllm_command(base: Base, name: str, folder: Path, rank: int) -> str:
    revision = ["--revision", base.ref.revision] if base.ref.revision else []
    most = next((most for most in VLLM_RANKS if most >= rank), rank)
    ranks = ["--max-lora-rank", str(most)] if most > VLLM_RANKS[0] else []
    adapters = ["--enable-lora", *ranks, "--lora-modules", f"{name}={folder}"]
    return shlex.join(["vllm", "serve", base.reader.place, *revision, *adapters])


def _copy(folder: Path, out: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def _is_language_lora(card: Card) -> bool:
    others = {tuning for part, tuning in card.tuned.items() if part != "language"}
    return card.tuned.get("language") == "lora" and others <= {"frozen"}


def _merge(base: Base, card: Card, folder: Path, out: Path) -> float:
    """Write the merged model with its processor and card; returns the largest difference between logits.

    Raises `AdapterError` if the logits differ by more than rounding.
    """
    conversation = Conversation(base.reader.limited(card.limits))
    images = (Image.new("RGB", (SIDE, SIDE), (90, 120, 150)),) if "photo" in card.inputs and base.reader.sees else ()
    probe = Row(card.form, () if images else (Turn("user", "Hello."),), images)
    model = with_adapter(base.model, folder)
    before = probe_logits(model, conversation, probe)
    merged = model.merge_and_unload()
    merged.save_pretrained(str(out))
    conversation.reader.processor.save_pretrained(str(out))  # with the limits of training
    after = probe_logits(load_saved(base, out), conversation, probe)
    drift = float((after - before).abs().max())
    if drift > TOLERANCES.get(base.dtype, COARSE) * max(1.0, float(before.abs().max())):
        raise AdapterError(f"adapter {folder}", f"merged logits differ by {drift:.3g}", "export in float32, or as LoRA")
    _copy(folder, out, (FAMILIARITY,))
    merged_card = card.model_copy(update={"weights": fingerprint(str(out)), "quantize": None})
    merged_card.write(out)
    (out / README).write_text(model_card(merged_card), encoding="utf-8")
    return drift
