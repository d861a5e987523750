"""Docker Compose in its two generations: the program and the plugin."""

import contextlib
import shutil
import subprocess

from engine import IN_CI, Trouble, need, run


PLUGIN = ["docker", "compose"]


def present():
    """The commands that there are, the newer generation first."""
    found = []
    with contextlib.suppress(OSError, RuntimeError):
        run("docker", "compose", "version")
        found.append(PLUGIN)
    if shutil.which("docker-compose"):
        found.append(["docker-compose"])
    return found


def generations(folder):
    """What there is; in CI also what can be had without changing the machine's own."""
    found = present()
    if IN_CI and PLUGIN not in found:
        need("docker-compose", "mmdebstrap")
        found = [newer(folder), *present()]
    if not found:
        raise Trouble("no Docker Compose: install its plugin, or the program docker-compose")
    return found


def newer(folder):
    """Debian 13's plugin, which also runs by itself, and on Debian 12."""
    tar, inside = folder / "compose.tar", "./usr/libexec/docker/cli-plugins/docker-compose"
    run(
        "mmdebstrap", "--quiet", "--variant=extract", "--include=docker-compose", "trixie", tar,
        seconds=300,
    )
    run("tar", "--extract", "--file", tar, "--directory", folder, inside)
    return [folder / inside]
