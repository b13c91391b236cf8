"""A circuit breaker as one would explain it: no locks, no running sums, everything counted again each time."""

from math import ceil, floor


class Reference:
    """What the breaker ought to do, for policies without jitter, slow calls and stretching."""

    def __init__(self, policy):
        self.policy, self.width = policy, policy.window / policy.buckets
        self.stale = self.neutral = self.refused = self.generation = 0
        self.enter("closed")

    def enter(self, state):
        self.state, self.ended, self.flight, self.probes, self.good, self.shrugs = state, [], {}, {}, 0, 0
        self.generation += 1
        self.failed_probes = 0 if "closed" in state else self.failed_probes

    def open(self, now):
        policy = self.policy
        self.period = min(policy.open_duration * policy.open_multiplier**self.failed_probes, policy.max_open_duration)
        self.until = now + self.period
        self.enter("open")

    def judge(self, now):
        bucket, patience = floor(now / self.width), ceil(self.policy.overdue_after / self.width)
        calls = [failed for at, failed in self.ended if bucket - at < self.policy.buckets]
        calls += [True for at in self.flight.values() if patience < bucket - at <= patience + self.policy.buckets]
        enough = len(calls) >= self.policy.minimum_calls
        if self.state == "closed" and enough and sum(calls) / len(calls) >= self.policy.failure_ratio:
            self.open(now)

    def acquire(self, name, now):
        self.judge(now)
        if self.state == "open" and now >= self.until:
            self.enter("half_open")
        slots = self.policy.half_open_calls << self.shrugs // self.policy.neutral_probes_to_widen
        if "closed" in self.state:
            self.flight[name] = floor(now / self.width)
        elif self.state == "half_open" and sum(expiry > now for expiry in self.probes.values()) < slots:
            self.probes[name] = now + self.period
        else:
            self.refused += 1
            return None
        return self.generation

    def record(self, name, generation, health, now):
        if generation != self.generation:
            self.stale += 1
            return
        self.flight.pop(name, None)
        self.probes.pop(name, None)
        if health == "neutral":
            self.neutral += 1
            self.shrugs += 1
        elif "closed" in self.state:
            self.ended.append((floor(now / self.width), health == "failure"))
            self.judge(now)
        elif health == "failure":
            self.failed_probes = 0 if self.good else self.failed_probes + 1
            self.open(now)
        else:
            self.good += 1
            if self.good >= self.policy.successes_to_close:
                self.enter("closed")
