"""`Observation`: counts the labels of each source as they are read, to find the form that they fill."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from vlm_ft.answers.form import Form, Options, by_path
from vlm_ft.answers.kinds import Choice, FieldSpec, Items
from vlm_ft.answers.task import Task, Values
from vlm_ft.errors import FormError, nearest

COMMON_SHARE = 0.5
"""A field that a smaller share of a source's examples states is asked for only if the recipe's `fields` name it."""

MAX_NAMES = 2000
"""A choice has at most this many names; a column with more is free text."""


@dataclass
class _Tally:
    """The number of a source's examples that state each field, and of its list items that state each part."""

    examples: int = 0
    items: Counter[str] = field(default_factory=Counter)
    stated: Counter[str] = field(default_factory=Counter)

    def total(self, path: str) -> int:
        name, _, part = path.partition(".")
        return self.items[name] if part else self.examples

    def lacking(self, path: str) -> int:
        return self.total(path) - self.stated[path]


class Observation:
    """Counts what labels state, in memory that does not grow with the number of labels.

    Serving always asks for the whole form, so a form includes only fields that every source labels: if one source
    labelled only `kind` and another only `passed`, no training row would ask for both. A field that some examples of a
    source lack (the severity of a car without damage) is asked for, but left out of the prompts of those examples.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._specs = by_path(task.fields)
        self._tallies: dict[str, _Tally] = defaultdict(_Tally)
        self._names: dict[str, set[str]] = defaultdict(set)

    def add(self, values: Values, source: str = "") -> None:
        """Count one example's values, unless it has none."""
        if values:
            self._tallies[source].examples += 1
            self._count(values, self._task.fields, self._tallies[source])

    def _count(self, values: Values, fields: Sequence[FieldSpec], tally: _Tally, prefix: str = "") -> None:
        for spec in fields:
            if spec.name not in values:
                continue
            path, value = prefix + spec.name, values[spec.name]
            tally.stated[path] += 1
            if isinstance(spec.kind, Choice) and len(self._names[path]) <= MAX_NAMES:
                self._names[path].add(str(value))
            elif isinstance(spec.kind, Items) and isinstance(value, list):
                rows = [row for row in value if isinstance(row, dict)]
                tally.items[path] += len(rows)
                for row in rows:
                    self._count(row, spec.kind.fields, tally, f"{path}.")

    def form(self, options: Options | None = None, only: Iterable[str] | None = None) -> Form:
        """The form that the labels fill: the fields that every source states, with the names in use.

        A part of a list is included if every item states it. `options` override the names in use; `only` (field paths)
        selects these fields, even if few examples state them. Raises `FormError` if no field is left, if a source lacks
        one of `only`, or if a choice has more than `MAX_NAMES` names.
        """
        chosen = list(only) if only is not None else [spec.name for spec in self._task.fields if self._common(spec)]
        if only is not None:
            for path in chosen:
                self._require(path)
        kept = {leaf for path in chosen for leaf in self._leaves(path)}
        if not kept and len(self._tallies) > 1:
            remedy = "label the same fields in each, or train an adapter for each"
            raise FormError(f"task {self._task.name}", "no field is labelled in every source", remedy)
        if not kept:
            known = ", ".join(sorted(self._specs))
            raise FormError(f"task {self._task.name}", "the data label none of its fields", f"known: {known}")
        return Form.of(self._task, {**self._used(kept - set(options or ())), **(options or {})}, kept)

    def notes(self, form: Form, only: Iterable[str] | None = None) -> Iterator[str]:
        """A line for each field, or part of an included list, that too few labels state for it to be asked for."""
        asked = by_path(form.fields)
        for path in filter(self._stated, self._specs):
            name, _, part = path.partition(".")
            if path in asked or (name not in asked if part else only is not None):
                continue
            for source, tally in self._tallies.items():
                lacking, total = tally.lacking(path), tally.total(path)
                lack = f"{path}: {lacking} of {total} {'items' if part else 'examples'}{_of(source)} lack it"
                if lacking == total or (lacking and part):
                    yield f"{lack}, so it is not asked for; label it there to include it"
                elif lacking > (1 - COMMON_SHARE) * total:
                    yield f"{lack}, so it is not asked for; list it under fields to include it anyway"

    def _stated(self, path: str) -> bool:
        return any(tally.stated[path] for tally in self._tallies.values())

    def _common(self, spec: FieldSpec) -> bool:
        tallies = self._tallies.values()
        return self._stated(spec.name) and all(t.stated[spec.name] >= COMMON_SHARE * t.examples for t in tallies)

    def _leaves(self, path: str) -> list[str]:
        """The paths to ask for: the field itself if it is stated; of a list, the parts that every item states."""
        return [
            leaf
            for leaf, spec in self._specs.items()
            if (leaf == path or leaf.startswith(f"{path}."))
            and not isinstance(spec.kind, Items)
            and self._stated(leaf)
            and ("." not in leaf or not any(tally.lacking(leaf) for tally in self._tallies.values()))
        ]

    def _require(self, path: str) -> None:
        """Raise `FormError` if the recipe's `fields` name one that the task lacks or a source does not label."""
        if path not in self._specs:
            raise FormError(f"task {self._task.name}", f"no field {path!r}", nearest(path, self._specs))
        name, _, part = path.partition(".")
        for source, tally in self._tallies.items() if self._stated(path) else ():
            if tally.stated[name] == 0:
                remedy = "label it there, or leave out the source or the field"
                raise FormError("fields", f"{path!r} is asked for, but no label{_of(source)} states it", remedy)
            if part and (lacking := tally.lacking(path)):
                problem = f"{path!r} is asked for, but {lacking} of {tally.total(path)} items{_of(source)} lack it"
                raise FormError("fields", problem, "complete them, or leave it out")
        if not self._leaves(path):
            raise FormError("fields", f"{path!r} is asked for, but no label states it", "leave it out")

    def _used(self, kept: set[str]) -> dict[str, list[str]]:
        """The names in use, by path, without those that a closed choice lacks: checking the labels reports them."""
        used = {}
        for path in kept & self._names.keys():
            kind = self._specs[path].kind
            assert isinstance(kind, Choice)
            if len(self._names[path]) > MAX_NAMES:
                raise FormError(path, f"more than {MAX_NAMES} names", "is that column free text?")
            used[path] = sorted(self._names[path].intersection(kind.options or self._names[path]))
        return {path: names for path, names in used.items() if names}


def observed(
    task: Task, answers: Iterable[Values], options: Options | None = None, only: Iterable[str] | None = None
) -> Form:
    """The form that the labels of one source fill; see `Observation.form`."""
    observation = Observation(task)
    for values in answers:
        observation.add(values)
    return observation.form(options, only)


def _of(source: str) -> str:
    return f" of {source}" if source else ""
