"""Array code against the machine's floor: herding, and each adapter's fit and transform.

A floor is the least work the method needs, at the speed of a large matrix product or copy on this machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.measure import Rates, Row, fastest
from carryover import registry
from carryover.adapters import Adapter
from carryover.selection import herding


def _row(name: str, took: float, floor: float, note: str) -> Row:
    return Row(name, _time(took), f"{_time(floor)} floor", floor / took, note)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def herding_row(found: Rates, images: int = 1300, d: int = 512, measured: int = 3, classes: int = 1000, repeats: int = 3) -> Row:
    """Return the time to order all images of `classes` classes, from that of `measured` ones, against its floor.

    All n steps need the products of all pairs of rows once, n^2 d / 2 multiplications and additions by symmetry, and each
    step reads one row of them: n^2 numbers.
    """
    random = np.random.default_rng(0)
    sets = [np.abs(random.standard_normal((images, d))).astype(np.float32) for _ in range(measured)]
    took = fastest(lambda: [herding(features) for features in sets], repeats) / measured * classes
    floor = (images**2 * d / found.float64 + 8 * images**2 / found.copy) * classes
    return _row(
        f"herding, {classes} classes of {images} x {d}", took, floor, f"extrapolated from {measured} classes; products of all pairs in float64"
    )


def adapter_rows(found: Rates, pairs: int = 10_000, stored: int = 1_000_000, d: int = 512, run: int = 20_000, repeats: int = 2) -> list[Row]:
    """Return the time of each adapter's fit to `pairs` and of its transform of `stored` features (extrapolated from `run`)."""
    random = np.random.default_rng(0)
    before = np.abs(random.standard_normal((pairs, d))).astype(np.float32)
    after = before + 0.1 * (before @ random.standard_normal((d, d)).astype(np.float32)) / d**0.5
    memory = np.abs(random.standard_normal((run, d))).astype(np.float32)
    steps, batch = 500, 128
    hidden = 16 * d
    perceptron = 2 * (2 * d * hidden + hidden**2)
    copied = 8 * d / found.copy
    # What each needs at least: seconds of a fit, seconds of a stored feature.
    work: dict[str, tuple[float, float, str]] = {
        "none": (0.0, 0.0, "nothing to do"),
        "sdc": (
            2 * copied * pairs,
            4 * d * pairs / found.float32,
            "two products of all features with all pairs in float32, the exponential left out",
        ),
        "linear": (4 * pairs * d**2 / found.float64, 2 * d**2 / found.float32 + copied, "two d x n x d products in float64; one product in float32"),
        "mlp": (
            steps * (3 * perceptron * batch / found.float32 + 28 * (2 * d * hidden + hidden**2) / found.copy),
            perceptron / found.float32,
            f"width 16, {steps} steps of {batch} pairs in float32: forward, backward, and Adam's 7 passes over the weights",
        ),
    }
    rows = []
    for name in registry.names("adapters"):
        if name not in work or name == "none":
            continue
        adapter: Adapter = registry.build("adapters", name, {})
        fit_floor, transform_floor, note = work[name]
        if name == "mlp":
            # A fit is mostly steps, all alike: some of them are enough.
            some = max(steps // 50, 1)
            few: Adapter = registry.build("adapters", name, {"steps": some})
            none: Adapter = registry.build("adapters", name, {"steps": 1})
            rest = fastest(_fit(none, before, after), 1)
            took = rest + max(fastest(_fit(few, before, after), 1) - rest, 0.0) / max(some - 1, 1) * (steps - 1)
            adapter, note, part = few, note + f"; extrapolated from {some} steps", min(run, 2000)
        else:
            took = fastest(_fit(adapter, before, after), repeats)
            part = run if name == "linear" else min(run, 10_000)
        rows.append(_row(f"{name}: fit, {pairs} pairs x {d}", took, fit_floor, note))
        carried = fastest(lambda adapter=adapter, part=part: adapter.transform(memory[:part]), repeats) / part * stored  # type: ignore[misc]
        rows.append(_row(f"{name}: transform, {stored} x {d}", carried, transform_floor * stored, f"extrapolated from {part} features"))
    return rows


def _fit(adapter: Adapter, before: np.ndarray, after: np.ndarray) -> Callable[[], object]:
    return lambda: adapter.fit(before, after)
