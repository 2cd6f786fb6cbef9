"""The command `carryover`: help that reads, completion that completes, wrong usage that says what is accepted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carryover_cli.__main__ import VERBS, main

ROOT = Path(__file__).resolve().parents[1]


def carryover(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run([sys.executable, "-m", "carryover_cli", *arguments], capture_output=True, text=True, check=False, env=environment)


def test_help_lists_every_verb_and_loads_no_network() -> None:
    done = carryover("--help")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("    ") and line.split()}
    assert set(VERBS) <= set(lines)
    assert all(len(lines[verb].split()) > 3 for verb in VERBS)
    code = "import sys; from carryover_cli.__main__ import parser; parser(); print([n for n in ('torch', 'dvc', 'pandas') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "[]\n"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_s_help_has_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: carryover {verb}" in text
    assert f"examples:\n  carryover {verb} " in text


@pytest.mark.parametrize("arguments", [[], ["predikt"], ["predict"], ["predict", "b", "i", "--json", "--csv"], ["export", "b"], ["grow"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: carryover" in capsys.readouterr().err


def test_completion_completes_verbs_and_options_in_bash() -> None:
    script = carryover("--print-completion", "bash").stdout
    for words, expected in {("carryover", "pre"): "predict", ("carryover", "export", "b", "--on"): "--onnx"}.items():
        listed = " ".join(f"'{word}'" for word in words)
        ask = f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; COMP_LINE='{' '.join(words)}'; COMP_POINT=${{#COMP_LINE}}\n"
        command = f"{script}\n{ask}\n_shtab_carryover; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_there_is_completion_for_other_shells(shell: str) -> None:
    done = carryover("--print-completion", shell)
    assert done.returncode == 0 and "predict" in done.stdout
