"""Sharing through a folder and through SSH: the commands of docs/sharing.md, between clones of one project."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project, ran

PAGE = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
EXECUTED = re.compile(r"^Running stage '([^']+)':", re.MULTILINE)


def commands(name: str) -> list[list[str]]:
    """Return the commands of the page that stand under `<!-- name -->`."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"docs/sharing.md has no commands {name!r}"
    return [shlex.split(line) for line in found[1].splitlines()]


def follow(project: Project, name: str, place: Path | None = None) -> str:
    """Run the commands of a part of the page, with `place` for the folder it names; return what they printed."""
    lines = [[word.replace("/srv/carryover", str(place)) for word in command] for command in commands(name)]
    return "".join(project.run(*command).stdout for command in lines)


@pytest.fixture
def clone(tmp_path: Path, project: Project) -> Iterator[Callable[[Project, str], Project]]:
    """Makes git clones, which have no cache."""

    def cloned(source: Project, name: str) -> Project:
        source.run("git", "clone", "--quiet", str(source.root), str(tmp_path / name))
        return Project(tmp_path / name, source.environment)

    yield cloned
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def shared(copy: Project, clone: Callable[[Project, str], Project], tmp_path: Path) -> Project:
    """A bare repository that all clones push to and pull from, with the finished project's commit."""
    copy.run("git", "init", "--quiet", "--bare", str(tmp_path / "shared.git"))
    copy.run("git", "remote", "add", "origin", str(tmp_path / "shared.git"))
    copy.run("git", "push", "--quiet", "--set-upstream", "origin", "HEAD")
    return Project(tmp_path / "shared.git", copy.environment)


def share(project: Project, place: Path, kind: str = "folder") -> None:
    """Give a project its remote and commit that."""
    follow(project, kind, place)
    project.commit()


@pytest.fixture
def server(copy: Project, tmp_path: Path) -> Iterator[Project]:
    """The finished project, for whose commands the host "server" is an OpenSSH server on this machine's loopback."""
    sshd = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if sshd is None:
        pytest.skip("no OpenSSH server is installed (package openssh-server)")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    (home / "user.pub").rename(home / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": home / "host",
        "AuthorizedKeysFile": home / "authorized",
        "PidFile": "none",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    (home / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()), encoding="utf-8")
    daemon = [sshd, "-D", "-e", "-f", str(home / "sshd_config")]
    if os.geteuid() == 0 and not Path("/run/sshd").exists():
        # The folder that it wants exists for it alone.
        daemon = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none /run && mkdir /run/sshd && exec {shlex.join(daemon)}"]
    whoami = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    entry = {"HostName": "127.0.0.1", "Port": port, "User": whoami, "IdentityFile": home / "user", "IdentitiesOnly": "yes"}
    (home / ".ssh/config").write_text("Host server\n" + "".join(f"  {name} {value}\n" for name, value in entry.items()), encoding="utf-8")
    key = (home / "host.pub").read_text(encoding="utf-8").split()[:2]
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(key)}\n", encoding="utf-8")
    with (home / "log").open("wb") as log, subprocess.Popen(daemon, stdout=log, stderr=log) as process:
        try:
            _wait_for_port(port, process, home / "log")
            yield Project(copy.root, copy.environment | {"HOME": str(home)})
        finally:
            process.terminate()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip(f"the OpenSSH server does not run here: {log.read_text(encoding='utf-8').strip()}")


def test_a_clone_takes_everything_through_ssh_and_runs_nothing(
    shared: Project, server: Project, clone: Callable[[Project, str], Project], tmp_path: Path
) -> None:
    share(server, tmp_path / "store", "ssh")
    follow(server, "give")
    other = clone(Project(shared.root, server.environment), "other")
    took = follow(other, "take")
    assert ran(took) == []
    wanted = {name: digest for name, digest in server.digests().items()}
    assert other.digests() == wanted
    assert other.lock() == server.lock()
    print(f"through SSH: {len(wanted)} files of {len(other.lock())} stages taken, none of the stages run")


def test_a_push_and_a_pull_that_are_killed_are_repeated_without_harm(
    shared: Project, copy: Project, clone: Callable[[Project, str], Project], tmp_path: Path
) -> None:
    share(copy, tmp_path / "store")
    copy.run("git", "push", "--quiet")
    other = clone(shared, "other")
    interrupted = 0
    # The first moments are before anything is sent, the last ones in the middle of it.
    for project, command in ((copy, commands("give")[0]), (other, commands("take")[1])):
        began = time.monotonic()
        target = tmp_path / "store" if project is copy else other.root / ".dvc/cache"
        for files in (1, 30):
            process = project.start(*command)
            while process.poll() is None and sum(path.is_file() for path in target.rglob("*")) < files:
                time.sleep(0.01)
            interrupted += process.poll() is None
            process.kill()
            process.communicate()
        assert time.monotonic() - began < 100
        project.run(*command)
    assert other.repro() == []
    assert other.digests() == copy.digests()
    print(f"{interrupted} of 4 transfers killed half way, {len(other.digests())} files equal after the repetition")
    assert interrupted


def test_two_clones_run_a_regime_each_and_a_third_assembles_the_whole(
    shared: Project, copy: Project, clone: Callable[[Project, str], Project], tmp_path: Path
) -> None:
    share(copy, tmp_path / "store")
    follow(copy, "give")
    # Other classes, so that both regimes have everything to learn; one task of them will do.
    copy.compose("adapters=[none]", "joint=never", "protocol.sizes=[3]")
    copy.commit()
    copy.run("git", "push", "--quiet")
    for name, regime, others in (("one", "finetune", "distill"), ("other", "distill", "finetune")):
        done = EXECUTED.findall(follow(clone(shared, name), name))
        assert f"train@{regime}-task0" in done
        assert not any(f"@{others}" in stage for stage in done)
    whole = clone(shared, "whole")
    printed = follow(whole, "whole")
    executed = set(EXECUTED.findall(printed))
    taken = set(ran(printed)) - executed
    assert {stage.partition("@")[0] for stage in executed} <= {"prepare", "bundle", "report"}
    assert {"train@finetune-task0", "train@distill-task0"} <= taken
    assert whole.repro() == []
    assert (whole.root / "metrics/summary.json").read_text(encoding="utf-8") != (copy.root / "metrics/summary.json").read_text(encoding="utf-8")
    print(f"two clones ran a regime each; the third took {len(taken)} stages from them and ran {', '.join(sorted(executed))}")
