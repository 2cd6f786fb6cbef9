"""The transformers: each is an adapter of the pipeline with scikit-learn's checks around it; the mathematics is there alone.

They differ from most transformers in that y is a matrix, the new vectors of the items whose old vectors are X. There is no
`partial_fit`: a few thousand pairs fit into memory, and all of them at once are fitted in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, validate_data

from carryover import artefacts, registry
from carryover.adapters import Adapter, Head
from carryover.errors import ArtefactError, ConfigurationError, unknown

if TYPE_CHECKING:
    from sklearn.utils import Tags

KIND = "embedding-adapter"
FLOATS = (np.float32, np.float64, np.float16)


class EmbeddingAdapter(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What the transformers share. `name` is that of the pipeline's adapter, whose parameters the constructor's arguments are.

    After `fit`, `adapter_` is the fitted adapter of the pipeline, `n_features_in_` is d and `n_features_out_` is e.
    """

    name: str
    adapter_: Adapter

    def fit(self, X: Any, y: Any, labels: Any = None) -> Self:
        """Learn the map from X [n, d] to y [n, e]: row i of both is the same item, under the old and the new model.

        A few pairs suffice for a start: the closed forms take a single one. y may be [n] where e is 1.

        Args:
            X: vectors under the old model. y: those of the same items under the new one. labels: [n], the items' classes, where the adapter
                uses any; -1 stands for none.

        Raises:
            ValueError: if the rows do not pair, a value is not finite, or the adapter needs e = d and it is not.
            ConfigurationError: if a parameter has a wrong type or is out of range.
        """
        X, y = self._pairs(X, y)
        adapter: Adapter = registry.build("adapters", self.name, self._parameters())
        self.adapter_ = adapter.fit(X, y, *self._supervision(y, labels))
        self.n_features_out_ = y.shape[1]
        return self

    def _pairs(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=FLOATS)
        return X, y[:, None] if y.ndim == 1 else y

    def _supervision(self, y: np.ndarray, labels: Any) -> tuple[np.ndarray | None, Head | None]:
        """Return what the pipeline's adapter takes beside the pairs: classes and a classifier over new vectors; most use neither."""
        return None, None

    def transform(self, X: Any) -> np.ndarray:
        """Carry X [m, d] into the new space, [m, e] of the floating-point type of X; computed in float32."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=FLOATS)
        with np.errstate(over="ignore"):
            carried: np.ndarray = self.adapter_.transform(X).astype(X.dtype, copy=False)
        if not np.isfinite(carried).all():
            raise ValueError(f"Carried vectors exceed what {X.dtype} holds: give the stored ones in a wider type.")
        return carried

    def score(self, X: Any, y: Any) -> float:
        """Return the share of the variance of y [n, e] that the carried X [n, d] explains, R^2: 1 is perfect, 0 no better than the mean of y."""
        carried = self.transform(X)
        return float(r2_score(np.asarray(y, dtype=np.float64), carried.astype(np.float64), multioutput="variance_weighted"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted adapter as one safetensors file, which `load` reads."""
        check_is_fitted(self)
        fields = {"parameters": self._parameters(), "dimensions": [self.n_features_in_, self.n_features_out_]}
        artefacts.write(path, KIND, self.adapter_.state(), adapter=self.name, **fields)

    def _parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments, numpy's numbers, which searches over a grid set, as Python's."""
        return {key: value.item() if isinstance(value, np.generic) else value for key, value in self.get_params(deep=False).items()}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = [np.dtype(kind).name for kind in FLOATS]
        return tags


class NoAdapter(EmbeddingAdapter):
    """The identity: old vectors as they are, among the new ones. What every adapter must beat."""

    name = "none"

    def transform(self, X: Any) -> np.ndarray:
        """Return X [m, d] as it is, in all its digits."""
        check_is_fitted(self)
        same: np.ndarray = validate_data(self, X, reset=False, dtype=FLOATS, copy=True)
        return same


class SDCAdapter(EmbeddingAdapter):
    """Semantic drift compensation, see `carryover.adapters.sdc`: a vector moves as the pairs around it did. Needs e = d.

    Args:
        bandwidth: of the kernel, as a share of the spread of the old vectors.
    """

    name = "sdc"

    def __init__(self, bandwidth: float = 0.3) -> None:
        self.bandwidth = bandwidth


class LinearAdapter(EmbeddingAdapter):
    """An affine map by ridge regression, see `carryover.adapters.linear`.

    Args:
        ridge: the penalty, as a share of the old vectors' mean variance.
    """

    name = "linear"

    def __init__(self, ridge: float = 0.01) -> None:
        self.ridge = ridge


class MLPAdapter(EmbeddingAdapter):
    """The paper's perceptron, by default added to the ridge solution; see `carryover.adapters.mlp` for its arguments.

    It is narrower here than in the paper: embeddings have many dimensions, and millions of them are carried. A `classification_weight`
    needs labels: a softmax classifier is then fitted on the labelled new vectors and held fixed, as the network's head is in the pipeline.
    """

    name = "mlp"

    def __init__(
        self,
        width: float = 2,
        start: Literal["none", "identity", "linear"] = "linear",
        ridge: float = 0.01,
        similarity: Literal["cosine", "squared"] = "squared",
        similarity_weight: float = 1.0,
        classification_weight: float = 0.0,
        steps: int = 500,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.width = width
        self.start = start
        self.ridge = ridge
        self.similarity = similarity
        self.similarity_weight = similarity_weight
        self.classification_weight = classification_weight
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.noise = noise
        self.seed = seed

    def _supervision(self, y: np.ndarray, labels: Any) -> tuple[np.ndarray | None, Head | None]:
        if not self.classification_weight:
            return None, None
        if labels is None or np.shape(labels) != (len(y),):
            raise ValueError(f"A classification_weight needs a label for each of {len(y)} pairs; got {None if labels is None else np.shape(labels)}.")
        known = np.asarray(labels) != -1
        if not known.any():
            raise ValueError("A classification_weight needs labels, and all of them are -1.")
        from carryover.classifiers import fit_softmax

        classes, found = np.unique(np.asarray(labels)[known], return_inverse=True)
        numbers = np.full(len(y), -1, dtype=np.int64)
        numbers[known] = found
        fitted = fit_softmax(y[known], found, len(classes), penalty=1e-3)
        weight = fitted.weight / fitted.spread
        return numbers, Head(weight.astype(np.float32), (fitted.bias - weight @ fitted.centre).astype(np.float32))


class AutoAdapter(EmbeddingAdapter):
    """The simplest adapter that carries held-out pairs as well as the best does, fitted again on all of them.

    After `fit`, `scores_` has each candidate's `score` on the held-out pairs by name, `chosen_` the name of the chosen one and `best_` that
    transformer. `save` writes it.

    Args:
        candidates: adapters by name, simple ones first; None takes each adapter of this module with its defaults (and the perceptron with
            `seed`), as far as it fits the dimensions.
        tolerance: as good as the best is who leaves at most so much more of the variance unexplained, as a share of what the best leaves.
        held_out: the share of pairs, at least two of them, that choose.
        seed: of the choice of these pairs, and of the perceptron where no candidates are given.
    """

    name = "auto"

    def __init__(
        self,
        candidates: Mapping[str, EmbeddingAdapter] | None = None,
        tolerance: Annotated[float, Field(ge=0)] = 0.02,
        held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.candidates = candidates
        self.tolerance = tolerance
        self.held_out = held_out
        self.seed = seed

    def fit(self, X: Any, y: Any, labels: Any = None) -> Self:
        """Choose an adapter on pairs X [n, d] and y [n, e], and fit it on all of them; see `EmbeddingAdapter.fit`.

        Raises:
            ValueError: as there, and for fewer than three pairs.
        """
        X, y = self._pairs(X, y)
        registry.checked(AutoAdapter, self._parameters(), self.name)
        n, square = len(X), X.shape[1] == y.shape[1]
        if n < 3:
            raise ValueError(f"To choose an adapter, two pairs are held out and others fitted: 3 are needed, and n_samples = {n}.")
        order = np.random.default_rng(self.seed).permutation(n)
        held_out, rest = np.split(order, [min(max(round(self.held_out * n), 2), n - 1)])
        candidates = self.candidates
        if candidates is None:
            candidates = {name: seeded(name, self.seed) for name in ADAPTERS if square or name in ("linear", "mlp")}
        if not candidates:
            raise ConfigurationError("Parameter adapters.auto.candidates is empty: name one adapter at least, or None for all.")
        some = None if labels is None else np.asarray(labels)[rest]
        self.scores_ = {name: clone(adapter).fit(X[rest], y[rest], some).score(X[held_out], y[held_out]) for name, adapter in candidates.items()}
        unexplained = 1 - max(self.scores_.values())
        self.chosen_ = next(name for name, score in self.scores_.items() if 1 - score <= (1 + self.tolerance) * unexplained)
        self.best_ = clone(candidates[self.chosen_]).fit(X, y, labels)
        self.n_features_out_ = y.shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Carry X [m, d] by the chosen adapter, [m, e]."""
        check_is_fitted(self)
        carried: np.ndarray = self.best_.transform(validate_data(self, X, reset=False, dtype=FLOATS))
        return carried

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the chosen adapter, as its own `save` does."""
        check_is_fitted(self)
        self.best_.save(path)


ADAPTERS: dict[str, type[EmbeddingAdapter]] = {cls.name: cls for cls in (NoAdapter, SDCAdapter, LinearAdapter, MLPAdapter)}


def make(name: str, **parameters: Any) -> EmbeddingAdapter:
    """Return the adapter called `name`, "auto" among them, not fitted yet.

    Raises:
        ConfigurationError: if there is none; the nearest names are given.
    """
    known: dict[str, type[EmbeddingAdapter]] = {**ADAPTERS, AutoAdapter.name: AutoAdapter}
    if name not in known:
        raise ConfigurationError(unknown("adapter", name, known))
    return known[name](**parameters)


def seeded(name: str, seed: int) -> EmbeddingAdapter:
    """Return the adapter called `name`, with the seed where it has one; raises as `make`."""
    return make(name, **({"seed": seed} if name in (MLPAdapter.name, AutoAdapter.name) else {}))


def load(path: str | os.PathLike[str]) -> EmbeddingAdapter:
    """Return the fitted adapter that `EmbeddingAdapter.save` wrote; a file from a stranger can do no harm.

    Raises:
        ArtefactError: if the file is missing or damaged, of another kind, or does not hold what it claims.
    """
    artefact = artefacts.read(path, KIND)
    try:
        d, e = artefact.fields["dimensions"]
        adapter = ADAPTERS[artefact.fields["adapter"]](**artefact.fields["parameters"])
        inner: Adapter = registry.build("adapters", adapter.name, artefact.fields["parameters"])
        adapter.adapter_ = inner.restore(artefact.tensors)
        adapter.n_features_in_, adapter.n_features_out_ = int(d), int(e)
        carried = adapter.transform(np.zeros((1, d), dtype=np.float32))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, ConfigurationError) as error:
        raise ArtefactError(f"{path} holds no adapter that could be restored: {' '.join(str(error).split()).rstrip('.')}.") from error
    if carried.shape != (1, e):
        raise ArtefactError(f"{path} claims an adapter to {e} dimensions and holds one to {carried.shape[1]}.")
    return adapter
