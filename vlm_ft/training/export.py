"""Export an adapter for use without this package: as it is for servers that load LoRA, or merged into its base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from PIL import Image
from rich.console import Console

from datasets_vision.example import Turn
from vlm_ft.adapters import PEFT_FILES, Card, adapter_folder, read_card
from vlm_ft.bases.load import Base, fingerprint, load_base
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import AdapterError
from vlm_ft.training.verify import COARSE, TOLERANCES, probe_logits, saved

As = Literal["auto", "lora", "merged"]
SIDE = 64  # pixels of the photo of which the logits are compared


def export(place: Path, out: Path, kind: As = "auto", *, base: str | None = None, console: Console) -> Path:
    """Write an adapter to the folder `out`, as LoRA or merged, and return `out`.

    "auto": as LoRA if that is all it consists of and only the language model has it, which is what vLLM serves;
    otherwise merged. The logits of the merged model are compared with the adapter's. Raises `AdapterError` for a whole
    model, an adapter that is not LoRA if it must be, a base that does not fit, or a folder that is not empty.
    """
    folder = adapter_folder(place)
    card = read_card(folder)
    if card.weights or card.method == "reward":
        what = "a whole model already" if card.weights else "a reward model, whose value head no server runs"
        raise AdapterError(f"adapter {folder}", f"is {what}", "export another adapter")
    if out.exists() and any(out.iterdir()):
        raise AdapterError(out, "is not empty", "choose another folder")
    alone = _is_language_lora(card)
    if kind == "lora" and not alone:
        told = ", ".join(f"{part}: {tuning}" for part, tuning in card.tuned.items())
        raise AdapterError(f"adapter {folder}", f"is more than LoRA on the language model ({told})", "export it merged")
    loaded = load_base(base or card.base.name, revision=card.base.revision, dtype=card.dtype)
    if loaded.ref.fingerprint != card.base.fingerprint:
        raise AdapterError(f"adapter {folder}", f"its base is not {loaded.ref.name}", "name its base with --base")
    out.mkdir(parents=True, exist_ok=True)
    if kind == "merged" or not alone:
        drift = _merge(loaded, card, folder, out)
        console.print(f"merged {out}: logits within {drift:.2g} of the adapter's", highlight=False)
        console.print(f"  vllm serve {out} --served-model-name {card.name}", markup=False, highlight=False)
        return out
    for name in (*PEFT_FILES, "card.json", "README.md"):
        shutil.copyfile(folder / name, out / name)
    saved(loaded, out)  # PEFT finds every module that the file names
    console.print(f"LoRA {out}", highlight=False)
    serve = f"vllm serve {card.base.name} --enable-lora --lora-modules {card.name}={out}"
    console.print(f"  {serve}", markup=False, highlight=False)
    return out


def _is_language_lora(card: Card) -> bool:
    others = {tuning for part, tuning in card.tuned.items() if part != "language"}
    return card.tuned.get("language") == "lora" and others <= {"frozen"}


def _merge(base: Base, card: Card, folder: Path, out: Path) -> float:
    """Write the merged model with its processor and card; returns the largest difference of a logit.

    Raises `AdapterError` if the logits differ by more than rounding.
    """
    conversation = Conversation(base.reader.limited(card.limits))
    images = (Image.new("RGB", (SIDE, SIDE), (90, 120, 150)),) if "photo" in card.inputs and base.reader.sees else ()
    probe = Row(card.form, () if images else (Turn("user", "Hello."),), images)
    model = saved(base, folder)
    before = probe_logits(model, conversation, probe)
    merged = model.merge_and_unload()  # type: ignore[operator]
    merged.save_pretrained(str(out))
    base.reader.processor.save_pretrained(str(out))
    after = probe_logits(type(merged).from_pretrained(out, dtype=base.model.dtype).to(base.device), conversation, probe)
    drift = float((after - before).abs().max())
    if drift > TOLERANCES.get(base.model.dtype, COARSE) * max(1.0, float(before.abs().max())):
        shutil.rmtree(out)
        raise AdapterError(f"adapter {folder}", f"merged logits differ by {drift:.3g}", "export in float32, or as LoRA")
    card.model_copy(update={"weights": fingerprint(str(out)), "quantize": None}).write(out)
    return drift
