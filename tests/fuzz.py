"""A mutation fuzzer over real files, real parameters and real command lines; `python tests/fuzz.py TARGETS COUNT SEED`.

It runs in a process of its own, whose memory is limited, and in which no input may take longer than `SECONDS`. An input is survived if it
is read, or refused in one sentence. The first that is not ends the process, with the input's place in the series and the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import resource
import runpy
import shutil
import signal
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from carryover import artefacts, backbones, registry, rehearsal
from carryover.adapters import Adapter
from carryover.classes import read_register
from carryover.datasets import prepare_dataset
from carryover.datasets._pixels import BadImageError, convert
from carryover.errors import CarryoverError
from carryover.evaluation import Evaluation
from carryover.exemplars import Exemplars
from carryover.forms import gaussian
from carryover.images import EncodedImages, PackedImages, encode_png, read_images, write_images
from carryover.machine import Machine
from carryover.memory import Budget, Memory
from carryover.protocol import Protocol
from carryover.training import Training
from carryover.views import Views
from carryover_cli.__main__ import VERBS
from carryover_cli.__main__ import main as carryover_command
from stages import command, networks

ROOT = Path(__file__).resolve().parents[1]
MORE_MEMORY = 3 << 30
SECONDS = 20
NUMBERS = [0, 1, -1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32, 2**60, 2**63, 2**64 - 1, -(2**63), 1e308, 0.5, float("nan"), float("inf")]
TEXTS = [
    "",
    ".",
    "..",
    "../../escaped",
    "/",
    "-",
    "--help",
    "x" * 5000,
    "é\u0301",
    "\x00",
    "a\nb",
    "%s{}$",
    "none",
    "distill",
    "task0",
    "true",
    "1e400",
]
NODES = [None, True, False, [], {}, [[]], {"": None}, [0] * 1000, *NUMBERS, *TEXTS]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return `content` after a few changes: of bits, bytes and numbers, and of slices that vanish, double or are noise."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at = chance.randrange(len(data) + 1)
        length = min(chance.choice([1, 2, 4, 8, 64, 512]), len(data) - at)
        kind = chance.randrange(6)
        if kind == 0 and length:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            number = int(chance.choice(NUMBERS[:12]))
            data[at : at + length] = (number % (1 << 8 * length)).to_bytes(length, chance.choice(["little", "big"]))  # type: ignore[arg-type]
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at : at + length] = chance.randbytes(length)
        else:
            del data[at : len(data) if chance.random() < 0.2 else at + 1]
    return bytes(data)


def mutated_tree(tree: Any, chance: random.Random) -> Any:
    """Return JSON or YAML content in which one node is another."""
    if isinstance(tree, dict) and tree and chance.random() < 0.85:
        name = chance.choice(list(tree))
        rest = {key: value for key, value in tree.items() if key != name}
        return rest if chance.random() < 0.05 else rest | {chance.choice([name] * 9 + ["other"]): mutated_tree(tree[name], chance)}
    if isinstance(tree, list) and tree and chance.random() < 0.7:
        at = chance.randrange(len(tree))
        return [*tree[:at], mutated_tree(tree[at], chance), *tree[at + 1 :]]
    return chance.choice(NODES)


# Artefacts


def artefact_samples(folder: Path) -> list[tuple[bytes, Callable[[Path], Any]]]:
    """Return a file of each kind, with what reads it."""
    random_numbers = np.random.default_rng(0)
    images = random_numbers.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    labels, path = np.array([0, 0, 0, 1, 1, 1]), folder / "sample"
    features, counts = random_numbers.normal(size=(6, 4)).astype(np.float32), np.array([3, 3], dtype=np.int32)
    network = backbones.initialise("small", "cosine", 1, 0)
    learner = registry.build("adapters", "linear", {})
    assert isinstance(learner, Adapter)
    learner.fit(features, features + 1, labels, None)
    fields: dict[str, Any] = {"regime": "distill", "task": "task0", "adapter": "linear", "seen": "0" * 16}
    store = Exemplars(per_class=2)
    written: list[tuple[Callable[[], Any], Callable[[Path], Any]]] = [
        (lambda: artefacts.write(path, "features", {"a": features, "b": labels}, **fields), lambda p: artefacts.read(p, "features", task="task0")),
        (lambda: artefacts.write(path, "features", {"a": features, "b": labels}, **fields), lambda p: artefacts.read_mapped(p, "features")),
        (lambda: artefacts.write(path, "adapter", learner.state(), **fields), lambda p: _carry(p, features)),
        (lambda: Memory(features, counts).write(path, **fields), Memory.read),
        (lambda: Memory(features, counts, "int8").write(path, **fields), Memory.read),
        (lambda: Memory(features, counts).condensed(gaussian.GaussianForm()).write(path, **fields), Memory.read),
        (lambda: write_images(path, PackedImages(images, labels), "task-images", **fields), lambda p: _pixels(read_images(p, "task-images")[0])),
        (
            lambda: write_images(path, EncodedImages.from_files([encode_png(i) for i in images], labels, (8, 8, 1)), "task-images", **fields),
            lambda p: _pixels(read_images(p, "task-images")[0]),
        ),
        (lambda: networks.write(path, network, **fields), networks.read),
        (lambda: write_images(path, PackedImages(images, labels), "exemplars", store="images", count=6), lambda p: rehearsal.read(p, store)),
    ]
    samples = []
    for write, reader in written:
        write()
        samples.append((path.read_bytes(), reader))
    return samples


def _carry(path: Path, features: np.ndarray) -> None:
    from stages import fitted

    fitted.carry(registry.build("adapters", "linear", {}), artefacts.read(path, "adapter"), path, features)


def _pixels(images: Any) -> None:
    images.gather(np.arange(len(images)))


def read_artefacts(folder: Path, chance: random.Random) -> Iterator[Callable[[], Any]]:
    """Yield the reading of artefacts whose bytes or whose header was changed."""
    samples = artefact_samples(folder)
    path = folder / "changed.safetensors"
    while True:
        content, reader = chance.choice(samples)
        if chance.random() < 0.5:
            length = int.from_bytes(content[:8], "little")
            layout = json.loads(content[8 : 8 + length])
            if chance.random() < 0.6:
                ours = json.loads(layout["__metadata__"]["carryover"])
                layout["__metadata__"]["carryover"] = json.dumps(mutated_tree(ours, chance))
            else:
                layout = mutated_tree(layout, chance)
            header = json.dumps(layout).encode()
            content = len(header).to_bytes(8, "little") + header + content[8 + length :]
        else:
            content = mutated(content, chance)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        yield lambda reader=reader: reader(path)  # type: ignore[misc]


# Images and archives


def pictures() -> list[bytes]:
    """Return an image in every format and many modes."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    options: list[tuple[str, str, dict[str, Any]]] = [
        *((kind, "RGB", {}) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")),
        *(("PNG", mode, {}) for mode in ("L", "P", "RGBA", "LA", "1", "I;16")),
        *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        ("TIFF", "CMYK", {}),
        ("TIFF", "F", {}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("WEBP", "RGBA", {"lossless": True}),
    ]
    files = []
    for kind, mode, more in options:
        file = io.BytesIO()
        image = Image.fromarray(np.asarray(noise.convert("L")).astype(np.uint16)) if mode == "I;16" else noise.convert(mode)
        image.save(file, kind, **more)
        files.append(file.getvalue())
    return files


def read_pictures(_: Path, chance: random.Random) -> Iterator[Callable[[], Any]]:
    """Yield the conversion of changed images."""
    files = pictures()
    while True:
        file, size, channels = mutated(chance.choice(files), chance), chance.choice([1, 8, 12]), chance.choice([1, 3])

        def read(file: bytes = file, size: int = size, channels: int = channels) -> None:
            try:
                assert len(convert(file, size, channels, encoded=False)) == size * size * channels
            except BadImageError as bad:
                raise CarryoverError(str(bad)) from bad

        yield read


def read_archives(folder: Path, chance: random.Random) -> Iterator[Callable[[], Any]]:
    """Yield the preparation of data sets from changed archives; the checksums of changed .tar headers are put right again."""
    files = {f"{name}/{i}.png": pictures()[i] for name in ("ant", "bee") for i in range(3)}
    plain, zipped = [], io.BytesIO()
    for kind, wrapper in ((tarfile.PAX_FORMAT, ""), (tarfile.PAX_FORMAT, "é" * 99 + "/"), (tarfile.GNU_FORMAT, "long" * 40 + "/")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(wrapper + name)
                info.size, info.pax_headers = len(content), {"comment": "x"}
                archive.addfile(info, io.BytesIO(content))
        plain.append(buffer.getvalue())
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    path, inside = folder / "images", folder / "project"
    inside.mkdir(exist_ok=True)
    while True:
        content = bytearray(chance.choice([*plain, zipped.getvalue()]))
        if content[:2] != b"PK":
            for _ in range(chance.choice([1, 2, 3])):
                block = chance.randrange(len(content) // 512) * 512
                content[block : block + 512] = mutated(bytes(content[block : block + 512]), chance)[:512].ljust(512, b"\0")
                content[block + 148 : block + 156] = b" " * 8
                content[block + 148 : block + 156] = b"%06o\0 " % sum(content[block : block + 512])
            content = bytearray(gzip.compress(content, 1)) if chance.random() < 0.3 else content
        else:
            content = bytearray(mutated(bytes(content), chance))
        path.write_bytes(content)
        settings = {"path": str(path), "size": 4, "on_bad": chance.choice(["error", "skip"]), "encoding": chance.choice(["packed", "jpeg"])}
        yield lambda settings=settings: prepare_dataset(registry.build("datasets", "images", settings), inside / "classes.csv", inside)  # type: ignore[misc]
        shutil.rmtree(inside)
        inside.mkdir()
        assert sorted(os.listdir(folder)) == ["images", "project"], os.listdir(folder)


# Parameters and command lines


def read_parameters(folder: Path, chance: random.Random) -> Iterator[Callable[[], Any]]:
    """Yield the checking of every section of a changed params.yaml, and of a changed class register."""
    text = (ROOT / "params.yaml").read_bytes()
    whole = yaml.safe_load(text)
    register = b"label,generation,name\n0,0,ant\n1,0,bee\n2,1,c\xc3\xa4t\n"
    os.chdir(folder)
    path = folder / "params.yaml"

    def check() -> None:
        for name, cls in {"training": Training, "machine": Machine, "memory": Budget, "protocol": Protocol, "extraction": Views}.items():
            cls(**registry.checked(cls, command.parameters(name), name))
        networks.initialise(command.parameters("backbone"), (8, 8, 1), 0)
        registry.checked(Evaluation, command.parameters("evaluation"), "evaluation")
        for group in ("regimes", "adapters"):
            name = chance.choice(list(whole[group]))
            registry.build(group, name, command.parameters(group, name))
        command.ids(command.parameters("tasks"), "tasks")
        command.natural(command.parameters("seed"), "seed")

    while True:
        if chance.random() < 0.1:
            (folder / "classes.csv").write_bytes(mutated(register, chance))
            yield lambda: read_register(folder / "classes.csv")
            continue
        changed = mutated(text, chance) if chance.random() < 0.3 else yaml.safe_dump(mutated_tree(whole, chance), allow_unicode=True).encode()
        path.write_bytes(changed)
        yield check


STAGES = (
    *("prepare", "split", "initialise", "train", "extract", "select", "keep", "adapt", "chase", "transform", "oracle", "drift", "joint", "evaluate"),
    *("report", "samples", "compare", "choose", "measure", "show"),
)
OPTIONS = ("--regime", "--task", "--previous", "--adapter", "--first", "--state", "--out", "--orders", "--vary", "--jobs", "--grid", "--cell")


def run_commands(folder: Path, chance: random.Random) -> Iterator[Callable[[], Any]]:
    """Yield runs of stages and of `carryover` with arguments and parameters that are wrong, deep in a folder that nothing may leave."""
    project = folder / "a/b/c/project"
    project.mkdir(parents=True)
    os.chdir(project)
    whole = yaml.safe_load((ROOT / "params.yaml").read_bytes())
    values = [*TEXTS[:-1], "../../../escaped", str(folder / "escaped"), "finetune", "linear", "task1", "empty", "0", "2", "a=b", "a=1,2"]
    # A text with a zero byte cannot be given to a program.
    values.remove("\x00")
    while True:
        changed = mutated_tree(whole, chance) if chance.random() < 0.5 else whole
        (project / "params.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
        words = [word for _ in range(chance.randrange(6)) for word in (chance.choice(OPTIONS), chance.choice(values))]
        words = [word for word in words if chance.random() < 0.95]
        if VERBS and chance.random() < 0.3:
            verb = [chance.choice(VERBS), *words]
            yield lambda verb=verb: _exits(lambda: sys.exit(carryover_command(verb)))  # type: ignore[misc]
        else:
            stage = chance.choice(STAGES)
            yield lambda stage=stage, words=words: _run_stage(stage, words)  # type: ignore[misc]
        assert not list(folder.glob("escaped*")) and os.listdir(folder) == ["a"] and os.listdir(folder / "a/b/c") == ["project"]


def _run_stage(stage: str, words: list[str]) -> None:
    sys.argv = [f"{stage}.py", *words]
    _exits(lambda: runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=False))


def _exits(function: Callable[[], Any]) -> None:
    """Run a command that must end of itself or with an exit code and, after a known error, one sentence."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            function()
        except SystemExit as done:
            message = done.code if isinstance(done.code, str) else errors.getvalue()
            assert isinstance(done.code, str) or done.code in (None, 0, 1, 2), done.code
            assert "Traceback" not in message
            if isinstance(done.code, str):
                assert "\n" not in message and message.startswith("Error: "), message
            if done.code:
                raise CarryoverError("refused") from done


TARGETS: dict[str, Callable[[Path, random.Random], Iterator[Callable[[], Any]]]] = {
    "artefacts": read_artefacts,
    "images": read_pictures,
    "archives": read_archives,
    "parameters": read_parameters,
    "commands": run_commands,
}


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"an input took more than {SECONDS} s")


def survive(target: str, count: int, seed: int) -> Counter[str]:
    """Read so many inputs; return how many were read, and how many refused."""
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        inputs = TARGETS[target](Path(name), random.Random(seed))
        for number in range(count):
            attempt = next(inputs)
            signal.alarm(SECONDS)
            try:
                attempt()
                tally["read"] += 1
            except CarryoverError as error:
                assert "\n" not in str(error), f"input {number}: {error}"
                tally["refused"] += 1
            except BaseException:
                print(f"{target}: input {number} of seed {seed}", file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
        os.chdir(ROOT)
    return tally


def main() -> None:
    """Print what came of the inputs of each target, a JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", help=f"some of {','.join(TARGETS)}")
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    # What Pillow has to say about broken files is not asked for here.
    warnings.simplefilter("ignore")
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_MEMORY, resource.RLIM_INFINITY))
    for target in options.targets.split(","):
        print(json.dumps({"target": target, **survive(target, options.count, options.seed)}), flush=True)


if __name__ == "__main__":
    main()
