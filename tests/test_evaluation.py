"""Evaluation: one record for each classifier and budget, with the memory's bytes and the accuracies of every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carryover.adapters import Head
from carryover.classifiers import FITTERS, of_head
from carryover.errors import ConfigurationError
from carryover.evaluation import Evaluation, evaluate
from carryover.memory import Memory

SIZES = [2, 1]
FIELDS = {"regime": "distill", "adapter": "mlp", "task": "task1"}


def world(each: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    return (3 * np.eye(3)[labels] + random.normal(size=(len(labels), 3))).astype(np.float32), labels


def memory() -> Memory:
    features, _ = world()
    return Memory.empty(3, "float32").extended(features, np.array([12, 12, 12], dtype=np.int32))


def observed() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"validation": world(4, 1), "test": world(20, 2)}


def head(scale: float | None = None) -> Head:
    return Head(np.eye(3, dtype=np.float32)[[1, 0, 2]], np.zeros(3, dtype=np.float32), scale)


def records(budgets: list[int] | None = None, classifiers: Any = ("nme", "softmax", "cosine", "gaussian")) -> list[dict[str, Any]]:
    return evaluate(memory(), head(), observed(), SIZES, Evaluation(list(classifiers), budgets=budgets), **FIELDS)


def expected(predicted: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    per_class = [float((predicted[labels == c] == c).mean()) for c in range(3)]
    tasks = [round((per_class[0] + per_class[1]) / 2, 6), round(per_class[2], 6)]
    return {"tasks": tasks, "accuracy": round(sum(per_class) / 3, 6)}


def test_there_is_a_record_for_the_head_and_for_each_classifier_at_each_budget() -> None:
    found = [(record["classifier"], record["budget"]) for record in records([5, 2])]
    assert found == [("head", None), *((name, budget) for budget in (2, 5, None) for name in ("nme", "softmax", "cosine", "gaussian"))]


def test_the_confusion_counts_test_images_where_everything_kept_is_used() -> None:
    features, labels = observed()["test"]
    found = {record["classifier"]: record.get("confusion") for record in records([2]) if record["budget"] is None}
    assert all("confusion" not in record for record in records([2]) if record["budget"] == 2)
    for name in ("head", "nme"):
        scores = of_head(head())(features) if name == "head" else FITTERS["nme"](memory().features, memory().labels, 3, 1e-3)(features)
        predicted = scores.argmax(axis=1)
        expected = [
            {str(j): int(((labels == i) & (predicted == j)).sum()) for j in range(3) if ((labels == i) & (predicted == j)).any()} for i in range(3)
        ]
        assert found[name] == expected


def test_budgets_that_hold_the_whole_memory_are_left_out() -> None:
    assert {record["budget"] for record in records([3, 12, 50])} == {3, None}


def test_without_a_head_there_is_no_record_of_it() -> None:
    settings = Evaluation(["nme", "softmax"], budgets=[2])
    with_head, without = (evaluate(memory(), one, observed(), SIZES, settings, **FIELDS) for one in (head(), None))
    assert with_head[0]["classifier"] == "head" and without == with_head[1:]


def test_the_head_swaps_the_first_two_classes_and_keeps_nothing() -> None:
    first = records()[0]
    features, labels = observed()["test"]
    swapped = np.array([1, 0, 2])[features.argmax(axis=1)]
    assert first["bytes"] == 0 and first["test"] == expected(swapped, labels)


@pytest.mark.parametrize("budget", [2, 5, None])
@pytest.mark.parametrize("name", sorted(FITTERS))
def test_accuracies_are_those_of_a_classifier_fitted_on_the_first_rows_of_each_class(name: str, budget: int | None) -> None:
    features, labels = world()
    rows = np.concatenate([np.flatnonzero(labels == c)[:budget] for c in range(3)])
    scores = FITTERS[name](features[rows], labels[rows], 3, 1e-3)
    (record,) = (r for r in records([2, 5]) if (r["classifier"], r["budget"]) == (name, budget))
    for part, (seen, truth) in observed().items():
        assert record[part] == expected(scores(seen).argmax(axis=1), truth)


def test_bytes_are_those_of_the_file_that_the_budget_would_have_made(tmp_path: Path) -> None:
    for record in records([2, 5])[1:]:
        memory().prefix(record["budget"]).write(tmp_path / "m", **FIELDS)
        assert record["bytes"] == (tmp_path / "m").stat().st_size


def test_classes_and_sets_without_images_are_null() -> None:
    features, labels = world(20, 2)
    none = np.empty((0, 3), dtype=np.float32), np.empty(0, dtype=np.int64)
    seen = {"validation": none, "test": (features[labels != 2], labels[labels != 2])}
    for record in evaluate(memory(), head(), seen, SIZES, Evaluation(["nme"], "nme"), **FIELDS):
        assert record["validation"] == {"tasks": [None, None], "accuracy": None}
        assert record["test"]["tasks"][1] is None and record["test"]["accuracy"] == record["test"]["tasks"][0]


def test_scores_of_linear_and_cosine_heads_equal_their_formulas() -> None:
    random = np.random.default_rng(0)
    weight, bias, features = random.normal(size=(4, 3)), random.normal(size=4), random.normal(size=(6, 3))
    linear, cosine = of_head(Head(weight, bias))(features), of_head(Head(weight, np.zeros(4), 7.0))(features)
    for i, f in enumerate(features):
        for c, w in enumerate(weight):
            assert linear[i, c] == pytest.approx(w @ f + bias[c])
            assert cosine[i, c] == pytest.approx(7 * (w @ f) / (np.linalg.norm(w) * np.linalg.norm(f)))


def test_a_head_s_scores_equal_the_network_s_own() -> None:
    import torch

    from carryover.adapters import head_of
    from carryover.backbones import HEADS, to_arrays

    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    for module in HEADS.values():
        own = module(5)
        own.grow(3, torch.Generator().manual_seed(0))
        arrays = {f"head_{name}": array for name, array in to_arrays(own).items()}
        assert np.allclose(of_head(head_of(arrays))(features), own(torch.from_numpy(features)).detach().numpy(), atol=1e-5)


def test_the_primary_classifier_must_be_evaluated() -> None:
    with pytest.raises(ConfigurationError, match=r"evaluation\.primary is 'softmax'.*: nme, cosine\.$"):
        Evaluation(["nme", "cosine"])
