"""What a finished run is used for: its bundle predicts, here and in other clones, by commands as a user types them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, error_of

from carryover import artefacts
from carryover.images import encode_png, read_images

BUNDLE = "data/bundle.safetensors"


def carryover(project: Project, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command `carryover`."""
    return project.run(sys.executable, "-m", "carryover_cli", *arguments, check=check)


@pytest.fixture(scope="module")
def pictures(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the test images of all tasks, as PNG files `<class>/<number>.png`."""
    folder = tmp_path_factory.mktemp("pictures")
    for task in ("task0", "task1"):
        images, fields = read_images(project.root / f"data/tasks/{task}/test.safetensors", "task-images")
        first = int(images.labels.min())
        for i in range(len(images)):
            target = folder / fields["classes"][images.labels[i] - first] / f"{i:03d}.png"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(encode_png(images.gather(np.array([i]))[0]))
    return folder


def test_predictions_are_those_that_were_evaluated(project: Project, pictures: Path) -> None:
    text = carryover(project, "predict", BUNDLE, str(pictures), "--csv", "--top", "1").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    hits: dict[str, list[bool]] = {}
    for row in rows:
        hits.setdefault(Path(row["image"]).parent.name, []).append(row["class"] == Path(row["image"]).parent.name)
    cell = json.loads((project.root / "data/evaluations/distill/linear/task1.json").read_text(encoding="utf-8"))
    (record,) = (r for r in cell["records"] if r["classifier"] == "softmax" and r["budget"] is None)
    assert len(rows) == sum(1 for path in pictures.rglob("*.png"))
    assert len(hits) == 3
    assert round(float(np.mean([np.mean(own) for own in hits.values()])), 6) == record["test"]["accuracy"]
    assert record["test"]["accuracy"] < 1 or all(all(own) for own in hits.values())


def test_the_table_says_what_the_json_says(project: Project, pictures: Path) -> None:
    some = [str(path) for path in sorted(pictures.rglob("*.png"))[:3]]
    table, items = (carryover(project, "predict", BUNDLE, *some, "--top", "2", *form).stdout for form in ([], ["--json"]))
    read = json.loads(items)
    assert [item["image"] for item in read] == some
    assert all(len(item["classes"]) == 2 and item["classes"][0]["probability"] >= item["classes"][1]["probability"] for item in read)
    for line, item in zip(table.splitlines(), read, strict=True):
        assert line.split() == [item["image"], *(word for c in item["classes"] for word in (c["class"], f"{c['probability']:.1%}"))]


def test_bad_images_are_named_and_passed_over(project: Project, pictures: Path, tmp_path: Path) -> None:
    good = next(pictures.rglob("*.png"))
    (tmp_path / "good.png").write_bytes(good.read_bytes())
    (tmp_path / "note\x1b[2J.txt").write_text("no image")
    done = carryover(project, "predict", BUNDLE, str(tmp_path), "--json", check=False)
    assert error_of(done) == "Error: 1 of 2 files are no images that can be read; the others are answered above."
    assert "note\\x1b[2J.txt is no image" in done.stderr and "\x1b[2J" not in done.stderr
    assert [item["image"] for item in json.loads(done.stdout)] == [str(tmp_path / "good.png")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data/backbones/distill/task1.safetensors", "x.png"], "holds a 'backbone' artefact where a 'bundle'"),
        ([BUNDLE, "x.png"], "There is no image or folder x.png"),
        ([BUNDLE, "params.yaml", "--top", "0"], "--top is 0"),
    ],
)
def test_predict_refuses_in_one_sentence(project: Project, arguments: list[str], words: str) -> None:
    done = carryover(project, "predict", *arguments, check=False)
    assert words in error_of(done)
    assert done.stdout == ""


def test_the_bundle_says_what_it_was_made_from(project: Project) -> None:
    fields = artefacts.read_header(project.root / BUNDLE, "bundle")["fields"]
    assert fields["origin"]["method"] == {"regime": "distill", "adapter": "linear", "classifier": "softmax", "task": "task1"}
    assert fields["origin"]["protocol"] == project.parameters()["protocol"]
    assert set(fields["origin"]["sha256"]) == {
        "data/backbones/distill/task1.safetensors",
        "data/memories/distill/task1/linear.safetensors",
        "data/exemplars/distill/task1.safetensors",
    }


def test_other_methods_are_bundled_by_name(borrowed: Project, pictures: Path) -> None:
    borrowed.stage("bundle", "finetune", "oracle", "head", "task1")
    (picture,) = list(pictures.rglob("*.png"))[:1]
    assert len(carryover(borrowed, "predict", BUNDLE, str(picture)).stdout.splitlines()) == 1
    assert "did you mean 'softmax'" in error_of(borrowed.stage("bundle", "distill", "linear", "softmx", "task1", check=False))
    assert "keeps no exemplars" in error_of(borrowed.stage("bundle", "distill", "exemplars", "nme", "task1", check=False))


def test_the_bundle_follows_the_methods_that_there_are(copy: Project) -> None:
    copy.compose("regimes=[finetune]", "joint=never")
    assert copy.parameters()["bundle"] == {"regime": "finetune", "adapter": "linear", "classifier": "softmax", "task": "task1"}
    assert copy.repro("bundle") == ["bundle@finetune"]


def test_another_repository_fetches_the_bundle(copy: Project, tmp_path: Path) -> None:
    copy.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    copy.commit()
    copy.dvc("push", "bundle")
    copy.run("git", "tag", "--annotate", "classifier@v1.0.0", "--message", "first")
    expected = (copy.root / BUNDLE).read_bytes()
    other = Project(tmp_path / "other", copy.environment)
    other.root.mkdir()
    url = copy.root.as_uri()
    other.dvc("get", url, BUNDLE, "--out", "got.safetensors")
    other.dvc("artifacts", "get", url, "classifier", "--out", "tagged.safetensors")
    for name in ("got", "tagged"):
        assert (other.root / f"{name}.safetensors").read_bytes() == expected


def test_a_pretrained_backbone_follows_its_file_of_weights(copy: Project, tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in timm.create_model("resnet10t", pretrained=False).state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    copy.compose(
        "backbone=pretrained", "backbone.architecture=timm/resnet10t", f"backbone.weights={tmp_path}/w.safetensors", "backbone.frozen=true",
        "regimes=[distill]", "adapters=[none]", "joint=never",
    )  # fmt: skip
    assert copy.repro("train@distill-task0")[-2:] == ["initialise@distill", "train@distill-task0"]
    learned = artefacts.read(copy.root / "data/backbones/distill/task0.safetensors", "backbone")
    kept = {name.removeprefix("backbone.body."): array for name, array in learned.tensors.items() if name.startswith("backbone.body.")}
    assert kept and all(np.array_equal(array, weights[name].numpy()) for name, array in kept.items())
    assert learned.fields["losses"][-1] > 0 and learned["head.weight"].shape == (2, 512)
    save_file(weights | {"conv1.0.weight": torch.zeros_like(weights["conv1.0.weight"])}, tmp_path / "w.safetensors")
    assert copy.repro("train@distill-task0") == ["initialise@distill", "train@distill-task0"]
