"""An embedding model is retrained, and its index follows without the images: how well, and from how many pairs?

Two things happen to a network that was trained on half of the classes: it is fine-tuned on all of them, or another one is trained on all
of them from scratch. An index holds vectors of the old network. Some other images are embedded with both networks, adapters are fitted on these
pairs and carry the index, and the new network's vectors of held-out images search in it.

The truth is the index embedded again by the new network. recall@k is the share of a query's k nearest vectors there (by cosine, whatever their
classes) that are among its k nearest in the carried index, the mean over queries. Beside it stands how often the nearest vector is of the query's
class, which is what the search may be for.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import torch

from carryover import registry
from carryover.artefacts import replacing
from carryover.backbones import Network, initialise
from carryover.embeddings import ADAPTERS, AutoAdapter, make
from carryover.errors import ConfigurationError
from carryover.images import ImageSet, concatenate, processors
from carryover.inference import extract
from carryover.machine import Machine
from carryover.seeds import derive, generator
from carryover.selection import unit
from carryover.training import Training, train
from stages import picture
from stages.command import guard

SEED = 0
# As many pairs does the choice of an adapter need.
FEWEST = 3
# Shares of each class's training images that train the networks, that make pairs, and that fill the index. Test images are the queries.
SHARES = {"train": 0.4, "pairs": 0.2, "index": 0.4}


def main() -> None:
    """Train and embed where that is not done yet, and write recall.csv, recall.png and table.md."""
    parser = argparse.ArgumentParser(prog="python -m examples.reembed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder or archive of images, a folder a class, as `dataset=images` takes it")
    parser.add_argument("--work", type=Path, default=Path("data/reembed"), help="where vectors are kept (default: data/reembed)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/reembed"), help="where results go (default: docs/results/reembed)")
    parser.add_argument("--size", type=int, default=32, help="pixels of an image's side (default: 32)")
    parser.add_argument("--epochs", type=int, default=4, help="of the old network; new ones have half as many, on twice the classes (default: 4)")
    parser.add_argument("--threads", type=int, default=processors(), help="of the networks (default: one a processor)")
    parser.add_argument("--pairs", type=int, nargs="+", default=[100, 300, 1000, 3000, 10000], help="numbers of pairs to fit on")
    options = parser.parse_args()
    for name, least in {"size": 8, "epochs": 1, "threads": 1}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name} is {getattr(options, name)}; it takes {least} or more")
    if min(options.pairs) < FEWEST:
        parser.error(f"--pairs has {min(options.pairs)}; adapters are chosen from {FEWEST} pairs or more")
    settings = {"data": str(Path(options.data).resolve()), "size": options.size, "epochs": options.epochs}
    made = options.work / "settings.json"
    if not (options.work / "classes.npz").exists():
        embed(options.data, options.work, options.size, options.epochs, Machine(threads=options.threads))
        with replacing(made) as path:
            path.write_text(json.dumps(settings), encoding="utf-8")
    elif not made.exists() or json.loads(made.read_text(encoding="utf-8")) != settings:
        raise ConfigurationError(f"{options.work} holds vectors of other data or settings: name another folder with --work, or remove it.")
    table = pd.concat([measure(options.work, model, options.pairs) for model in ("fine-tuned", "from scratch")])
    options.out.mkdir(parents=True, exist_ok=True)
    with replacing(options.out / "recall.csv") as path:
        table.round(4).to_csv(path, index=False)
    with replacing(options.out / "table.md") as path:
        path.write_text(markdown(table), encoding="utf-8")
    picture.recall(table).draw(options.out / "recall.png")
    print(markdown(table))


def embed(data: str, work: Path, size: int, epochs: int, where: Machine) -> None:
    """Train the three networks, and write what each makes of pairs, index and queries to `work`, as .npy files of [n, d] float32."""
    work.mkdir(parents=True, exist_ok=True)
    parts, classes = deal(data, size)
    first = parts["train"].subset(np.flatnonzero(parts["train"].labels < classes // 2))
    old = learned(None, first, classes, epochs, where, "old")
    new = {"fine-tuned": learned(old, parts["train"], classes, max(epochs // 2, 1), where, "fine-tuned")}
    new["from scratch"] = learned(None, parts["train"], classes, max(epochs // 2, 1), where, "from scratch")
    for model, network in {"old": old, **new}.items():
        for part in ("pairs", "index", "queries"):
            with replacing(work / f"{model}-{part}.npy") as path, path.open("wb") as handle:
                np.save(handle, extract(network, parts[part], where, title=f"embed {part} {model}"))
    with replacing(work / "classes.npz") as path, path.open("wb") as handle:
        np.savez(handle, index=parts["index"].labels, queries=parts["queries"].labels)


def deal(data: str, size: int) -> tuple[dict[str, ImageSet], int]:
    """Return the images of each part, labelled by class, and the number of classes."""
    loaded = registry.build("datasets", "images", {"path": data, "size": size}).load()
    sets: dict[str, list[ImageSet]] = {part: [] for part in (*SHARES, "queries")}
    for label, images in enumerate(loaded.classes):
        ends = np.cumsum([round(share * len(images.train)) for share in SHARES.values()])[:-1]
        order = generator(SEED, "deal", images.name).permutation(len(images.train))
        for part, rows in zip(SHARES, np.split(order, ends), strict=True):
            sets[part].append(images.train.subset(np.sort(rows)).relabelled(label))
        sets["queries"].append(images.test.relabelled(label))
    return {part: concatenate(some) for part, some in sets.items()}, len(loaded.names)


def learned(start: Network | None, images: ImageSet, classes: int, epochs: int, where: Machine, name: str) -> Network:
    """Return a ResNet-32 trained on images by cross-entropy, from `start` on where there is one."""
    seed = derive(SEED, name)
    network = copy.deepcopy(start) if start else initialise("resnet32", "linear", 3, seed)
    if start is None:
        network.head.grow(classes, torch.Generator().manual_seed(seed))
    rate = 0.2 if start is None else 0.05
    settings = Training(epochs, epochs, rate, rate, padding=4, flip=True)
    train(network, None, images, registry.build("regimes", "finetune", {}), settings, where, seed, title=f"train {name}")
    return network


def measure(work: Path, model: str, numbers: list[int]) -> pd.DataFrame:
    """Return a row for each adapter and number of pairs, for doing nothing, and for embedding everything again."""
    vectors = {(m, part): np.load(work / f"{m}-{part}.npy") for m in ("old", model) for part in ("pairs", "index", "queries")}
    classes = np.load(work / "classes.npz")
    queries, index = vectors[model, "queries"], vectors["old", "index"]
    truth = nearest(queries, vectors[model, "index"])
    order = np.random.default_rng(SEED).permutation(len(vectors["old", "pairs"]))

    def row(adapter: str, pairs: int, carried: np.ndarray, chosen: str = "") -> dict[str, object]:
        found = nearest(queries, carried)
        recall = {f"recall@{k}": np.mean([len(np.intersect1d(a[:k], b[:k])) / k for a, b in zip(found, truth, strict=True)]) for k in (1, 10)}
        same = (classes["index"][found[:, 0]] == classes["queries"]).mean()
        return {"model": model, "adapter": adapter, "chosen": chosen, "pairs": pairs, **recall, "same_class": same}

    rows = [row("embedded again", 0, vectors[model, "index"]), row("none", 0, index)]
    for n in sorted({min(n, len(order)) for n in numbers}):
        before, after = vectors["old", "pairs"][order[:n]], vectors[model, "pairs"][order[:n]]
        for name in (*(name for name in ADAPTERS if name != "none"), "auto"):
            adapter = make(name).fit(before, after)
            rows.append(row(name, n, adapter.transform(index), adapter.chosen_ if isinstance(adapter, AutoAdapter) else ""))
    return pd.DataFrame(rows)


def nearest(queries: np.ndarray, index: np.ndarray, k: int = 10) -> np.ndarray:
    """Return the rows of the k vectors of an index [m, d] with the largest cosine to each query [n, d], the largest first: [n, k]."""
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(unit(index).astype(np.float32))
    found: np.ndarray = flat.search(unit(queries).astype(np.float32), min(k, len(index)))[1]
    return found


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown, numbers in %."""
    lines = ["| new model | adapter | pairs | recall@1 % | recall@10 % | nearest of the same class % |", "|:--|:--|--:|--:|--:|--:|"]
    for row in table.to_dict("records"):
        name = f"{row['adapter']} ({row['chosen']})" if row["chosen"] else row["adapter"]
        numbers = " | ".join(f"{100 * row[column]:.1f}" for column in ("recall@1", "recall@10", "same_class"))
        pairs = f"{row['pairs']:,}" if row["pairs"] else ""
        lines.append(f"| {row['model']} | {name} | {pairs} | {numbers} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    guard(main)
