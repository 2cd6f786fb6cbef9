"""Several runs as one table: mean, standard deviation and paired difference over class orders and initialisations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from carryover import registry
from carryover.drift import MEASURES

METHOD = ["regime", "adapter", "classifier"]
RUN = ["order", "seed"]
CELL = ["regime", "setting", "adapter", "classifier", "budget"]
# How a setting begins that stores vectors in another way.
STORAGE = "storage="
METRICS = ["average", "last", "forgetting", "gap_closed_average", "validation_average"]


def aggregate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell of the table: mean and standard deviation of each metric over runs, and differences from `none`.

    Args:
        runs: the rows of every run's results.csv, with the columns `order` and `seed` that tell the runs apart, and
            perhaps `setting`, which tells apart what was run with several values of a parameter.

    Returns:
        Columns `<metric>_mean` and `<metric>_sd` (over runs, with n - 1), `difference_mean` and `difference_sd` of the
        average incremental accuracy against the adapter `none` of the same run, regime, setting, classifier and budget, `runs`,
        `bytes` and, where known, `seconds`. A setting of an adapter's own parameter has that adapter's rows alone: `none` is
        the run's as it stands.
    """
    if "setting" not in runs:
        runs = runs.assign(setting="")
    pair = [*RUN, "regime", "setting", "classifier", "budget"]
    stale = runs[runs["adapter"] == "none"].set_index(pair)["average"]
    of_adapter = runs["setting"].str.partition(".")[0].isin(registry.names("adapters"))
    compared = runs[pair].assign(setting=runs["setting"].mask(of_adapter, ""))
    paired = runs.assign(difference=runs["average"] - stale.reindex(pd.MultiIndex.from_frame(compared)).to_numpy())
    grouped = paired.groupby([*CELL, "method"], sort=False)
    table = pd.DataFrame({"runs": grouped.size(), "bytes": grouped["bytes"].mean()})
    for metric in [*METRICS, "difference"]:
        table[f"{metric}_mean"] = grouped[metric].mean()
        table[f"{metric}_sd"] = grouped[metric].std()
    if "seconds" in runs:
        table["seconds"] = grouped["seconds"].mean()
    return table.reset_index()


def curves_of(run: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a run's curves.csv with the joint bound, which stands in the panel of every regime there, once: as the regime "joint"."""
    joint = run["adapter"] == "joint"
    return run.assign(regime=run["regime"].mask(joint, "joint")).drop_duplicates()


def mean_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over runs of the rows of `curves_of`, in the columns of curves.csv; the joint bound stands in the panel of every regime."""
    keys = [column for column in curves.columns if column not in ("accuracy", *RUN)]
    mean = curves.groupby(keys, sort=False)["accuracy"].mean().round(4).reset_index()
    joint = mean["adapter"] == "joint"
    panels = [pd.concat([rows, mean[joint].assign(regime=regime)]) for regime, rows in mean[~joint].groupby("regime", sort=False)]
    together: pd.DataFrame = pd.concat([*panels, mean[:0]]).reset_index(drop=True)
    return together


def mean_drift(by_age: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over runs of their tables of `carryover.report.drift_by_age`; undefined measures are left out."""
    return by_age.groupby(["regime", "adapter", "age"], sort=False)[MEASURES].mean().reset_index()


def added(earlier: pd.DataFrame, new: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the rows of both, a `new` one in the place of an `earlier` one of the same run that has the same `keys`.

    Earlier rows without an order are means over several runs, of a time when tables kept no others: they give way to those of a new run.
    """
    replaced = pd.MultiIndex.from_frame(earlier[[*keys]]).isin(pd.MultiIndex.from_frame(new[[*keys]])) & earlier["order"].isna()
    both: pd.DataFrame = pd.concat([frame for frame in (earlier[~replaced], new) if len(frame)] or [new])
    return both.drop_duplicates([*keys, *RUN], keep="last").reset_index(drop=True)


def markdown(table: pd.DataFrame, classifiers: Sequence[str]) -> str:
    """Return the rows of the whole memory under `classifiers`, and the heads, as a table of mean ± standard deviation."""
    timed = "seconds" in table and bool(table["seconds"].notna().any())
    lines = [
        "| method | average incremental % | last % | forgetting % | above none | gap closed % | memory bytes |" + " adapter s |" * timed,
        "|:--|--:|--:|--:|--:|--:|--:|" + "--:|" * timed,
    ]
    whole = table[(table["budget"] == 0) & (table["classifier"].isin([*classifiers, "head"]))]
    for row in whole.to_dict("records"):
        cells = [spread(row, metric) for metric in ("average", "last", "forgetting")]
        own = row["adapter"] not in ("-", "none")
        cells += [spread(row, "difference") if own else "", spread(row, "gap_closed_average", 100, 0)]
        cells.append(f"{row['bytes']:,.0f}")
        if timed:
            cells.append("" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}")
        lines.append(f"| {_named(row)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def within(table: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return for each method the row that makes most use of `limit` bytes; the best average comes first.

    A method is a regime with an adapter and a classifier. Of its settings and budgets that fit, the one with the best average
    incremental accuracy on validation images stands for it: choosing by the accuracy that is shown would be choosing on test
    images. Bounds, which are no methods, are left out.
    """
    fits = table[(table["bytes"] <= limit) & (table["adapter"] != "oracle") & (table["regime"] != "joint")]
    # Of equal ones (exemplars that are kept as images, used in part) the largest budget, whose 0 stands for everything.
    ordered = fits.assign(rank=fits["budget"].replace(0, float("inf"))).sort_values(
        ["validation_average_mean", "bytes", "rank"], kind="stable", na_position="first"
    )
    best = ordered.groupby(METHOD, sort=False).tail(1)
    return best.drop(columns="rank").sort_values("average_mean", ascending=False).reset_index(drop=True)


def front(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of methods that no other beats with as few bytes, fewest bytes first: the Pareto front. Bounds are left out.

    The accuracy that counts is the one that is shown, on test images: a front describes, and chooses nothing.
    """
    methods = table[(table["adapter"] != "oracle") & (table["regime"] != "joint")].sort_values(["bytes", "average_mean"], ascending=[True, False])
    best_before = methods["average_mean"].cummax().shift(fill_value=float("-inf"))
    kept: pd.DataFrame = methods[methods["average_mean"] > best_before].reset_index(drop=True)
    return kept


def within_markdown(table: pd.DataFrame, limit: int) -> str:
    """Return `within` as a table to read."""
    lines = ["| method | kept of a class | average incremental % | last % | memory bytes |", "|:--|--:|--:|--:|--:|"]
    for row in within(table, limit).to_dict("records"):
        kept = "everything" if row["budget"] == 0 else f"{row['budget']} vectors"
        if row["adapter"] == "exemplars":
            kept = "its images" if row["budget"] == 0 else f"its images, {row['budget']} of them used"
        elif row["adapter"] == "-":
            kept = ""
        lines.append(f"| {_named(row)} | {kept} | {spread(row, 'average')} | {spread(row, 'last')} | {row['bytes']:,.0f} |")
    return "\n".join(lines) + "\n"


def storages(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `aggregate` that say what storing vectors in fewer bytes costs, at every budget, with the column `storage`.

    These are the methods whose vectors were stored in several ways; as the run stood, they are called "as is". Bounds are left
    out.
    """
    kept = table[(table["setting"] == "") | table["setting"].str.startswith(STORAGE)]
    kept = kept[~kept["adapter"].isin(["-", "oracle"])]
    several = kept.groupby(METHOD)["setting"].transform("nunique") > 1
    chosen: pd.DataFrame = kept[several].reset_index(drop=True)
    return chosen.assign(storage=chosen["setting"].str.removeprefix(STORAGE).replace("", "as is"))


def storage_markdown(table: pd.DataFrame) -> str:
    """Return the rows of `storages` with the whole memory as a table to read."""
    lines = ["| method | storage | average incremental % | last % | memory bytes | times fewer |", "|:--|:--|--:|--:|--:|--:|"]
    whole = table[table["budget"] == 0]
    plain = whole[whole["setting"] == ""].set_index(METHOD)["bytes"]
    for row in whole.sort_values(METHOD, kind="stable").to_dict("records"):
        fewer = plain[tuple(row[name] for name in METHOD)] / row["bytes"]
        cells = [row["method"], row["storage"], spread(row, "average"), spread(row, "last"), f"{row['bytes']:,.0f}", f"{fewer:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def drift_markdown(by_age: pd.DataFrame) -> str:
    """Return the table of `carryover.report.drift_by_age` as a table to read."""
    lines = ["| regime | adapter | age in tasks | cosine | relative error | variance explained |", "|:--|:--|--:|--:|--:|--:|"]
    for row in by_age.to_dict("records"):
        numbers = ["" if pd.isna(row[name]) else f"{row[name]:.2f}" for name in MEASURES]
        lines.append(f"| {row['regime']} | {row['adapter']} | {row['age']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def _named(row: Mapping[Any, Any]) -> str:
    return f"{row['method']}, {row['setting']}" if row.get("setting") else str(row["method"])


def spread(row: Mapping[Any, Any], metric: str, scale: float = 1, digits: int = 1) -> str:
    """Return a metric of a row of `aggregate` as mean ± standard deviation, where there are several runs; blank where it is not known."""
    mean, deviation = row[f"{metric}_mean"] * scale, row[f"{metric}_sd"] * scale
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(deviation) else f" ± {deviation:.{digits}f}")
