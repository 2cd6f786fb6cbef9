"""What the project is made of: locked versions with digests, a licence, and no telemetry. `make audit` asks for known faults."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_is_locked_to_a_version_and_its_digests() -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.txt").read_text(encoding="utf-8").strip())
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!-]+( ; [^\\]+)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n|$))+", entry + "\n"), entry[:80]


def test_what_is_asked_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = _names([*project["dependencies"], *project["optional-dependencies"]["test"]])
    assert len(asked) > 30 and asked <= _names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())


def _names(lines: list[str]) -> set[str]:
    return {re.sub(r"[._]", "-", match[0].lower()) for line in lines if (match := re.match(r"[A-Za-z][\w.-]*", line))}


def test_there_is_a_licence() -> None:
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_dvc_reports_nothing_to_anybody() -> None:
    settings = configparser.ConfigParser()
    settings.read_string(re.sub(r"^\s+", "", (ROOT / ".dvc/config").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert settings["core"]["analytics"] == "false" and settings["core"]["check_update"] == "false"
