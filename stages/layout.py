"""Where each artefact lies: the one place that knows the paths dvc.yaml declares."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
METRICS = Path("metrics")
DATASET = DATA / "dataset"
TASKS = DATA / "tasks"
GROWN = Path("grown")
SCRATCH = DATA / ".scratch"
SECONDS = DATA / ".seconds"
LIVE = DATA / ".live"


def is_grown(task: str) -> bool:
    """Whether a task came by `carryover grow`, with a pipeline of its own, and not by the protocol."""
    return task.startswith("grown")


def growth(task: str) -> Path:
    """The folder of a growth: its pipeline and lock, its bundle and its scores."""
    return GROWN / task


def bundle(task: str) -> Path:
    """The bundle after a growth; the protocol has one, after its last task."""
    return growth(task) / "bundle.safetensors" if is_grown(task) else DATA / "bundle.safetensors"


def register(dataset: str) -> Path:
    """The class register of a data set, kept in git."""
    return DATA / "classes" / f"{dataset}.csv"


def images(task: str, part: str) -> Path:
    """Images of a task's classes; `part` is "train", "validation" or "test".

    Those of a growth lie outside the output of the stage split, and only as long as they are learned.
    """
    return (DATA / ".grown" if is_grown(task) else TASKS) / task / f"{part}.safetensors"


def seen(task: str) -> Path:
    """The manifest of all tasks up to this one: what the stages that measure may read."""
    return TASKS / task / "seen.json"


def backbone(regime: str, task: str) -> Path:
    """The network after a task."""
    return DATA / "backbones" / regime / f"{task}.safetensors"


def exemplars(regime: str, task: str) -> Path:
    """The images that a regime keeps after a task; none for most."""
    return DATA / "exemplars" / regime / f"{task}.safetensors"


def features(regime: str, task: str) -> Path:
    """The pairs of a task's features, before and after it was learned."""
    return DATA / "features" / regime / f"{task}.safetensors"


def selection(regime: str, task: str) -> Path:
    """The order in which a task's images are worth keeping."""
    return DATA / "selections" / regime / f"{task}.safetensors"


def adapter(regime: str, name: str, task: str) -> Path:
    """The fitted adapter of a task."""
    return DATA / "adapters" / regime / name / f"{task}.safetensors"


def passing(regime: str, name: str, task: str) -> list[Path]:
    """What only the next verb of a growth reads: it holds a feature of every image of the task, or comes of them."""
    return [features(regime, task), selection(regime, task), adapter(regime, name, task)]


def memory(regime: str, name: str, task: str) -> Path:
    """The feature memory after a task; the name "oracle" is the memory of re-extracted images."""
    return DATA / "memories" / regime / task / f"{name}.safetensors"


def samples(regime: str, adapter: str | None = None) -> Path:
    """The picture of the images that a regime keeps or generates, or of the features that a memory in a form of its own stands for."""
    return METRICS / f"samples-{'-'.join(name for name in (regime, adapter) if name)}.png"


def observations(regime: str, task: str) -> Path:
    """Validation and test features of all classes seen, under the network after a task."""
    return DATA / "observations" / regime / f"{task}.safetensors"


def drift(regime: str, adapter: str, task: str) -> Path:
    """Test features of all classes seen: as they were when learned, carried since, and current."""
    return DATA / "drifts" / regime / task / f"{adapter}.safetensors"


def drift_scores(regime: str, adapter: str, task: str) -> Path:
    """Predicted against actual drift of each old class."""
    return drift(regime, adapter, task).with_suffix(".json")


def evaluation(regime: str, name: str, task: str) -> Path:
    """What one cell of the table scores after a task."""
    return DATA / "evaluations" / regime / name / f"{task}.json"


def seconds(stage: str) -> Path:
    """How long a stage took: a note beside the artefacts, which must have the same bytes every time."""
    return SECONDS / f"{stage}.json"


def live(stage: str) -> Path:
    """The epochs of a training so far, for those who watch it: a note, as seconds are."""
    return LIVE / f"{stage}.csv"


def sources(group: str, name: str) -> Path:
    """The digests of the code that a verb ("stages") or a method ("regimes", "adapters") runs."""
    return DATA / "sources" / group / f"{name}.json"
