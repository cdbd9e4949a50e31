"""When somebody focuses best, learned from their own logs and nothing else.

The week has 168 hours of local time. In each of the last eight weeks, each of them was spent in focus to some share: 0,
or 1, or something between. Of such a share the mean over the weeks is taken, where a week counts half as much as one
three weeks later: habits change. Eight values are few, so the mean is drawn towards that of the same hour on all seven
days, as far as two more weeks of that would draw it (the mean of a posterior whose prior is the person's own day):

    estimate(day, hour) = (sum of w * share + 2 * mean of the hour) / (sum of w + 2)

Suggested is, of each of the next seven days, the two hours with the highest estimate, and of these the three best.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

WEEKS = 8
HALF_LIFE_WEEKS = 3
PRIOR_WEEKS = 2
LENGTH_HOURS = 2
SUGGESTIONS = 3
# Below this nothing is suggested: three minutes in an hour are chance.
LEAST = 0.05
# With fewer logs nothing is known yet.
FEWEST_LOGS = 3


@dataclass(frozen=True)
class Suggestion:
    """A time to focus: what share of it is expected to be, and in how many of the weeks it was begun."""

    starts_at: datetime
    ends_at: datetime
    share: float
    weeks: int
    of: int


def suggest(logs: list[tuple[datetime, datetime]], now: datetime, zone: ZoneInfo) -> list[Suggestion]:
    """The best times of the next seven days; none while there is too little to learn from."""
    recent = [(start, end) for start, end in logs if start >= now - timedelta(weeks=WEEKS) and end <= now]
    if len(recent) < FEWEST_LOGS:
        return []
    weeks = min(WEEKS, (now - min(start for start, _ in recent)) // timedelta(weeks=1) + 1)
    shares = shares_of(recent, now, zone)
    estimates = estimate(shares, weeks)
    best = [best_of_day(estimates, shares, now, now.astimezone(zone) + timedelta(days=days), weeks) for days in range(7)]
    found = [one for one in best if one and one.share >= LEAST]
    found = sorted(found, key=lambda one: -one.share)[:SUGGESTIONS]
    return sorted(found, key=lambda one: one.starts_at)


def shares_of(logs, now, zone) -> dict[tuple[int, int, int], float]:
    """The share of focus by (weeks ago, weekday, hour)."""
    shares = defaultdict(float)
    for start, end in logs:
        while start < end:
            local = start.astimezone(zone)
            into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            until = min(end, start + timedelta(hours=1) - into)
            slot = ((now - start) // timedelta(weeks=1), local.weekday(), local.hour)
            shares[slot] = min(1.0, shares[slot] + (until - start) / timedelta(hours=1))
            start = until
    return shares


def estimate(shares, weeks) -> dict[tuple[int, int], float]:
    """The expected share by (weekday, hour)."""
    weights = [0.5 ** (ago / HALF_LIFE_WEEKS) for ago in range(weeks)]
    total = sum(weights)
    sums = {
        (day, hour): sum(weight * shares.get((ago, day, hour), 0.0) for ago, weight in enumerate(weights))
        for day in range(7) for hour in range(24)
    }
    by_hour = [sum(sums[day, hour] for day in range(7)) / (7 * total) for hour in range(24)]
    return {
        (day, hour): (summed + PRIOR_WEEKS * by_hour[hour]) / (total + PRIOR_WEEKS)
        for (day, hour), summed in sums.items()
    }


def best_of_day(estimates, shares, now, day, weeks) -> Suggestion | None:
    """The best time of that day, if some of it is still to come."""
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    for hour in range(24 - LENGTH_HOURS + 1):
        starts_at = midnight.replace(hour=hour)
        hours = range(hour, hour + LENGTH_HOURS)
        share = sum(estimates[day.weekday(), each] for each in hours) / LENGTH_HOURS
        if starts_at > now:
            begun = sum(any(shares.get((ago, day.weekday(), each)) for each in hours) for ago in range(weeks))
            ends_at = starts_at + timedelta(hours=LENGTH_HOURS)
            found.append(Suggestion(starts_at, ends_at, round(share, 3), begun, weeks))
    return max(found, key=lambda one: one.share, default=None)
