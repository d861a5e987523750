"""What is done to a leading worker, and what must follow."""

import dataclasses
import time

TTL = 15.0
# Where the sidecars are the quorum: two election timeouts, with a lease of 3 s.
PEERS = 10.0
# From one count to the next, and so how late an app beside a sidecar may look.
TICK = 1.0
# How late etcd may notice that a lease is over.
ETCD_STEP = 1.0
# An engine's command, a process's start and a log line's way on a busy machine.
SLACK = 0.5


@dataclasses.dataclass
class Handover:
    """One line of the report."""

    file: str
    fault: str
    # Until another node led, and until its app had counted.
    led: float
    counted: float
    allowed: float
    epochs: tuple
    counter: int

    def text(self):
        return (
            f"{self.file:<8} {self.fault:<11} {self.led:8.3f} s {self.counted:8.3f} s "
            f"{self.allowed:6.1f} s   {self.epochs[0]} > {self.epochs[1]} {self.counter:8}"
        )


HEADER = (
    f"{'compose':<8} {'fault':<11} {'led after':>10} {'counted':>10} {'allowed':>8}   "
    f"{'epoch':<29} {'counter':>8}"
)


class Faults:
    """Done one after the other, each to whoever leads then."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.story = fleet.story
        self.handovers = []
        self.step = ETCD_STEP if fleet.file == "etcd" else 0.0
        self.longest = PEERS if fleet.file == "peers" else TTL
        # An app that is started by its sidecar counts at once.
        self.look = TICK if fleet.file == "sidecar" else 0.0

    def leader(self):
        """The worker that counts now, and under which epoch."""
        counts = [event for event in self.story.snapshot() if event.kind == "leader"]
        newest = max(counts, key=lambda event: event.epoch)
        return newest.node, newest.epoch

    def counts_on(self, epoch, times=2):
        """Waits for so many more counts under an epoch that is not older."""
        for _ in range(times):
            now = time.time()
            self.story.wait(
                f"a count after {now:.3f}", 3 * TICK + SLACK,
                lambda event: event.kind == "leader" and event.at > now and event.epoch >= epoch,
            )

    def follows(self, worker, since, seconds=10.0):
        self.story.wait(
            f"{worker} follows", seconds,
            lambda event: (event.node, event.kind) == (worker, "following") and event.at > since,
        )

    def succeeded(self, fault, worker, epoch, at, allowed):
        """Waits until another node leads and counts, in time."""
        def newer(kind):
            return lambda event: event.kind == kind and event.node != worker and event.epoch > epoch

        led = self.story.wait(f"another node leads after {fault}", allowed + 5, newer("leading"))
        counted = self.story.wait(f"another app counts after {fault}", 5, newer("leader"))
        handover = Handover(
            self.fleet.file, fault, led.at - at, counted.at - at, allowed,
            (epoch, led.epoch), counted.counter,
        )
        self.handovers.append(handover)
        assert handover.led <= allowed, f"too late:\n{HEADER}\n{handover.text()}"
        late = allowed + SLACK + self.look
        assert handover.counted <= late, f"counted too late:\n{HEADER}\n{handover.text()}"
        return led

    def ended(self, worker, epoch):
        """The moment at which the old leader said of itself that it leads no more."""
        return self.story.wait(
            f"{worker} says that its tenure {epoch} is over", 2,
            lambda event: (event.node, event.kind, event.epoch)
            == (worker, "no longer leading", epoch),
        ).at

    def back(self, worker):
        """Starts what was stopped; a new sidecar is a new network to its app."""
        sidecar, app = self.fleet.sidecars[worker], self.fleet.apps[worker]
        since = self.fleet.start(sidecar, worker)
        if app != sidecar:
            again = self.fleet.docker("restart", app, "--time", "1")
            self.story.follow(self.fleet.name(app), worker, again)
        self.follows(worker, since)

    def counting_leader(self):
        """The leader, once it has something to lose."""
        _, epoch = self.leader()
        self.counts_on(epoch, times=3)
        return self.leader()

    # The faults.

    def stop(self):
        worker, epoch = self.counting_leader()
        at = self.fleet.docker("stop", self.fleet.sidecars[worker])
        self.succeeded("stop", worker, epoch, at, 1.0)
        code = self.fleet.inspect(self.fleet.sidecars[worker], "{{.State.ExitCode}}")
        assert code == "0", f"{worker} ended with {code} after docker stop"
        self.story.wait(
            "the log says that docker stop handed over, and what docker kill would show", 2,
            lambda event: event.node == worker and "handed over" in event.line
            and "docker kill" in event.line and event.at > at,
        )
        self.back(worker)

    def kill(self):
        worker, epoch = self.counting_leader()
        at = self.fleet.docker("kill", self.fleet.sidecars[worker])
        self.succeeded("kill", worker, epoch, at, self.longest + self.step + SLACK)
        self.back(worker)

    def pause(self):
        worker, epoch = self.counting_leader()
        both = [self.fleet.sidecars[worker], self.fleet.apps[worker]]
        containers = list(dict.fromkeys(both))
        moments = [self.fleet.docker("pause", container) for container in containers]
        led = self.succeeded("pause", worker, epoch, moments[0], self.longest + self.step + SLACK)
        self.counts_on(led.epoch)
        # The app first: it wakes with its old token and asks a sidecar that sleeps on.
        woken = [self.fleet.docker("unpause", container) for container in reversed(containers)]
        self.follows(worker, woken[0])
        self.counts_on(led.epoch, times=3)
        wrote = [
            event for event in self.story.snapshot()
            if event.node == worker and event.kind == "leader" and event.at > woken[0] + SLACK
        ]
        assert not wrote, f"{worker} counted after its pause: {wrote}"

    def disconnect(self):
        worker, epoch = self.counting_leader()
        at = self.fleet.network("disconnect", self.fleet.sidecars[worker])
        led = self.succeeded("disconnect", worker, epoch, at, self.longest + self.step + SLACK)
        ended = self.ended(worker, epoch)
        assert ended < led.at, (
            f"{worker} led for {ended - led.at:.3f} s beside its successor, cut off from its store"
        )
        since = self.fleet.network("connect", self.fleet.sidecars[worker])
        self.follows(worker, since)

    def stop_app(self):
        """Only where the app has a container of its own: nobody counts, nothing breaks."""
        worker, epoch = self.counting_leader()
        app = self.fleet.apps[worker]
        stopped = self.fleet.docker("stop", app)
        # The sidecar goes on leading; the other apps go on following.
        renewed = self.fleet.status(worker)["lease"]["renewed_at"]
        give_up = time.monotonic() + TTL
        while self.fleet.status(worker)["lease"]["renewed_at"] == renewed:
            assert time.monotonic() < give_up, f"{worker} renews no more without its app"
            time.sleep(0.2)
        counted = [
            event for event in self.story.snapshot()
            if event.kind == "leader" and event.at > stopped + SLACK
        ]
        assert not counted, f"counted while the leader's app was stopped: {counted}"
        self.fleet.start(app, worker)
        self.counts_on(epoch)
        # Both: the lease is given back, and another pair goes on.
        self.fleet.docker("stop", app)
        at = self.fleet.docker("stop", self.fleet.sidecars[worker])
        self.succeeded("stop both", worker, epoch, at, 1.0)
        self.back(worker)
