"""What the containers' logs tell, and whether it is a story that Tenure promised.

Every line carries the moment at which the engine received it: one clock for all."""

import dataclasses
import datetime
import re
import subprocess
import threading
import time

COUNTER_LINE = re.compile(r"^(resumed|leader|stopped|follower)((?: \w+=\S*)+)$")
SIDECAR_LINE = re.compile(r"INFO (leading|following|no longer leading|no leader known)\b(.*)$")
PAIR = re.compile(r'(\w+)="?([^\s"]+)')


@dataclasses.dataclass(frozen=True)
class Event:
    at: float  # seconds since 1970
    node: str
    kind: str  # the first words of the line
    epoch: int  # 0 where the line names none
    counter: int
    line: str

    @staticmethod
    def of(node, at, line):
        found = COUNTER_LINE.search(line) or SIDECAR_LINE.search(line)
        pairs = dict(PAIR.findall(found.group(2))) if found else {}
        epoch, counter = (int(pairs.get(name, 0)) for name in ("epoch", "counter"))
        return Event(at, node, found.group(1) if found else "", epoch, counter, line)


class Interrupted(Exception):
    """The whole test is over; nobody waits any longer."""


INTERRUPTED = threading.Event()


class Story:
    """All that the containers of one compose file have said."""

    def __init__(self):
        self.events = []
        self.told = threading.Condition()
        self.followers = []

    def follow(self, container, node, since=None):
        """Reads on until the container stops; a container that is started again is
        followed again, `since` the moment before that."""
        words = ["docker", "logs", "--follow", "--timestamps"]
        if since is not None:
            words += ["--since", f"{since:.9f}"]
        process = subprocess.Popen(
            [*words, container], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        reader = threading.Thread(target=self._read, args=(process, node), daemon=True)
        reader.start()
        self.followers.append((process, reader))

    def _read(self, process, node):
        for line in process.stdout:
            moment, _, text = line.rstrip("\n").partition(" ")
            with self.told:
                self.events.append(Event.of(node, seconds_of(moment), text))
                self.told.notify_all()

    def close(self):
        for process, reader in self.followers:
            process.kill()
            process.wait()
            reader.join()

    def wait(self, what, seconds, matches):
        """The first event that matches, said already or within these seconds."""
        give_up = time.monotonic() + seconds
        seen = 0
        with self.told:
            while True:
                for event in self.events[seen:]:
                    if matches(event):
                        return event
                seen = len(self.events)
                if INTERRUPTED.is_set():
                    raise Interrupted(what)
                left = give_up - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {seconds} s: {what}")
                self.told.wait(min(left, 0.5))

    def snapshot(self):
        with self.told:
            return sorted(self.events, key=lambda event: event.at)

    def tail(self, lines=40):
        said = sorted(self.events, key=lambda event: event.at)[-lines:]
        return "\n".join(f"  {event.at:.3f} {event.node} | {event.line}" for event in said)


def seconds_of(moment):
    # Python reads microseconds, the engine writes nanoseconds.
    whole, _, fraction = moment.rstrip("Z").partition(".")
    stamp = datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return stamp + float(f"0.{fraction or 0}")


def judge(events):
    """Raises where the counter, an epoch or a leader was not as promised; returns the
    last value that was counted."""
    tenures = {}
    for event in events:
        if event.kind in ("resumed", "leader", "stopped"):
            tenures.setdefault(event.epoch, []).append(event)
    counted = None
    for epoch, acts in sorted(tenures.items()):
        nodes = {event.node for event in acts}
        assert len(nodes) == 1, f"epoch {epoch} was counted under by {sorted(nodes)}"
        for event in acts:
            if event.kind == "resumed":
                # What was written last may have gone unsaid: its writer was killed
                # between the store's answer and its own line.
                fair = {0} if counted is None else {counted, counted + 1}
                assert event.counter in fair, (
                    f"{event.node} resumed at {event.counter} under epoch {epoch} "
                    f"where {counted} was counted last: lost, or written by a stale leader"
                )
                counted = event.counter
            elif event.kind == "leader":
                assert counted is not None and event.counter == counted + 1, (
                    f"{event.node} counted {event.counter} after {counted} under epoch {epoch}"
                )
                counted = event.counter
    # Whoever came later was granted more. The order is the one in which they first
    # counted: their lines may arrive late, but each tenure's first comes after the last
    # one's end.
    firsts = [event for event in events if event.kind == "resumed"]
    for earlier, later in zip(firsts, firsts[1:]):
        assert later.epoch >= earlier.epoch, (
            f"an epoch fell: {earlier.epoch} of {earlier.node}, then {later.epoch} of {later.node}"
        )
    assert counted, "nobody counted"
    return counted
