"""The judge is judged: what must not be is planted, and found."""

import unittest

from story import Event, judge, seconds_of

SOUND = [
    ("a", "resumed epoch=10 counter=0"),
    ("a", "leader epoch=10 counter=1 lease_left=14000ms"),
    ("b", "follower leader=a"),
    ("a", "leader epoch=10 counter=2 lease_left=13000ms"),
    ("b", "resumed epoch=20 counter=2"),
    ("b", "leader epoch=20 counter=3 lease_left=14000ms"),
]


def told(lines):
    return [Event.of(node, float(at), line) for at, (node, line) in enumerate(lines)]


class Judge(unittest.TestCase):
    def condemns(self, lines, why):
        with self.assertRaisesRegex(AssertionError, why):
            judge(told(lines))

    def test_a_sound_story(self):
        self.assertEqual(judge(told(SOUND)), 3)

    def test_a_write_that_its_killed_writer_did_not_tell(self):
        untold = [("c", "resumed epoch=30 counter=4"), ("c", "leader epoch=30 counter=5")]
        self.assertEqual(judge(told(SOUND + untold)), 5)

    def test_a_line_that_came_late_from_a_paused_leader(self):
        late = SOUND[:3] + SOUND[4:] + [SOUND[3]]
        self.assertEqual(judge(told(late)), 3)

    def test_a_lost_write(self):
        self.condemns(SOUND[:4] + [("b", "resumed epoch=20 counter=1")], "lost")

    def test_a_gap(self):
        self.condemns([*SOUND, ("b", "leader epoch=20 counter=5")], "counted 5 after 3")

    def test_a_double(self):
        self.condemns([*SOUND, ("b", "leader epoch=20 counter=3")], "counted 3 after 3")

    def test_a_stale_leader_that_was_obeyed(self):
        self.condemns([*SOUND, ("a", "leader epoch=10 counter=3")], "stale")

    def test_an_epoch_that_fell(self):
        fell = [("c", "resumed epoch=5 counter=0")]
        self.condemns(SOUND[:1] + fell, "an epoch fell")

    def test_an_epoch_that_two_had(self):
        self.condemns([*SOUND, ("c", "leader epoch=20 counter=4")], "was counted under by")

    def test_nobody_counted(self):
        self.condemns([("b", "follower leader=a")], "nobody counted")

    def test_what_a_sidecar_says(self):
        line = "2026-01-01T00:00:00.5Z  INFO leading election=counter epoch=10"
        event = told([("a", line)])[0]
        self.assertEqual((event.kind, event.epoch), ("leading", 10))

    def test_the_engine_s_moments(self):
        self.assertAlmostEqual(seconds_of("1970-01-01T00:00:01.250000001Z"), 1.25)


if __name__ == "__main__":
    unittest.main()
