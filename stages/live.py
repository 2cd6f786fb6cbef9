"""What a training is doing, while it runs: a CSV file of its epochs, which `dvc plots show` draws."""

from __future__ import annotations

from collections.abc import Callable

from carryover.artefacts import replacing
from carryover.training import Epoch
from stages import layout

HEADER = "epoch,loss,accuracy,learning_rate"


def follow(stage: str) -> Callable[[Epoch], None]:
    """Return what notes each epoch of a stage; those before the first that it sees, of a training that is resumed, stay."""
    path = layout.live(stage)

    def note(epoch: Epoch) -> None:
        earlier = path.read_text(encoding="utf-8").splitlines()[1 : epoch.number] if epoch.number > 1 and path.exists() else []
        row = f"{epoch.number},{epoch.loss:.5g},{100 * epoch.accuracy:.2f},{epoch.rate:.4g}"
        with replacing(path) as temporary:
            temporary.write_text("\n".join([HEADER, *earlier, row]) + "\n", encoding="utf-8")

    return note
