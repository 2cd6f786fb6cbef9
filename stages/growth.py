"""What becomes a growth: the images of a folder, and a pipeline of one stage that learns them.

Each growth has a dvc.yaml and a dvc.lock of its own, so that none rewrites an earlier one. Once learned it is frozen: DVC asks no more for
its images, which may go.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from carryover import artefacts
from carryover.bundle import KIND
from carryover.datasets.images import Images
from carryover.errors import ArtefactError, ConfigurationError, DataError
from carryover.images import ImageSet, concatenate, write_images
from stages import layout
from stages.command import parameters

SECTIONS = ("seed", "protocol", "training", "machine", "extraction", "memory", "evaluation", "chasing")


def last() -> str:
    """Return the task that a growth goes on from: the last growth, else the last task of the protocol.

    Raises:
        ConfigurationError: if nothing has been learned yet.
    """
    numbers = [int(found[1]) for path in layout.GROWN.glob("grown*/dvc.lock") if (found := re.fullmatch(r"grown(\d+)", path.parent.name))]
    task = f"grown{max(numbers)}" if numbers else str(parameters("bundle", "task"))
    if not layout.bundle(task).exists():
        raise ConfigurationError(f"There is no bundle {layout.bundle(task)} to grow: run `dvc {'checkout' if numbers else 'repro bundle'}` first.")
    return task


def grow(folder: str) -> tuple[str, int]:
    """Learn the class folders in `folder` as the next task; return its name, and the exit code of DVC.

    Raises:
        DataError: if the folder has a class that is known, or none, or no images to learn from.
        ArtefactError: if the state to grow from is of a kind that cannot.
    """
    previous = last()
    before = artefacts.read_header(layout.bundle(previous), KIND)["fields"]
    method = before["origin"]["method"]
    if method["task"] != previous or method["adapter"] == "oracle":
        raise ArtefactError(
            f"{layout.bundle(previous)} is of {method['adapter']} after {method['task']}: "
            f"to grow, it must be of {previous} and of an adapter that looks at no old image; see the section bundle of params.yaml."
        )
    regime, adapter = method["regime"], method["adapter"]
    task = f"grown{int(previous.removeprefix('grown')) + 1}" if layout.is_grown(previous) else "grown1"
    images = layout.images(task, "train").parent
    try:
        _arrive(folder, task, before["classes"], before["images"]["shape"])
        _declare(task, previous, regime, adapter, frozen=False)
        code = _repro(task)
        if code == 0:
            _declare(task, previous, regime, adapter, frozen=True)
    finally:
        shutil.rmtree(images, ignore_errors=True)
        if not (layout.growth(task) / "dvc.lock").exists():
            shutil.rmtree(layout.growth(task), ignore_errors=True)
            # Those of the last growth hold features of its images.
            for path in [*_outs(task, regime, adapter), *layout.passing(regime, adapter, task)]:
                path.unlink(missing_ok=True)
    return task, code


def _arrive(folder: str, task: str, known: list[str], shape: list[int]) -> None:
    """Write the images of a folder as those of a task, their labels after the `known` classes."""
    if not os.path.isdir(folder):
        raise DataError(f"There is no folder {folder}: needed is one with a folder of images for each new class.")
    height, width, channels = shape
    if height != width or channels not in (1, 3):
        raise DataError(f"The bundle takes images of {height} x {width} x {channels}, and files are read as squares, grey or in colour.")
    # Channels are 1 or 3, as checked.
    loaded = Images(folder, height, channels, on_bad="skip").load()  # type: ignore[arg-type]
    for name in loaded.names:
        if name in known:
            raise DataError(
                f"{folder} has the class {name!r}, which is known already (label {known.index(name)}): only new classes can be learned; "
                f"rename the folder, or take it out."
            )
    parts: dict[str, list[ImageSet]] = {"train": [], "test": []}
    for offset, images in enumerate(loaded.classes):
        parts["train"].append(images.train.relabelled(len(known) + offset))
        parts["test"].append(images.test.relabelled(len(known) + offset))
    # Validation images choose between methods, and here is none to choose.
    sets = {part: concatenate(found) for part, found in parts.items()}
    if len(sets["train"]) < 2:
        raise DataError(f"{folder} has {len(sets['train'])} image to learn from, beside one for the test: at least 2 are needed.")
    for part, members in sets.items():
        write_images(layout.images(task, part), members, "task-images", task=task, part=part, classes=loaded.names)


def _declare(task: str, previous: str, regime: str, adapter: str, frozen: bool) -> None:
    """Write the pipeline of a growth."""
    folder, root = layout.growth(task), Path("../..")
    outs = _outs(task, regime, adapter)
    deps = [layout.images(task, part) for part in ("train", "test")] + [layout.sources("stages", "train"), layout.sources("regimes", regime)]
    deps += [layout.backbone(regime, previous), layout.exemplars(regime, previous), layout.memory(regime, adapter, previous), layout.bundle(previous)]
    own = [f"adapters.{adapter}"] if adapter != "exemplars" else []
    stage = {
        "desc": "Learn the classes of a folder; frozen, for its images may be gone",
        "wdir": str(root),
        "cmd": f"python -m stages.grow --task {task} --previous {previous}",
        "deps": [str(path) for path in deps],
        "params": [*SECTIONS, f"regimes.{regime}", *own],
        "outs": [*sorted(str(path) for path in outs), str(layout.bundle(task))],
        "metrics": [{str(folder / "scores.json"): {"cache": False}}],
        "frozen": frozen,
    }
    artifact = {"path": layout.bundle(task).name, "type": "model", "desc": f"The bundle after {task}"}
    with artefacts.replacing(folder / "dvc.yaml") as path:
        path.write_text(yaml.safe_dump({"stages": {"grow": stage}, "artifacts": {"classifier": artifact}}, sort_keys=False), encoding="utf-8")


def _outs(task: str, regime: str, adapter: str) -> list[Path]:
    """Return what a growth leaves of the state, beside its folder."""
    memories = {layout.memory(regime, name, task) for name in ("exemplars", adapter)}
    return [layout.backbone(regime, task), layout.exemplars(regime, task), *memories]


def _repro(task: str) -> int:
    """Run the one stage of a growth, whatever the state of the stages before it; return DVC's exit code."""
    # Stages are started as `python`, which is to be this one, whether or not its environment is active.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", str(layout.growth(task) / "dvc.yaml")]
    return subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode
