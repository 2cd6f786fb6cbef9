"""Anyone's embeddings: the adapters keep scikit-learn's rules, agree with the pipeline's, and choose by pairs held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from carryover import artefacts, registry
from carryover.embeddings import ADAPTERS, AutoAdapter, EmbeddingAdapter, LinearAdapter, MLPAdapter, NoAdapter, SDCAdapter, load, make
from carryover.errors import ArtefactError, ConfigurationError

torch.set_num_threads(1)
QUICK: dict[str, dict[str, Any]] = {"mlp": {"steps": 30}}


def quick(name: str) -> EmbeddingAdapter:
    return make(name, **QUICK.get(name, {}))


def pairs(seed: int = 0, n: int = 60, d: int = 4, e: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    old = random.normal(size=(n, d)).astype(np.float32) * 2 + 1
    return old, (np.abs(old @ random.normal(size=(d, e))) + 0.1 * random.normal(size=(n, e))).astype(np.float32)


class Squared:
    """scikit-learn's checks give a target of one column; these adapters need one as wide as X."""

    def _pairs(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = super()._pairs(X, y)  # type: ignore[misc]
        return X, X + y[:, :1]

    def score(self, X: Any, y: Any) -> float:
        return super().score(X, np.asarray(X, dtype=float) + np.reshape(y, (-1, 1)))  # type: ignore[misc, no-any-return]


class SquareNo(Squared, NoAdapter):
    pass


class SquareSDC(Squared, SDCAdapter):
    pass


# Rows one by one, or in another order, must there give a batch's result to 1e-7; in float32 its last digits depend on the shape of a matrix
# product and on a row's place in it.
ROUNDED = dict.fromkeys(["check_methods_subset_invariance", "check_methods_sample_order_invariance"], "carried in float32")


@parametrize_with_checks(
    [SquareNo(), SquareSDC(), LinearAdapter(), MLPAdapter(steps=3), AutoAdapter({"linear": LinearAdapter()})],
    expected_failed_checks=lambda estimator: {} if estimator.name == "none" else ROUNDED,
)
def test_scikit_learn_s_checks_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_pipeline_s_adapter_gives_the_same_vectors(name: str) -> None:
    (old, new), stored = pairs(), pairs(1)[0]
    mine = quick(name).fit(old, new)
    theirs = registry.build("adapters", name, mine.get_params()).fit(old, new)
    assert np.array_equal(mine.transform(stored), theirs.transform(stored))


@pytest.mark.parametrize("name", ADAPTERS)
@settings(deadline=None, max_examples=15)
@given(
    n=st.integers(1, 20),
    d=st.integers(1, 5),
    m=st.integers(1, 9),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
def test_an_adapter_keeps_the_floating_point_type_and_survives_a_file(
    name: str, n: int, d: int, m: int, seed: int, dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old, new = (side.astype(dtype) for side in pairs(seed, n, d, d))
    stored = pairs(seed + 1, m, d, d)[0].astype(dtype)
    untouched = stored.copy()
    adapter = make(name, **({"steps": 3} if name == "mlp" else {})).fit(old, new)
    carried = adapter.transform(stored)
    assert carried.dtype == dtype and carried.shape == (m, d) and not np.shares_memory(carried, stored)
    assert np.array_equal(stored, untouched)
    path = tmp_path_factory.mktemp("file") / "adapter.safetensors"
    adapter.save(path)
    again = load(path)
    assert type(again) is type(adapter) and again.get_params() == adapter.get_params()
    assert np.array_equal(again.transform(stored), carried)
    assert np.allclose(
        carried.astype(float), clone(adapter).fit(old.astype(float), new.astype(float)).transform(stored.astype(float)), atol=0.1, rtol=0.01
    )


def test_none_keeps_every_digit() -> None:
    stored = np.array([[1 / 3, 1e200], [1e-300, 2.0]])
    assert np.array_equal(NoAdapter().fit(*pairs(d=2, e=2)).transform(stored), stored)


@pytest.mark.parametrize("name", ["linear", "mlp", "auto"])
@pytest.mark.parametrize(("d", "e"), [(3, 7), (7, 3)])
def test_an_adapter_may_lead_to_another_dimension(name: str, d: int, e: int, tmp_path: Path) -> None:
    old, new = pairs(0, 200, d, e)
    fresh = pairs(1, 60, d, e)[0]
    candidates = {"candidates": {"linear": LinearAdapter(), "mlp": MLPAdapter(steps=5)}} if name == "auto" else QUICK.get(name, {})
    adapter = make(name, **candidates).fit(old, new)
    assert adapter.transform(fresh).shape == (60, e)
    assert adapter.score(old, new) > 0.3
    adapter.save(tmp_path / "a.safetensors")
    assert np.array_equal(load(tmp_path / "a.safetensors").transform(fresh), adapter.transform(fresh))


def test_an_affine_map_between_dimensions_is_recovered() -> None:
    random = np.random.default_rng(0)
    matrix, offset, old = random.normal(size=(3, 5)), random.normal(size=5), random.normal(size=(40, 3))
    stored = random.normal(size=(9, 3)) * 3
    assert np.allclose(LinearAdapter(ridge=0.0).fit(old, old @ matrix + offset).transform(stored), stored @ matrix + offset, atol=1e-4)


@pytest.mark.parametrize("adapter", [NoAdapter(), SDCAdapter(), MLPAdapter(start="identity")])
def test_what_needs_one_dimension_says_so(adapter: EmbeddingAdapter) -> None:
    with pytest.raises(ValueError, match=r"^Pairs must be two matrices of the same shape"):
        adapter.fit(*pairs(d=3, e=4))


def test_labels_count_through_a_classifier_over_the_new_vectors() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([4, 9, -1], 100)
    old = random.normal(size=(300, 6)).astype(np.float32)
    old[:, 1] += np.where(labels == 9, 3, -3)
    new = old.copy()
    new[:, 0] = np.where(labels == 9, 3, -3) + 0.1 * random.normal(size=300)
    # The similarity is silent, so that what is learned comes from the labels alone: carried vectors move to the sides of their classes.
    paper: dict[str, Any] = {"start": "identity", "similarity_weight": 0.0, "classification_weight": 1.0, "steps": 300, "weight_decay": 0.0}
    known = labels != -1
    carried = MLPAdapter(**paper).fit(old, new, labels).transform(old)[known]
    assert ((carried[:, 0] > 0) == (labels[known] == 9)).mean() > 0.85
    assert ((old[known][:, 0] > 0) == (labels[known] == 9)).mean() < 0.7
    with pytest.raises(ValueError, match="a label for each of 300 pairs; got None"):
        MLPAdapter(**paper).fit(old, new)
    with pytest.raises(ValueError, match="all of them are -1"):
        MLPAdapter(**paper).fit(old, new, np.full(300, -1))


def test_score_is_the_share_of_variance_explained() -> None:
    old, new = pairs()
    adapter = LinearAdapter().fit(old, new)
    error = ((new - adapter.transform(old)).astype(float) ** 2).sum()
    assert adapter.score(old, new) == pytest.approx(1 - error / ((new - new.mean(axis=0)).astype(float) ** 2).sum(), abs=1e-6)
    assert adapter.score(old, new) == pytest.approx(r2_score(new, adapter.transform(old), multioutput="variance_weighted"), abs=1e-5)


def _drifted(kind: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    d, noise = (16, 0.01) if kind == "mlp" else (5, 0.3)
    old, turn = random.normal(size=(400, d)), random.normal(size=(d, d))
    new = {"none": old, "linear": old @ turn, "sdc": np.abs(old) * 4, "mlp": np.abs(old @ turn)}[kind]
    return old, new + noise * random.normal(size=new.shape)


@pytest.mark.parametrize("kind", ["none", "sdc", "linear", "mlp"])
def test_auto_chooses_what_carries_held_out_pairs_best(kind: str) -> None:
    old, new = _drifted(kind)
    auto = AutoAdapter(seed=1).fit(old, new)
    assert auto.chosen_ == kind and set(auto.scores_) == set(ADAPTERS)
    assert 1 - auto.scores_[kind] <= 1.02 * (1 - max(auto.scores_.values()))
    order = np.random.default_rng(1).permutation(400)
    held_out, rest = order[:80], order[80:]
    assert auto.scores_["sdc"] == SDCAdapter().fit(old[rest], new[rest]).score(old[held_out], new[held_out])
    seeded = {"seed": 1} if kind == "mlp" else {}
    assert np.array_equal(auto.transform(old), make(kind, **seeded).fit(old, new).transform(old)), "the chosen one is fitted on all pairs"


def test_auto_prefers_the_first_of_nearly_equal_candidates() -> None:
    pair, stiff, loose = _drifted("linear"), LinearAdapter(0.03), LinearAdapter(0.001)
    scores = AutoAdapter({"stiff": stiff, "loose": loose}).fit(*pair).scores_
    more = (1 - scores["stiff"]) / (1 - scores["loose"]) - 1
    assert more > 0
    for factor, chosen in ((0.9, "loose"), (1.1, "stiff")):
        assert AutoAdapter({"stiff": stiff, "loose": loose}, tolerance=factor * more).fit(*pair).chosen_ == chosen


def test_auto_saves_the_chosen_adapter_and_takes_candidates(tmp_path: Path) -> None:
    old, new = _drifted("linear")
    auto = AutoAdapter({"stiff": LinearAdapter(1e6), "loose": LinearAdapter(1e-6)}).fit(old, new)
    assert auto.chosen_ == "loose"
    auto.save(tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert isinstance(loaded, LinearAdapter) and loaded.ridge == 1e-6
    with pytest.raises(ValueError, match=r"3 are needed, and n_samples = 2\.$"):
        AutoAdapter().fit(old[:2], new[:2])


def test_auto_without_a_candidate_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="candidates is empty"):
        AutoAdapter({}).fit(*_drifted("linear"))


def test_a_grid_search_sets_numpy_numbers(tmp_path: Path) -> None:
    search = GridSearchCV(MLPAdapter(steps=2), {"seed": np.arange(2), "ridge": np.array([1e-3, 1e3], dtype=np.float32)}, cv=2).fit(
        *_drifted("linear")
    )
    assert search.best_params_["ridge"] == np.float32(1e-3)
    search.best_estimator_.save(tmp_path / "a.safetensors")


def test_wrong_parameters_and_names_get_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"^Parameter adapters\.linear\.ridge is -1"):
        LinearAdapter(ridge=-1).fit(*pairs())
    with pytest.raises(ConfigurationError, match=r"^Unknown adapter 'lineal'; did you mean 'linear'\?"):
        make("lineal")


def test_vectors_that_a_narrow_type_cannot_hold_are_refused() -> None:
    old = np.ones((3, 2), dtype=np.float16)
    adapter = LinearAdapter().fit(old, old.astype(np.float32) * 1e6)
    with pytest.raises(ValueError, match="exceed what float16 holds"):
        adapter.transform(old)


def test_a_file_of_another_kind_or_with_other_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    artefacts.write(path, "memory", {"features": np.zeros((2, 2), dtype=np.float32)})
    with pytest.raises(ArtefactError, match="holds a 'memory' artefact where a 'embedding-adapter' artefact is needed"):
        load(path)
    good: dict[str, Any] = {"adapter": "linear", "parameters": {"ridge": 0.1}, "dimensions": [2, 3]}
    state = {"matrix": np.zeros((2, 3), dtype=np.float32), "offset": np.zeros(3, dtype=np.float32)}
    artefacts.write(path, "embedding-adapter", state, **good)
    assert load(path).transform(np.ones((1, 2))).shape == (1, 3)
    wrong: list[dict[str, Any]] = [{"adapter": "lineal"}, {"adapter": ["linear"]}, {"parameters": {"ridge": "x"}}, {"parameters": {"rigde": 1}}]
    wrong += [{"dimensions": [2, 4]}, {"dimensions": [3, 3]}, {"dimensions": 2}, {"dimensions": ["2", 3]}, {"adapter": "sdc", "parameters": {}}]
    for fields in wrong:
        artefacts.write(path, "embedding-adapter", state, **good | fields)
        with pytest.raises(ArtefactError, match=str(path)):
            load(path)
    artefacts.write(path, "embedding-adapter", state, adapter="linear")
    with pytest.raises(ArtefactError, match="records no dimensions"):
        load(path)
