"""Several runs as one table: mean, standard deviation and paired difference over class orders and initialisations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

CELL = ["regime", "adapter", "classifier", "budget"]
METRICS = ["average", "last", "forgetting", "gap_closed_average"]


def aggregate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell of the table: mean and standard deviation of each metric over runs, and differences from `none`.

    Args:
        runs: the rows of every run's results.csv, with the columns `order` and `seed` that tell the runs apart.

    Returns:
        Columns `<metric>_mean` and `<metric>_sd` (over runs, with n - 1), `difference_mean` and `difference_sd` of the
        average incremental accuracy against the adapter `none` of the same run, regime, classifier and budget, `runs`,
        `bytes` and, where known, `seconds`.
    """
    pair = ["order", "seed", "regime", "classifier", "budget"]
    stale = runs[runs["adapter"] == "none"].set_index(pair)["average"]
    paired = runs.assign(difference=runs["average"] - stale.reindex(pd.MultiIndex.from_frame(runs[pair])).to_numpy())
    grouped = paired.groupby([*CELL, "method"], sort=False)
    table = pd.DataFrame({"runs": grouped.size(), "bytes": grouped["bytes"].mean()})
    for metric in [*METRICS, "difference"]:
        table[f"{metric}_mean"] = grouped[metric].mean()
        table[f"{metric}_sd"] = grouped[metric].std()
    if "seconds" in runs:
        table["seconds"] = grouped["seconds"].mean()
    return table.reset_index()


def mean_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over runs of the rows of their curves.csv, in the same columns."""
    keys = [column for column in curves.columns if column != "accuracy"]
    return curves.groupby(keys, sort=False)["accuracy"].mean().round(4).reset_index()


def markdown(table: pd.DataFrame, classifiers: Sequence[str]) -> str:
    """Return the rows of the whole memory under `classifiers`, and the heads, as a table of mean ± standard deviation."""
    lines = [
        "| method | average incremental % | last % | forgetting % | above none | gap closed % | memory bytes | adapter s |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    whole = table[(table["budget"] == 0) & (table["classifier"].isin([*classifiers, "head"]))]
    for row in whole.to_dict("records"):
        cells = [_spread(row, metric) for metric in ("average", "last", "forgetting")]
        own = row["adapter"] not in ("-", "none")
        cells += [_spread(row, "difference") if own else "", _spread(row, "gap_closed_average", 100, 0)]
        seconds = row.get("seconds")
        cells += [f"{row['bytes']:,.0f}", "" if seconds is None or pd.isna(seconds) else f"{seconds:.1f}"]
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(row: Mapping[Any, Any], metric: str, scale: float = 1, digits: int = 1) -> str:
    mean, deviation = row[f"{metric}_mean"] * scale, row[f"{metric}_sd"] * scale
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{digits}f}")
