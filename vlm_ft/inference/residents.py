"""The adapters in memory beside one base, identified by the content of their files and bounded by a budget."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from safetensors import safe_open
from torch import nn

from vlm_ft.adapters import CONFIG, TENSORS, Card
from vlm_ft.bases.load import Base
from vlm_ft.card_base import check_loaded, loading
from vlm_ft.errors import AdapterError

MIXABLE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The modules that PEFT can mix if several adapters trained them in full."""
WRAPPED = "base_model.model."  # the prefix of PEFT's module names
BARE = "__base__"  # PEFT's name for rows without an adapter


@dataclass(frozen=True)
class Resident:
    """An adapter that can be loaded. `full` and `low_rank` name the modules that it trained in full and by LoRA."""

    folder: Path
    card: Card
    digest: str
    size: int
    full: frozenset[str]
    low_rank: frozenset[str]

    def clashes(self, other: Resident) -> bool:
        """Whether one trained a module in full that the other trained by LoRA, so that PEFT cannot hold both."""
        return bool(self.full & other.low_rank or self.low_rank & other.full)


class Residents:
    """Loads adapters, and drops the least recently used ones beyond a budget; a dropped one is loaded again on demand.

    `budget`: the bytes of adapter files that may be in memory, None for any number; a batch that needs more gets it.
    Adapters that clash take turns.
    `dropped` is called with the names of adapters that leave memory. Adapters with identical files share one copy.
    """

    def __init__(self, base: Base, budget: int | None, dropped: Callable[[Iterable[str]], None]) -> None:
        self._base, self._budget, self._dropped = base, budget, dropped
        self._model: Any = base.model
        self._known: dict[str, Resident] = {}
        self._slots: OrderedDict[str, str] = OrderedDict()  # digest -> PEFT's name, which may not contain a dot
        self._count = 0

    def add(self, name: str, folder: Path, card: Card) -> None:
        """Load an adapter. Raises `AdapterError` if its files cannot be read or do not fit the base."""
        with loading(folder), safe_open(folder / TENSORS, "pt") as file:
            keys = list(file.keys())
        full = frozenset(key.rpartition(".")[0] for key in keys if ".lora_" not in key)
        low_rank = frozenset(key.partition(".lora_")[0] for key in keys if ".lora_" in key)
        self._known[name] = Resident(folder, card, _digest(folder), (folder / TENSORS).stat().st_size, full, low_rank)
        try:
            self._hold([self._known[name]])
        except AdapterError:
            del self._known[name]
            raise

    def replace(self, name: str, replacement: str) -> None:
        """Give a name to another adapter; the old one is dropped unless a third adapter has the same files."""
        old = self._known.get(name)
        self._known[name] = self._known.pop(replacement)
        self._dropped([name])
        if old is not None and old.digest not in {resident.digest for resident in self._known.values()}:
            slot = self._slots.pop(old.digest, None)
            if slot is not None:
                self._drop(slot)

    def ensure_loaded(self, names: Iterable[str]) -> None:
        """Load the adapters that are not in memory, and drop others to stay within the budget.

        Raises `AdapterError` if files cannot be loaded, or have changed since they were added.
        """
        wanted = {self._known[name].digest: self._known[name] for name in names if name in self._known}
        for digest, resident in wanted.items():
            if digest not in self._slots and _digest(resident.folder) != digest:
                raise AdapterError(f"adapter {resident.folder}", "its files have changed", "open it again")
        self._hold(list(wanted.values()))

    def _hold(self, wanted: Sequence[Resident]) -> None:
        """Load these adapters, whose files all differ, and drop others that clash, or to stay within the budget."""
        held = [resident for resident in self._known.values() if resident.digest in self._slots]
        if any(resident.clashes(other) for resident in wanted for other in held):
            self._slots.clear()
            self._unwrap()
            self._dropped(self._known)
        for resident in wanted:
            if resident.digest not in self._slots:
                self._load(resident)
            self._slots.move_to_end(resident.digest)
        while self._budget is not None and self.size > self._budget and len(self._slots) > len(wanted):
            digest = next(iter(self._slots))
            self._drop(self._slots.pop(digest))
            self._dropped([name for name, resident in self._known.items() if resident.digest == digest])

    @property
    def size(self) -> int:
        """The bytes of the files of all adapters in memory."""
        sizes = {resident.digest: resident.size for resident in self._known.values()}
        return sum(sizes[digest] for digest in self._slots)

    def stands_alone(self, name: str) -> bool:
        """Whether the adapter needs a separate batch.

        PEFT mixes plain LoRA, and single layers trained in full if all adapters contain the same ones.
        """
        if name not in self._known:
            return False
        resident = self._known[name]
        words = resident.card.tuned
        seeing = any(words.get(part, "frozen") != "frozen" for part in ("vision", "projector"))
        if "lora" not in words.values():
            return True  # PEFT mixes adapters by their LoRA layers
        if "dora" in words.values() or (seeing and not self._base.family.mixed_adapters_with_vision):
            return True
        everywhere = frozenset[str]().union(*(other.full for other in self._known.values()))
        return resident.full != everywhere or not all(isinstance(self._module(one), MIXABLE) for one in everywhere)

    def _module(self, name: str) -> nn.Module:
        found: nn.Module = self._base.model.get_submodule(name.removeprefix(WRAPPED))
        return found.original_module if isinstance(found, ModulesToSaveWrapper) else found

    def forward(self, names: Sequence[str], rows: Sequence[int], **inputs: Any) -> Any:
        """The model's output for these rows of a batch, each under its adapter, which must be in memory."""
        if not self._slots:
            return self._base.model(**inputs)
        slots = [self._slots[self._known[names[row]].digest] if names[row] in self._known else BARE for row in rows]
        if len(set(slots)) > 1:
            return self._model(adapter_names=slots, **inputs)
        if slots[0] == BARE:
            with self._model.disable_adapter():
                return self._model(**inputs)
        self._model.set_adapter(slots[0], inference_mode=True)
        return self._model(**inputs)

    def _load(self, resident: Resident) -> None:
        slot = f"a{self._count}"
        self._count += 1
        folder = str(resident.folder)
        try:
            with loading(resident.folder):
                if self._slots:
                    self._model.load_adapter(folder, adapter_name=slot)
                else:
                    self._model = PeftModel.from_pretrained(self._base.model, folder, adapter_name=slot)
                self._model.eval()
                check_loaded(self._model, slot, resident.folder)
        except AdapterError:
            self._drop(slot)
            raise
        self._slots[resident.digest] = slot

    def _drop(self, slot: str) -> None:
        """Remove a loaded or partly loaded adapter, so that the base and the other adapters answer as before."""
        if not self._slots:
            self._unwrap()
            return
        self._model.set_adapter(next(iter(self._slots.values())), inference_mode=True)
        for module in self._base.model.modules():
            if isinstance(module, BaseTunerLayer) or (
                isinstance(module, ModulesToSaveWrapper) and slot in module.modules_to_save
            ):
                module.delete_adapter(slot)
        self._model.peft_config.pop(slot, None)

    def _unwrap(self) -> None:
        """Remove all adapters, by putting back the base's own modules in place of PEFT's."""
        self._model = self._base.model
        vars(self._model).pop("peft_config", None)
        for name, module in list(self._model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                self._model.set_submodule(name, module.get_base_layer())
            elif isinstance(module, ModulesToSaveWrapper):
                self._model.set_submodule(name, module.original_module)


def _digest(folder: Path) -> str:
    """A hash of the files that PEFT reads: the settings scale the tensors."""
    digest = hashlib.sha256((folder / CONFIG).read_bytes())
    with (folder / TENSORS).open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()
