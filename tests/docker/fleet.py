"""One compose file, brought up on the engine and taken down again."""

import contextlib
import json
import os
import re
import time
import urllib.error
import urllib.request

from engine import ROOT, docker, run
from story import Story

WORKERS = ["worker-1", "worker-2", "worker-3"]


def containers(role):
    return {worker: worker.replace("worker", role) for worker in WORKERS}


class Fleet:
    """Its containers by what they are called in the compose file."""

    def __init__(self, file, compose, run_id, variables):
        self.file = file
        self.prefix = f"tenure-test-{run_id}-{file}-"
        project = self.prefix.strip("-")
        self.compose = [*compose, "--file", ROOT / f"compose/{file}.yml", "--project-name", project]
        self.environment = {
            **os.environ, **variables, "PREFIX": self.prefix,
            # Any free ports: nothing on this host is in the way, nor are the other files.
            **{f"STATUS_PORT_{number}": "0" for number in (1, 2, 3)},
        }
        self.story = Story()
        # Where the sidecar's container is not the app's.
        apart = file == "sidecar"
        self.sidecars = containers("sidecar" if apart else "worker")
        self.apps = containers("app" if apart else "worker")

    def __enter__(self):
        try:
            run(*self.compose, "up", "--detach", "--no-build", seconds=120, env=self.environment)
            for worker in WORKERS:
                for container in {self.sidecars[worker], self.apps[worker]}:
                    self.story.follow(self.name(container), worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # A failure or a signal may have come while one was paused; not every engine
        # stops those.
        ours = ["--filter", f"name={self.prefix}", "--filter", "status=paused"]
        with contextlib.suppress(RuntimeError):
            for container in docker("ps", "--quiet", *ours).split():
                docker("unpause", container)
        run(*self.compose, "down", "--volumes", "--timeout", "2", seconds=120, env=self.environment)
        self.story.close()

    def name(self, container):
        return f"{self.prefix}{container}"

    def docker(self, verb, container, *words):
        """The moment at which the command was given."""
        at = time.time()
        docker(verb, *words, self.name(container))
        return at

    def start(self, container, worker):
        since = self.docker("start", container)
        self.story.follow(self.name(container), worker, since)
        return since

    def network(self, verb, container):
        at = time.time()
        docker("network", verb, self.name("workers"), self.name(container))
        return at

    def inspect(self, container, template):
        return docker("inspect", "--format", template, self.name(container))

    def tenure(self, container, *words):
        """What the container's own `tenure` prints."""
        return docker("exec", self.name(container), "tenure", *words)

    def ask(self, worker, path, method="GET"):
        """Status and body of the sidecar's page for browsers; None where none answers."""
        port = docker("port", self.name(self.sidecars[worker]), "4041/tcp").splitlines()[0]
        request = urllib.request.Request(f"http://{port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return None

    def first_answer(self, worker):
        """Seconds from `docker start` to an answer over HTTP, of a worker that follows."""
        self.docker("stop", self.sidecars[worker])
        at = self.start(self.sidecars[worker], worker)
        give_up = time.monotonic() + 10
        while self.ask(worker, "/livez") is None:
            assert time.monotonic() < give_up, f"{worker} does not answer"
            time.sleep(0.005)
        return time.time() - at

    def memory(self, worker):
        """Resident kilobytes of a worker's sidecar process."""
        table = docker("top", self.name(self.sidecars[worker]), "-o", "pid,rss,args")
        return int(re.search(r"^\s*\d+\s+(\d+)\s+tenure run\b", table, re.MULTILINE).group(1))

    def status(self, worker):
        return json.loads(self.tenure(self.sidecars[worker], "status", "--json"))
