"""The model card of an adapter folder: its README.md, with metadata in the format of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from vlm_ft.adapters import Card


def model_card(card: Card) -> str:
    """The text of README.md. After an evaluation, its metadata include the results on `test`."""
    kind = "a fine-tuned model" if card.weights else f"an adapter for `{card.base.name}`"
    parts = [
        f"---\n{_metadata(card).to_yaml()}\n---",
        f"# {card.name}",
        f"{card.form.title}: {kind}, trained with vlm_ft. `card.json` contains the form that it answers, its data and "
        "its results.",
    ]
    if card.method == "reward":
        parts.append("It is a reward model: it scores answers (`vlm-ft score --reward`) and does not write any.")
    elif card.loss_on == "decisions":
        parts.append(
            "It was trained only on what the form leaves open, so decode it with the form's grammar, as vlm_ft and any "
            "server that accepts a JSON schema do; without the grammar, field names are not reliable."
        )
    if card.form.numbers_rows:
        parts.append(
            "For its boxes, vlm_ft writes a number before each row of an image's tokens. Other servers do not, so its "
            "boxes are worse there."
        )
    if card.notice:
        parts.append(card.notice)
    if versions := card.training.get("versions"):
        parts.append("Trained with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    parts.append(f"The prompt:\n\n```\n{card.form.prompt}\n```\n")
    return "\n\n".join(parts)


def _metadata(card: Card) -> ModelCardData:
    sees, on_hub = "photo" in card.inputs, "/" in card.base.name and not Path(card.base.name).exists()
    task = "image-text-to-text" if sees else "text-generation"
    name = ", ".join(card.provenance.data)
    results = [
        EvalResult(
            task_type=task,
            dataset_type=name,
            dataset_name=name,
            dataset_split="test",
            metric_type=figure.rpartition(".")[2],
            metric_name=figure,
            metric_value=metric["value"],
        )
        for figure, metric in card.metrics.items()
    ]
    return ModelCardData(
        base_model=card.base.name if on_hub else None,  # the Hub accepts no other names
        library_name="transformers" if card.weights else "peft",
        pipeline_tag=task,
        tags=["vlm-ft", card.form.task],
        model_name=card.name,
        eval_results=results or None,
    )
