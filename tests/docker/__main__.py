"""Runs the compose files on a real engine: make test-docker.

The leading worker of each is stopped, killed, paused and cut off with docker's own
commands, and the counter, the epochs and the times are judged. Everything that is made
for that is removed again, also after a failure and after Ctrl-C."""

import dataclasses
import itertools
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import test_story
from engine import Trouble, docker, engine, run
from faults import HEADER, Faults
from fleet import WORKERS, Fleet
from generations import generations
from images import images
from story import INTERRUPTED, judge

FILES = ["redis", "etcd", "sidecar", "peers"]
UP_TIME = 30.0
STARTED = time.monotonic()


@dataclasses.dataclass
class Verdict:
    """On one compose file: lines of the report, figures, and what went wrong."""

    lines: list = dataclasses.field(default_factory=list)
    figures: list = dataclasses.field(default_factory=list)
    trouble: str = ""


def say(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def main():
    judges = unittest.defaultTestLoader.loadTestsFromModule(test_story)
    if not unittest.TextTestRunner(verbosity=0).run(judges).wasSuccessful():
        return 1
    run_id = str(os.getpid())
    with engine(), images(run_id, say) as variables, tempfile.TemporaryDirectory() as folder:
        size = check_image(variables["TENURE_IMAGE"])
        # Where both generations are at hand, each has files to read.
        composes = dict(zip(FILES, itertools.cycle(generations(Path(folder)))))
        for file, compose in composes.items():
            say(f"{file}.yml: {run(*compose, 'version').splitlines()[0]}")
        with ThreadPoolExecutor() as pool:
            plays = [pool.submit(play, *each, run_id, variables) for each in composes.items()]
            try:
                verdicts = [each.result() for each in plays]
            except BaseException:
                INTERRUPTED.set()
                raise
    report(size, verdicts)
    return any(verdict.trouble for verdict in verdicts)


def check_image(image):
    """What an operator looks at before he runs it; its size in bytes."""
    def of(template):
        return docker("image", "inspect", "--format", template, image)

    assert of("{{.Config.User}}") == "65532:65532"
    assert of("{{.Config.Entrypoint}}") == "[tenure]"
    assert of("{{.Config.StopSignal}}") == "SIGTERM"
    assert of("{{.Config.Healthcheck.Test}}") == "[CMD tenure healthcheck]"
    assert of('{{index .Config.Labels "org.opencontainers.image.title"}}') == "Tenure"
    size = int(of("{{.Size}}"))
    assert size < 60e6, f"the image has {size / 1e6:.1f} MB"
    return size


def play(file, compose, run_id, variables):
    """All faults on one compose file."""
    verdict = Verdict()
    try:
        with Fleet(file, compose, run_id, variables) as fleet:
            try:
                check_fleet(fleet)
                say(f"{file}: up")
                break_it(fleet, verdict)
                measure(fleet, verdict)
            except Exception:
                said = fleet.story.tail()
                verdict.trouble = f"{traceback.format_exc()}\nwhat was said last:\n{said}"
    except Exception:
        verdict.trouble += traceback.format_exc()
    return verdict


def check_fleet(fleet):
    """Somebody counts; every worker is healthy, its page in reach and read-only."""
    story = fleet.story
    story.wait("somebody counts", UP_TIME, lambda event: event.kind == "leader")
    for worker in WORKERS:
        give_up = time.monotonic() + UP_TIME
        while fleet.inspect(fleet.sidecars[worker], "{{.State.Health.Status}}") != "healthy":
            assert time.monotonic() < give_up, f"{worker} is not healthy"
            time.sleep(0.2)
        status, page = fleet.ask(worker, "/")
        assert status == 200 and "<html" in page.lower(), f"{worker} has no page: {status}"
        for path in ("/checkpoint", "/leadership/stepdown"):
            answer = fleet.ask(worker, path, "POST")
            assert answer and answer[0] in (404, 405), f"{worker}: POST {path}: {answer}"


def break_it(fleet, verdict):
    faults = Faults(fleet)
    todo = [faults.stop, faults.kill, faults.pause, faults.disconnect]
    if fleet.file == "sidecar":
        todo.append(faults.stop_app)
    for fault in todo:
        fault()
        verdict.lines.append(faults.handovers[-1].text())
        say(f"{fleet.file}: {fault.__name__.replace('_', ' ')} judged")
    counted = judge(fleet.story.snapshot())
    worker, _ = faults.leader()
    stored = int(fleet.tenure(fleet.sidecars[worker], "checkpoint", "get"))
    assert stored >= counted, f"{counted} was counted, {stored} is stored"


def measure(fleet, verdict):
    leader, _ = Faults(fleet).leader()
    follower = next(worker for worker in WORKERS if worker != leader)
    resident = [fleet.memory(worker) / 1024 for worker in (leader, follower)]
    verdict.figures = [
        f"{fleet.file}: resident memory of the sidecar: {resident[0]:.1f} MiB where it leads, "
        f"{resident[1]:.1f} MiB where it follows",
        f"{fleet.file}: docker start to the first answer: {fleet.first_answer(follower):.3f} s",
    ]


def report(size, verdicts):
    print(f"\n{HEADER}")
    for verdict in verdicts:
        print("\n".join(verdict.lines))
    print(f"\nimage, with the demo's app: {size / 1e6:.1f} MB")
    print("\n".join(figure for verdict in verdicts for figure in verdict.figures))
    for file, verdict in zip(FILES, verdicts):
        if verdict.trouble:
            print(f"\n{file}.yml FAILED\n{verdict.trouble}")
    failed = sum(bool(verdict.trouble) for verdict in verdicts)
    print(f"\n{len(verdicts) - failed} passed, {failed} failed")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(number, _frame):
    # Once: what follows is the cleaning up, which nobody should cut short.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    print(f"test-docker: signal {number}; removing what was made", file=sys.stderr)
    sys.exit(128 + number)


if __name__ == "__main__":
    for each in SIGNALS:
        signal.signal(each, interrupt)
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f"test-docker: {trouble}")
