"""sources: for each verb and each method, the digest of all the code it runs; the other stages depend on these.

A stage that listed the modules it imports by hand would soon list too few, and one that depended on whole folders would
run again after every edit. Here the imports are followed through the project's own files, so a stage runs again when,
and only when, code that it can reach has changed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from carryover.artefacts import replacing, sha256
from carryover.errors import ConfigurationError
from stages import layout
from stages.command import run

PACKAGES = ("carryover", "stages")


def main() -> None:
    """Write a file for every module of `stages/`, `carryover/regimes/` and `carryover/adapters/`."""
    for folder, group in (("stages", "stages"), ("carryover/regimes", "regimes"), ("carryover/adapters", "adapters")):
        for path in sorted(Path(folder).glob("[!_]*.py")):
            with replacing(layout.sources(group, path.stem)) as temporary:
                digests = {str(file): sha256(file) for file in sorted(closure(path))}
                temporary.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def closure(path: Path) -> set[Path]:
    """Return the project's files that a module imports, directly or through others, wherever in it the import stands."""
    reached: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached.add(current)
            waiting += _imports(current)
    return reached


def _imports(path: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise ConfigurationError(f"{path} is no Python source: {error}.") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A relative import starts from the folder of the file, or from one further up for each further dot.
            above = path.parts[: len(path.parts) - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                yield from _files(name)


def _files(module: str) -> Iterator[Path]:
    """Yield the file of a module and the `__init__.py` of each package around it, as far as they exist."""
    parts = module.split(".")
    for i in range(1, len(parts) + 1):
        base = Path(*parts[:i])
        for candidate in (base / "__init__.py", base.with_suffix(".py")):
            if candidate.is_file():
                yield candidate


if __name__ == "__main__":
    run(main)
