"""The Docker engine of the test: the one that runs here, or in CI one of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# Where Debian keeps what an ordinary user's PATH does not show.
os.environ["PATH"] += ":/usr/sbin:/sbin"

ROOT = Path(__file__).resolve().parents[2]
IN_CI = os.environ.get("CI") == "true"
ENGINE_START = 60


class Trouble(Exception):
    """What keeps the test from running at all, and what to do about it."""


def run(*words, seconds=60, **more):
    """The output of a command; an exception with what it said where it fails."""
    words = [str(word) for word in words]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, timeout=seconds, **more,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def docker(*words, seconds=60):
    return run("docker", *words, seconds=seconds)


def answers():
    try:
        docker("version", "--format", "{{.Server.Version}}", seconds=20)
    except (OSError, RuntimeError, subprocess.TimeoutExpired):
        return False
    return True


def need(*programs):
    """Programs that the test cannot do without: installed in CI, asked for elsewhere."""
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return
    if not IN_CI:
        raise Trouble(
            f"missing: {', '.join(missing)}; install them, "
            "or have it done: CI=true make test-docker"
        )
    subprocess.run([ROOT / ".ci/need", *missing], stdin=subprocess.DEVNULL, check=True)


@contextlib.contextmanager
def engine():
    """An engine that answers to `docker`; stopped at the end if it was started here."""
    if shutil.which("docker") and answers():
        yield
        return
    if not IN_CI:
        raise Trouble(
            "no Docker engine answers `docker version`; start one, or have one installed, "
            "started and stopped for this test as root: CI=true make test-docker"
        )
    if os.geteuid() != 0:
        raise Trouble("no Docker engine answers, and only root can start one")
    need("docker", "dockerd", "iptables", "setpriv")
    with network_as_it_was(), contextlib.ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="tenure-docker-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        before = os.environ.get("DOCKER_HOST")
        stack.callback(set_host, before)
        with own_engine(home):
            yield


def set_host(address):
    if address is None:
        os.environ.pop("DOCKER_HOST", None)
    else:
        os.environ["DOCKER_HOST"] = address


@contextlib.contextmanager
def own_engine(home):
    """Apart from any other: its own socket, data and containerd; no bridge but those of
    the compose files. It ends with this process, however that ends."""
    socket = f"unix://{home}/docker.sock"
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "dockerd", "--host", socket,
             "--data-root", home / "data", "--exec-root", home / "exec",
             "--pidfile", home / "pid", "--bridge", "none"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            # Ctrl-C is for the test, which still has containers to remove.
            start_new_session=True,
        )
    try:
        set_host(socket)
        give_up = time.monotonic() + ENGINE_START
        while not answers():
            if process.poll() is not None or time.monotonic() > give_up:
                said = (home / "log").read_text(errors="replace")[-4000:]
                raise Trouble(f"dockerd does not start:\n{said}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # An engine that was killed leaves its mounts, and those their files.
        for line in Path("/proc/mounts").read_text().splitlines()[::-1]:
            target = line.split()[1]
            if target.startswith(f"{home}/"):
                subprocess.run(["umount", "--lazy", target], check=False)


@contextlib.contextmanager
def network_as_it_was():
    """An engine leaves its packet filter's chains and routing switched on."""
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    routed = forwarding.read_text()
    rules = run("iptables-save")
    try:
        yield
    finally:
        subprocess.run(["iptables-restore"], input=rules + "\n", text=True, check=False)
        forwarding.write_text(routed)
