"""Small byte-level BPE tokenizers, trained on the text below, with a family's special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

MERGED_VOCABULARY = 640  # 256 bytes and the most frequent merges of TEXT, before special tokens

TEXT = """
You are an inspector. You are a helpful assistant. Look at the photo and answer in JSON that follows the schema.
{"damaged":true,"severity":"minor","findings":[{"part":"bumper","kind":"scratch","severity":"moderate","box":[0,120,
340,1000]}],"action":"repair"} {"passed":false,"findings":[{"kind":"crack","severity":"major","box":[12,40,512,760]}]}
{"damaged":false,"severity":"none","findings":[],"action":"none"} {"intent":"refund","reply":"We are sorry to hear it."}
{"decision":"yes"} {"decision":"no"} {"decision":"maybe"} {"objects":[{"name":"bolt","count":3}],"urgent":false}
What does the image show? Which kind of defect is on the surface? How severe is the damage of the door, the hood, the
headlight, the windshield and the wheel? Describe the picture in one sentence. Is the part missing, dented, scratched,
broken, corroded, leaking or worn? The engine does not start and the warning light is on. Check the battery and replace
the fuse. The scan shows no abnormal finding. The clause limits the liability of the supplier. The study does not
support the claim. Answer with one of: none, minor, moderate, severe. Priority: low, medium, high, urgent.
Ask a person when you are not sure. Units are millimetres, degrees, percent and hours. 0 1 2 3 4 5 6 7 8 9 10 100 1000
"""


@dataclass(frozen=True)
class Vocabulary:
    """The special tokens of a family, and the tokenizer class that ``AutoTokenizer`` loads.

    ``others`` are the remaining special tokens. ``named`` are those that a processor looks up as an attribute of
    the tokenizer (``tokenizer.image_token``). ``adds_bos``: plain text is encoded with ``bos`` in front.
    """

    eos: str
    pad: str
    bos: str | None = None
    others: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    adds_bos: bool = False
    kind: type = PreTrainedTokenizerFast


def build_tokenizer(words: Vocabulary, template: str | None) -> Any:
    """A tokenizer with the special tokens of ``words`` and the chat ``template``; deterministic."""
    specials = {"eos_token": words.eos, "pad_token": words.pad, "bos_token": words.bos}
    if words.kind is PreTrainedTokenizerFast:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=_trained(None), **specials, **_named(words))
    else:
        model = json.loads(_trained(words.kind).to_str())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        tokenizer = words.kind(vocab=model["vocab"], merges=merges, **specials, **_named(words))
    tokenizer.add_tokens(list(words.others), special_tokens=True)
    if words.adds_bos:
        bos = (words.bos, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{words.bos} $A", pair=f"{words.bos} $A {words.bos} $B", special_tokens=[bos]
        )
    tokenizer.chat_template = template
    return tokenizer


def _named(words: Vocabulary) -> dict[str, Any]:
    return {"extra_special_tokens": dict(words.named)} if words.named else {}


def _trained(kind: type | None) -> Tokenizer:
    """BPE over TEXT with the splitting of ``kind``, which ``AutoTokenizer`` restores on loading."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if kind is not None:
        model = kind().backend_tokenizer
        raw.normalizer, raw.pre_tokenizer, raw.decoder = model.normalizer, model.pre_tokenizer, model.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=MERGED_VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator([TEXT], trainer)
    return raw
