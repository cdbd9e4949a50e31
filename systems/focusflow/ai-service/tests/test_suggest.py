import sys
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from suggest import LEAST, suggest  # noqa: E402

UTC = ZoneInfo("UTC")
# A Wednesday.
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=timezone.utc)


def weekly(day, hour, weeks, length=2):
    """A log on each of the last weeks; `day` is days from NOW, which lies in the past after a week is taken off."""
    first = NOW.replace(hour=hour) + timedelta(days=day)
    starts = [first - timedelta(weeks=ago) for ago in range(1, weeks + 1)]
    return [(start, start + timedelta(hours=length)) for start in starts]


class Suggest(unittest.TestCase):
    def test_nothing_is_known_of_somebody_new(self):
        self.assertEqual(suggest([], NOW, UTC), [])
        self.assertEqual(suggest(weekly(1, 9, 2), NOW, UTC), [])

    def test_what_was_done_every_week_comes_first(self):
        tomorrow_at_nine = weekly(1, 9, 6)
        best = max(suggest(tomorrow_at_nine, NOW, UTC), key=lambda one: one.share)
        self.assertEqual(best.starts_at, NOW.replace(hour=9) + timedelta(days=1))
        self.assertEqual((best.weeks, best.of), (6, 6))

    def test_last_week_counts_more_than_two_months_ago(self):
        lately, once = weekly(1, 9, 3), weekly(2, 15, 8)[5:]
        found = {one.starts_at.hour: one.share for one in suggest(lately + once, NOW, UTC)}
        self.assertGreater(found[9], found[15])

    def test_hours_are_those_of_the_zone(self):
        tokyo = ZoneInfo("Asia/Tokyo")
        best = max(suggest(weekly(1, 1, 6), NOW, tokyo), key=lambda one: one.share)
        self.assertEqual(best.starts_at.hour, 10)
        half = ZoneInfo("Asia/Kolkata")
        best = max(suggest(weekly(1, 4, 6), NOW, half), key=lambda one: one.share)
        self.assertIn(best.starts_at.hour, (9, 10))

    def test_nothing_lies_in_the_past_and_little_is_chance(self):
        for one in suggest(weekly(0, 9, 6) + weekly(3, 20, 6), NOW, UTC):
            self.assertGreater(one.starts_at, NOW)
            self.assertLess(one.starts_at, NOW + timedelta(days=7))
            self.assertGreaterEqual(one.share, LEAST)

    def test_a_log_is_no_more_than_a_whole_hour_of_each_hour(self):
        twice = weekly(1, 9, 6) * 2
        self.assertTrue(all(one.share <= 1 for one in suggest(twice, NOW, UTC)))


if __name__ == "__main__":
    unittest.main()
