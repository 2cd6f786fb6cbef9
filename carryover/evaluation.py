"""Evaluation of one cell of the table: a memory, read by every classifier at every budget, on validation and test features."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from carryover import classifiers, metrics
from carryover.adapters import Head
from carryover.errors import ConfigurationError
from carryover.memory import Memory

Classifier = Literal["nme", "softmax", "cosine", "gaussian"]
PARTS = ("validation", "test")


class Evaluation:
    """What is evaluated.

    Args:
        classifiers: over the memory, of "nme", "softmax", "cosine" and "gaussian"; the backbone's own head is always evaluated.
        primary: the classifier that the summary and the table show.
        budgets: vectors a class; each is a prefix of the memory's order of selection. The whole memory always counts.
        penalty: of the trained classifiers, lambda in `carryover.classifiers`.
    """

    def __init__(
        self,
        classifiers: Annotated[list[Classifier], Field(min_length=1)],
        primary: Classifier = "softmax",
        budgets: list[Annotated[int, Field(gt=0)]] | None = None,
        penalty: Annotated[float, Field(ge=0)] = 1e-3,
    ) -> None:
        if primary not in classifiers:
            raise ConfigurationError(
                f"Parameter evaluation.primary is {primary!r}, which is not among evaluation.classifiers: {', '.join(classifiers)}."
            )
        self.classifiers = classifiers
        self.primary = primary
        self.budgets = budgets or []
        self.penalty = penalty


def evaluate(
    memory: Memory,
    head: Head | None,
    observed: dict[str, tuple[np.ndarray, np.ndarray]],
    sizes: list[int],
    settings: Evaluation,
    rehearsed: int = 0,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Return a record for each classifier and budget: its memory in bytes, R[i, 0..i] and A_i on validation and test.

    Where everything that is kept is used, a record also has the confusion of the test images: for each class the classes that its
    images were taken for, and how many of them.

    Args:
        memory: of all classes seen; without rows, only the head is evaluated.
        head: the network's own, evaluated once; None where there is none.
        observed: features [n, d] and labels [n] of "validation" and "test" images, under the current network.
        sizes: classes of each task so far.
        settings: which classifiers and budgets.
        rehearsed: bytes of the images or the generator that the regime keeps beside the memory; all that the head needs.
        fields: what the memory's header records, which counts towards its bytes.
    """
    records = [] if head is None else [_record("head", None, rehearsed, classifiers.of_head(head), observed, sizes)]
    if not len(memory.features):
        return records
    largest = 0 if memory.form else int(memory.counts.max(initial=0))
    for budget in [*sorted(b for b in settings.budgets if b < largest), None]:
        kept = memory.prefix(budget)
        values, labels = kept.features, kept.labels
        # Exemplars are kept as images: their features are made of these when they are needed.
        size = rehearsed + (0 if fields.get("adapter") == "exemplars" else kept.size(**fields))
        for name in settings.classifiers:
            scores = classifiers.FITTERS[name](values, labels, len(kept.counts), settings.penalty)
            records.append(_record(name, budget, size, scores, observed, sizes))
    return records


def _record(
    classifier: str, budget: int | None, size: int, scores: Any, observed: dict[str, tuple[np.ndarray, np.ndarray]], sizes: list[int]
) -> dict[str, Any]:
    record: dict[str, Any] = {"classifier": classifier, "budget": budget, "bytes": size}
    for part in PARTS:
        features, labels = observed[part]
        predicted = scores(features).argmax(axis=1) if len(features) else np.empty(0, dtype=np.int64)
        row, overall = metrics.accuracy_row(metrics.class_accuracies(predicted, labels, sum(sizes)), sizes)
        record[part] = {"tasks": [_rounded(a) for a in row], "accuracy": _rounded(overall)}
        if part == "test" and budget is None:
            counts = metrics.confusion(predicted, labels, sum(sizes))
            record["confusion"] = [{str(taken): int(counts[label, taken]) for taken in np.flatnonzero(counts[label])} for label in range(sum(sizes))]
    return record


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)
