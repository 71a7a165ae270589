"""SIGKILL at every named moment of the commit path, and at moments drawn at random, over and over on the same topics.

A cycle is: start with a failpoint armed, send payments until the process has died of it, go on with the next. After some cycles the
checker looks at all that was written. Every choice comes of the seed.
"""
import random
import shutil
import time

import checker
from traffic import Traffic

# Name in the engine, and the passings among which one is drawn: early ones happen while the process still restores or catches up.
POINTS = {
    "after-poll": 40,
    "before-produce": 15,
    "after-produce": 15,
    "after-offsets": 15,
    "before-commit": 15,
    "after-commit": 15,
    "before-store-write": 15,
    "in-store-write": 15,
    "after-store-write": 15,
    # A small state may be restored in one batch.
    "during-restore": 1,
    "after-restore": 1,
    "rebalance-assigned": 1,
    "rebalance-revoked": 1,
}
STORE_WRITE_US_MAX = 250
CYCLE_S = 60
BURST = 12


def armed(point, dice):
    """The environment that ends a process there."""
    passing = dice.randint(1, POINTS[point])
    if point == "in-store-write":
        # From a second thread, some microseconds into the write.
        return {"SMARTROUTER_FAILPOINT": f"before-store-write={passing}:{dice.randrange(STORE_WRITE_US_MAX)}"}
    return {"SMARTROUTER_FAILPOINT": f"{point}={passing}"}


class Run:
    """One router with its traffic, killed again and again."""

    def __init__(self, make_router, seed, env={}):
        self.dice, self.router = random.Random(seed), make_router()
        self.traffic, self.env, self.told = Traffic(self.router, seed), env, []

    def cycle(self, point):
        dice, router = self.dice, self.router
        if point == "random":
            return self.random_kill()
        if point == "during-restore" or point == "after-restore" and dice.random() < 0.5:
            shutil.rmtree(router.dir / "one", ignore_errors=True)
        # With a long interval, answers are committed while events wait.
        env = {"SMARTROUTER__RUNTIME__COMMIT_INTERVAL_MS": str(dice.choice((20, 50, 500)))} | self.env | armed(point, dice)
        process = router.start(wait=False, env=env)
        begun, other = time.time(), None
        while process.poll() is None and time.time() - begun < CYCLE_S:
            self.traffic.burst(dice.randint(1, BURST), pause=dice.choice((0.0, 0.02)))
            time.sleep(dice.uniform(0.05, 0.3))
            if point == "rebalance-revoked" and other is None and router.get(process, "/readyz")[0] == 200:
                other = router.start("two", wait=False, env=self.env)
        if process.poll() is None:
            self.told.append(f"{env} was not passed within {CYCLE_S} s")
            router.kill(process)
        elif process.returncode != -9:
            self.told.append(f"{env} ended with {process.returncode}: {open(process.log_path).read()[-400:]}")
        if other is not None:
            # It goes on alone for a while, and then dies too.
            self.traffic.burst(dice.randint(1, BURST))
            time.sleep(dice.random())
            router.kill(other)
        return None

    def random_kill(self):
        dice, router = self.dice, self.router
        process = router.start(wait=dice.random() < 0.5, env=self.env)
        for _ in range(dice.randint(1, 4)):
            self.traffic.burst(dice.randint(1, BURST))
        time.sleep(dice.random() ** 2)
        if process.poll() is not None:
            self.told.append(f"ended by itself with {process.returncode}: {open(process.log_path).read()[-400:]}")
        else:
            router.kill(process)
        return None

    def outage(self):
        """One PSP fails for a while: its segments have to step down, and up again later."""
        self.traffic.down = None if self.traffic.down else self.dice.choice(("mit", "worldpay"))

    def violations(self):
        return self.told + checker.violations(self.router, self.traffic)


def cycles(make_router, seed, points):
    run = Run(make_router, seed)
    for number, point in enumerate(points):
        if number % 5 == 4:
            run.outage()
        run.cycle(point)
    return run.violations()


def at_every_failpoint(make_router, seed):
    points = list(POINTS)
    random.Random(seed).shuffle(points)
    return cycles(make_router, seed, points)


def at_random_moments(make_router, seed):
    return cycles(make_router, seed, ["random"] * 10)


CASES = {"kill_at_every_failpoint": at_every_failpoint, "kill_at_random_moments": at_random_moments}
