"""Augmentation of whole batches by indexing: random crop with padding and random horizontal flip, on the images' device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# One fixed scaling for every data set: statistics of the full training set would be a look at classes yet to come.
MEAN, DEVIATION = 0.5, 0.25


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 images [b, h, w, c] as standardised numbers [b, c, h, w] in channels_last layout."""
    return (images.permute(0, 3, 1, 2).to(dtype) - 255 * MEAN) / (255 * DEVIATION)


def draw(batch: int, padding: int, flip: bool, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw each image's crop offsets and flip: rows [b], columns [b] in 0..2 padding, and booleans [b]."""
    rows = torch.randint(0, 2 * padding + 1, (batch,), generator=random)
    columns = torch.randint(0, 2 * padding + 1, (batch,), generator=random)
    flips = torch.rand(batch, generator=random) < (0.5 if flip else 0.0)
    return rows, columns, flips


def crop_and_flip(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Crop each image [b, h, w, c] out of its zero-padded self at (rows, columns), and mirror those with a true flip."""
    b, h, w, _ = images.shape
    if padding:
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        if images.requires_grad:
            # Rows, then columns: the gradient of a gather has the size of what it was gathered from.
            chosen = (rows[:, None] + torch.arange(h, device=images.device))[:, :, None, None]
            padded = padded.gather(1, chosen.expand(-1, -1, *padded.shape[2:]))
            chosen = (columns[:, None] + torch.arange(w, device=images.device))[:, None, :, None]
            images = padded.gather(2, chosen.expand(-1, h, -1, padded.shape[3]))
        else:
            # Every window is a view, so one gather picks all the crops: [b, 2p+1, 2p+1, c, h, w] -> [b, c, h, w].
            windows = padded.unfold(1, h, 1).unfold(2, w, 1)
            images = windows[torch.arange(b, device=images.device), rows, columns].permute(0, 2, 3, 1)
    return torch.where(flips[:, None, None, None], images.flip(2), images)
