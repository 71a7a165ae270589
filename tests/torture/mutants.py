"""The checker, checked: an engine with a deliberate mistake in it has to be reported.

Each case runs the torture of `kill.py` on a router that makes one mistake (`SMARTROUTER_BROKEN`), and finds a violation only when the
checker does not: when it says nothing, or not what the mistake does.
"""
import shutil
import time

import checker
from kill import Run

# The mistake, the failpoints at which the process dies with it, and how a sentence of the checker begins that tells of it.
MUTANTS = {
    # Every other transaction is the one with the outputs: at an even passing their offsets are committed and they are not.
    "offsets-before-outputs": (["before-commit=8", "before-commit=6", "before-produce=10"], ("decisions:", "feedback:", "windows")),
    "outputs-not-in-transaction": (["before-commit=4", "after-produce=7"], ("decisions: ", "feedback: ", "dead letters: ")),
    "restore-skips-a-record=%5": (["wiped", "before-commit=9"], ("state:",)),
    "timeout-counted-twice=2": ([], ("windows",)),
    # An answer takes what events did to its payment along, and not what came of them.
    "answers-not-apart": (["after-store-write=12", "before-produce=14", "after-store-write=16", "before-produce=18"], ("feedback:", "windows")),
    "delta-lost=3": ([], ("windows", "the windows")),
    "changelog-record-left-out=%7": ([], ("state:",)),
}
# Events have to wait while their payment is asked about.
ENVIRONMENTS = {"answers-not-apart": {"SMARTROUTER__RUNTIME__COMMIT_INTERVAL_MS": "1000"}}


def noticed(broken, make_router, seed):
    points, tells = MUTANTS[broken]
    run = Run(make_router, seed, env={"SMARTROUTER_BROKEN": broken} | ENVIRONMENTS.get(broken, {}))
    run.traffic.burst(60)
    for point in points:
        if point == "wiped":
            first = run.router.start(env=run.env)
            run.router.until(lambda: all(row["lag"] == 0 for row in run.router.json("lag")), "all is read", first)
            run.router.kill(first)
            shutil.rmtree(run.router.dir / "one")
            continue
        process = run.router.start(wait=False, env=run.env | {"SMARTROUTER_FAILPOINT": point})
        deadline = time.time() + 60
        while process.poll() is None and time.time() < deadline:
            run.traffic.burst(5, pause=0.03)
            time.sleep(0.1)
        if process.poll() is None:
            return [f"{broken}: {point} was not passed"]
    run.router.start(env=run.env)
    run.traffic.burst(60)
    found = checker.violations(run.router, run.traffic, patience=6)
    if not any(sentence.startswith(tells) for sentence in found):
        return [f"the checker does not notice {broken}: it says {found}"]
    return []


def case(broken):
    return lambda make_router, seed: noticed(broken, make_router, seed)


CASES = {f"mutant_{broken.split('=')[0].replace('-', '_')}": case(broken) for broken in MUTANTS}
