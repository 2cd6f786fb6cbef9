"""Storage: how a memory's vectors are written as numbers of few bytes, and read back as float32 on use.

`float32` and `float16` are the numbers themselves. `int8` is one byte a dimension: the values of a dimension, over all rows, are
rounded to 256 levels between its least and its greatest (affine quantisation; the scale is per dimension). `pq32`, `pq16` and `pq8`
are product quantisation with so many bytes a vector: a vector is cut into that many parts, and each part is replaced by the nearest
of 256 centroids (Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011; the implementation is
faiss'). Levels and centroids are part of what is written, and of its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from carryover.errors import ConfigurationError

Storage = Literal["float32", "float16", "int8", "pq32", "pq16", "pq8"]
NUMBERS: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16)}
_PARTS = {"pq32": 32, "pq16": 16, "pq8": 8}
_CENTROIDS = 256


def layout(storage: str, n: int, d: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return type and shape of each array that stands for `n` vectors of dimension `d`.

    Raises:
        ConfigurationError: if vectors of dimension `d` cannot be cut into the parts of a product quantiser.
    """
    if storage in NUMBERS:
        return {"features": (NUMBERS[storage], (n, d))}
    byte, half, single = np.dtype(np.uint8), np.dtype(np.float16), np.dtype(np.float32)
    if storage == "int8":
        return {"codes": (byte, (n, d)), "least": (single, (d,)), "step": (single, (d,))}
    parts = _PARTS[storage]
    if d % parts:
        raise ConfigurationError(
            f"Parameter memory.storage is {storage!r}, which cuts a feature into {parts} equal parts: {d} dimensions are no multiple."
        )
    # Without a row there is nothing to learn centroids from.
    return {"codes": (byte, (n, parts)), "centroids": (half, (parts, _CENTROIDS if n else 0, d // parts))}


def encode(storage: str, features: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that stand for features [n, d]; the same ones each time.

    Raises:
        ConfigurationError: as `layout`.
    """
    n, d = features.shape
    shapes = layout(storage, n, d)
    if storage in NUMBERS:
        # A float16 beyond 65,504 would be infinite.
        limits = np.finfo(NUMBERS[storage])
        return {"features": np.clip(features, limits.min, limits.max).astype(NUMBERS[storage])}
    if not n:
        return {name: np.zeros(shape, dtype) for name, (dtype, shape) in shapes.items()}
    return _levels(features) if storage == "int8" else _quantised(features, _PARTS[storage])


def _levels(features: np.ndarray) -> dict[str, np.ndarray]:
    # In double precision the difference of any two float32 is finite, and their quotient by any float32 step too.
    rows = features.astype(np.float64)
    least = rows.min(axis=0)
    exact = (rows.max(axis=0) - least) / 255
    step = exact.astype(np.float32)
    # Subnormal steps lose digits, down to none: 256 of one that was rounded down would not span the dimension.
    short = (step < exact) & (step < np.finfo(np.float32).tiny)
    step = np.where(short, np.nextafter(step, np.float32(np.inf)), step)
    codes = np.rint((rows - least) / np.where(step > 0, step.astype(np.float64), 1))
    return {"codes": np.clip(codes, 0, 255).astype(np.uint8), "least": least.astype(np.float32), "step": step}


def _quantised(features: np.ndarray, parts: int) -> dict[str, np.ndarray]:
    import faiss

    # One thread: the order of its sums is then the same on every machine.
    faiss.omp_set_num_threads(1)
    rows = np.ascontiguousarray(features, dtype=np.float32)
    quantiser = faiss.ProductQuantizer(rows.shape[1], parts, 8)
    quantiser.cp.min_points_per_centroid = 1
    # There are as many centroids as a byte can name, and no fewer rows may be given to learn them from.
    quantiser.train(rows if len(rows) >= _CENTROIDS else np.resize(rows, (_CENTROIDS, rows.shape[1])))
    limit = np.finfo(np.float16).max
    centroids = np.clip(faiss.vector_to_array(quantiser.centroids), -limit, limit).astype(np.float16)
    # Codes are chosen among the centroids as they are written.
    faiss.copy_array_to_vector(centroids.astype(np.float32), quantiser.centroids)
    return {"codes": quantiser.compute_codes(rows), "centroids": centroids.reshape(parts, _CENTROIDS, -1)}


def decode(storage: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the features float32 [n, d] that `encode` wrote down.

    Raises:
        KeyError: if one of the arrays is missing, or there is no such storage.
        ValueError: if the arrays do not fit each other.
    """
    if storage in NUMBERS:
        features = arrays["features"]
        if features.ndim != 2:
            raise ValueError(f"features have the shape {list(features.shape)}, which is no matrix")
        values: np.ndarray = features.astype(np.float32)
        return values
    codes = arrays["codes"]
    if codes.ndim != 2:
        raise ValueError(f"codes have the shape {list(codes.shape)}, which is no matrix")
    d = codes.shape[1] if storage == "int8" else _PARTS[storage] * int(arrays["centroids"].shape[-1])
    for name, (dtype, shape) in layout(storage, len(codes), d).items():
        if arrays[name].dtype != dtype or arrays[name].shape != shape:
            raise ValueError(f"{name} are {arrays[name].dtype} {list(arrays[name].shape)} where {dtype} {list(shape)} is needed")
    if storage == "int8":
        # In double precision, for a dimension may span more than the greatest float32.
        levels = arrays["least"].astype(np.float64) + codes * arrays["step"].astype(np.float64)
        limits = np.finfo(np.float32)
        rounded: np.ndarray = np.clip(levels, limits.min, limits.max).astype(np.float32)
        return rounded
    chosen = [part[codes[:, i]] for i, part in enumerate(arrays["centroids"].astype(np.float32))] if len(codes) else [np.empty((0, d), np.float32)]
    return np.concatenate(chosen, axis=1)
