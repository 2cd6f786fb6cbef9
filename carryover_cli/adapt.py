"""Carry stored embeddings into a new model's space

An embedding model was replaced: fit an adapter on some items' vectors under both models, and carry the stored vectors of all others.
Files are .npy (a matrix), .safetensors or .parquet (a column of lists); OUT has the format of STORED, and keeps its other tensors or columns.
Memory stays small however large STORED is, and OUT appears when it is whole.

examples:
  carryover adapt --old old.npy --new new.npy --stored index.npy --out carried.npy
  carryover adapt --load adapter.safetensors --stored index.parquet --tensor embedding --out carried.parquet
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from carryover.errors import ConfigurationError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--old", metavar="FILE", type=Path, help="vectors of some items under the old model")
    parser.add_argument("--new", metavar="FILE", type=Path, help="vectors of the same items, row by row, under the new one")
    parser.add_argument("--stored", metavar="STORED", type=Path, required=True, help="the vectors to carry")
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help="where the carried vectors go")
    parser.add_argument(
        "--adapter",
        metavar="NAME",
        default="auto",
        help="none, sdc, linear, mlp, or auto (default): the simplest that carries held-out pairs as well as the best",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the mlp's training and of the choice of held-out pairs (default: 0)")
    parser.add_argument("--dtype", metavar="TYPE", help="of the carried vectors: float16, float32 or float64 (default: as stored)")
    parser.add_argument("--unit", action="store_true", help="scale carried vectors to unit length")
    parser.add_argument("--tensor", metavar="NAME", help="the tensor or column of vectors, where a file has several")
    parser.add_argument("--save", metavar="FILE", type=Path, help="write the fitted adapter as well")
    parser.add_argument("--load", metavar="FILE", type=Path, help="an adapter that --save wrote, in place of --old, --new and --adapter")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of text")


def run(options: argparse.Namespace) -> None:
    """Fit or load an adapter, carry the stored vectors, and print what was done."""
    if (options.load is None) == (options.old is None) or (options.old is None) != (options.new is None):
        raise ConfigurationError("An adapter comes from pairs, --old FILE --new FILE, or from --load FILE.")
    # Imported here, for they take a second, which the command's help should not.
    from carryover.embeddings import AutoAdapter, EmbeddingAdapter, load, seeded
    from carryover.embeddings.carrying import carry, check_dimension, check_dtype, check_target, fit_files
    from carryover.embeddings.files import open_vectors

    # All that can be refused is refused before anything is fitted.
    for target in (options.out, options.save):
        if target is not None:
            check_target(target, options.old, options.new, options.stored, options.load)
    if options.save and options.save.resolve() == options.out.resolve():
        raise ConfigurationError(f"{options.out} is named for the carried vectors and for the adapter: name another file for one of them.")
    check_dtype(options.dtype)
    stored = open_vectors(options.stored, options.tensor)
    begin = time.perf_counter()
    adapter: EmbeddingAdapter
    if options.load:
        adapter = load(options.load)
    else:
        check_dimension(stored, open_vectors(options.old, options.tensor).d, f"{options.old} has")
        adapter = seeded(options.adapter, options.seed)
        fit_files(adapter, options.old, options.new, options.tensor)
    fitted = time.perf_counter()
    if options.save:
        adapter.save(options.save)
    carried = carry(adapter, options.stored, options.out, tensor=options.tensor, dtype=options.dtype, unit=options.unit)
    seconds = time.perf_counter() - fitted
    chosen = adapter.chosen_ if isinstance(adapter, AutoAdapter) else adapter.name
    scores = adapter.scores_ if isinstance(adapter, AutoAdapter) else {}
    if options.json:
        done = {"adapter": chosen, "scores": scores, "vectors": carried.rows, "from": stored.d, "to": carried.d, "dtype": carried.dtype.name}
        print(json.dumps(done | {"fit_seconds": round(fitted - begin, 3), "seconds": round(seconds, 3), "out": str(options.out)}))
        return
    if scores:
        print(f"R² on held-out pairs: {', '.join(f'{name} {score:.4f}' for name, score in scores.items())}. Chosen: {chosen}.")
    print(
        f"{options.out}: {carried.rows:,} vectors of {carried.d} dimensions, {carried.dtype.name}, carried by {chosen} "
        f"in {seconds:.1f} s ({carried.rows / seconds:,.0f} a second)."
    )
