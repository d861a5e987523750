"""One compose file, brought up on the engine and taken down again."""

import contextlib
import json
import os
import shutil
import time
import urllib.error
import urllib.request

from engine import ROOT, docker, run
from story import Story

WORKERS = ["worker-1", "worker-2", "worker-3"]


def compose_command():
    """The plugin where there is one, else the older program."""
    with contextlib.suppress(OSError, RuntimeError):
        run("docker", "compose", "version")
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


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
        self.sidecars = {worker: worker.replace("worker", "sidecar") if apart else worker for worker in WORKERS}
        self.apps = {worker: worker.replace("worker", "app") if apart else worker for worker in WORKERS}

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
        with contextlib.suppress(RuntimeError):
            # A paused container cannot be stopped by every engine.
            for container in docker("ps", "--quiet", "--filter", "status=paused", "--filter", f"name={self.prefix}").split():
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

    def status(self, worker):
        return json.loads(self.tenure(self.sidecars[worker], "status", "--json"))
