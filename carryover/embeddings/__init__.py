"""Adapters for anyone's embeddings: an embedding model was replaced, and its stored vectors follow into the new space.

The adapters of `carryover.adapters` as scikit-learn transformers: `MLPAdapter().fit(old, new).transform(stored)` learns from vectors of
the same items under both models, and carries those whose items are gone, or too many to embed again.
"""

from carryover.embeddings.adapters import (
    ADAPTERS,
    AutoAdapter,
    EmbeddingAdapter,
    LinearAdapter,
    MLPAdapter,
    NoAdapter,
    SDCAdapter,
    load,
    make,
    seeded,
)

__all__ = ["ADAPTERS", "AutoAdapter", "EmbeddingAdapter", "LinearAdapter", "MLPAdapter", "NoAdapter", "SDCAdapter", "load", "make", "seeded"]
