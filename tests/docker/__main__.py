"""Runs the compose files on a real engine: make test-docker.

The leading worker of each is stopped, killed, paused and cut off with docker's own
commands, and the counter, the epochs and the times are judged. Everything that is made
for that is removed again, also after a failure and after Ctrl-C."""

import os
import re
import signal
import sys
import time
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor

import test_story
from engine import Trouble, docker, engine, need
from faults import HEADER, Faults
from fleet import WORKERS, Fleet, compose_command
from images import images
from story import INTERRUPTED, judge

FILES = ["redis", "etcd", "sidecar"]
UP_TIME = 30.0
STARTED = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def check_image(image):
    """What an operator looks at before he runs it."""
    def of(template):
        return docker("image", "inspect", "--format", template, image)

    assert of("{{.Config.User}}") == "65532:65532"
    assert of("{{.Config.Entrypoint}}") == "[tenure]"
    assert of("{{.Config.StopSignal}}") == "SIGTERM"
    assert "tenure healthcheck" in of("{{.Config.Healthcheck.Test}}")
    assert re.match(r"\d+\.\d+", of('{{index .Config.Labels "org.opencontainers.image.version"}}'))
    size = int(of("{{.Size}}")) / 1e6
    assert size < 60, f"the image has {size:.1f} MB"
    return f"image with the demo's app   {size:.1f} MB"


def check_fleet(fleet):
    """Every worker healthy, its page in reach and read-only; who leads, once all do."""
    story = fleet.story
    story.wait("somebody counts", UP_TIME, lambda event: event.kind == "leader")
    for worker in WORKERS:
        story.wait(f"{worker} leads or follows", UP_TIME, lambda event, worker=worker: event.node == worker and event.kind in ("leading", "following"))
        give_up = time.monotonic() + UP_TIME
        while fleet.inspect(fleet.sidecars[worker], "{{.State.Health.Status}}") != "healthy":
            assert time.monotonic() < give_up, f"{worker} is not healthy"
            time.sleep(0.2)
        status, page = fleet.ask(worker, "/")
        assert status == 200 and "<html" in page.lower(), f"{worker} has no page: {status}"
        for path in ("/checkpoint", "/leadership/stepdown"):
            answer = fleet.ask(worker, path, "POST")
            assert answer[0] in (404, 405), f"{worker} lets the outside POST {path}: {answer}"


def memory(fleet, worker):
    """Resident kilobytes of the sidecar process of a container."""
    table = docker("top", fleet.name(fleet.sidecars[worker]), "-o", "pid,rss,args").splitlines()
    return [int(line.split()[1]) for line in table if re.search(r"tenure run\b", line)][0]


def first_answer(fleet, worker):
    """Seconds from `docker start` to the first answer over HTTP."""
    fleet.docker("stop", fleet.sidecars[worker])
    at = fleet.start(fleet.sidecars[worker], worker)
    port = f"{fleet.name(fleet.sidecars[worker])}"
    give_up = time.monotonic() + 10
    while fleet.ask(worker, "/livez") is None:
        assert time.monotonic() < give_up, f"{port} does not answer"
        time.sleep(0.005)
    return time.time() - at


def play(file, compose, run_id, variables):
    """All faults on one compose file; its lines of the report, and what went wrong."""
    lines, trouble = [], None
    try:
        with Fleet(file, compose, run_id, variables) as fleet:
            try:
                check_fleet(fleet)
                say(f"{file}: up")
                faults = Faults(fleet)
                todo = [faults.stop, faults.kill, faults.pause, faults.disconnect]
                if file == "sidecar":
                    todo.append(faults.stop_app)
                for fault in todo:
                    fault()
                    lines.append(faults.handovers[-1].text())
                    say(f"{file}: {fault.__name__} judged")
                counted = judge(fleet.story.snapshot())
                worker, _ = faults.leader()
                stored = int(fleet.tenure(fleet.sidecars[worker], "checkpoint", "get"))
                assert stored >= counted, f"{counted} was counted, {stored} is stored"
            except Exception:
                trouble = f"{traceback.format_exc()}\nwhat {file}.yml said last:\n{fleet.story.tail()}"
    except Exception:
        trouble = (trouble or "") + traceback.format_exc()
    return lines, trouble


def main():
    judges = unittest.defaultTestLoader.loadTestsFromModule(test_story)
    if not unittest.TextTestRunner(verbosity=0).run(judges).wasSuccessful():
        return 1
    run_id = str(os.getpid())
    with engine():
        if compose_command() is None:
            need("docker-compose")
        compose = compose_command()
        with images(run_id, say) as variables:
            notes = [check_image(variables["TENURE_IMAGE"])]
            say(f"three compose files, with {' '.join(compose)}")
            with ThreadPoolExecutor() as pool:
                plays = [pool.submit(play, file, compose, run_id, variables) for file in FILES]
                try:
                    results = [each.result() for each in plays]
                except BaseException:
                    INTERRUPTED.set()
                    raise
    print(f"\n{HEADER}")
    for lines, _ in results:
        print("\n".join(lines))
    print("\n" + "\n".join(notes))
    failed = [(file, trouble) for file, (_, trouble) in zip(FILES, results) if trouble]
    for file, trouble in failed:
        print(f"\n{file}.yml FAILED\n{trouble}")
    print(f"\n{len(FILES) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


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
