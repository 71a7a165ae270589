"""A task that panics, and no record is at fault: it rests and comes back, and the others go on.

Such a panic comes of what a task does by itself, here of its sweep; the work of all tasks of the thread that is not committed goes with it.
"""
import collections
import json
import pathlib
import re
import time

import checker
from traffic import Traffic

# Each rest is twice as long as the one before: the last one, of sixteen seconds, is long enough to look around on a busy machine.
PARTITION, PANICS = 1, 5
TASK = f"payments-{PARTITION}"
WAIT_S = 120
# In the message of the panic, as data may be in one.
SECRET = "secret-4711"


def whole(tail):
    """All records: a pass that brings nothing more is the last one."""
    count = -1
    while len(tail.records) != count:
        count = len(tail.records)
        tail.catch_up()
    return tail.records


class Watch:
    """What is seen of the task from outside."""

    def __init__(self, router, process):
        self.router, self.process = router, process
        self.requests, self.decisions = checker.Tail(router, "routing.requests", raw=True), checker.Tail(router, "routing.decisions")
        self.seen, self.told, self.answered = collections.Counter(), [], 0

    def state(self):
        """Of the task, as /livez tells it; the process has to be live whatever it is."""
        status, body = self.router.get(self.process, "/livez")
        report = json.loads(body)
        if status != 200 or not report["live"]:
            self.told.append(f"/livez is {status} while a task rests: {body}")
        tasks = {name: task for group in report["groups"].values() for name, task in group.items()}
        task = tasks.get(TASK, {"state": "absent"})
        if task["state"] == "failed":
            self.seen["failed"] += 1
            if "panicked" not in task["reason"] or not any(TASK in reason for reason in report["reasons"]):
                self.told.append(f"/livez does not say why {TASK} rests: {body}")
        return task["state"]

    def metric(self, name, *labels):
        _, body = self.router.get(self.process, "/metrics")
        lines = [line for line in body.splitlines() if line.startswith(name + "{") and all(label in line for label in labels)]
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0

    def panics(self):
        return self.metric("smartrouter_panics_total", f'task="{TASK}"')

    def counts(self):
        """Decisions by the partition of the requests of their key: the sender of these has another partitioner than we have."""
        decided = whole(self.decisions)
        partitions = {message.key(): message.partition() for message, _ in whole(self.requests)}
        return collections.Counter(partitions[message.key()] for message, _ in decided)

    def close(self):
        self.requests.close()
        self.decisions.close()

    def rest(self, traffic):
        """While it rests, requests to other partitions are answered, and those to its own wait."""
        panics, before = self.panics(), self.counts()
        if self.state() != "failed":
            return
        self.seen["resting"] += self.metric("smartrouter_partitions", 'state="resting"') == 1
        traffic.burst(8)
        answered = 0
        while not answered:
            after = self.counts()
            if self.state() != "failed" or self.panics() != panics:
                # It has been at work in between.
                return
            if after[PARTITION] != before[PARTITION]:
                self.told.append(f"{TASK} answers although it rests")
            answered = sum(count - before[at] for at, count in after.items() if at != PARTITION)
        self.answered += answered


def resting(make_router, seed):
    router = make_router()
    traffic = Traffic(router, seed)
    process = router.start(env={"SMARTROUTER_PANIC": f"sweep-of-{TASK}=..{PANICS}"}, wait=False)
    router.until(lambda: router.get(process, "/livez")[0] == 200, "it lives", process)
    watch, deadline = Watch(router, process), time.time() + WAIT_S
    while not (watch.panics() == PANICS and watch.state() == "running"):
        if process.poll() is not None or time.time() > deadline:
            return watch.told + [f"{watch.panics()} panics, {TASK} is not back; exit status {process.poll()}: {dict(watch.seen)}"]
        traffic.burst(3)
        if watch.state() == "failed":
            watch.rest(traffic)
        time.sleep(0.05)
    watch.close()
    router.until(lambda: router.get(process, "/readyz")[0] == 200, "it is ready again", process)
    told = watch.told
    for what in ("failed", "resting"):
        told += [] if watch.seen[what] else [f"nobody was told that {TASK} rested: {dict(watch.seen)}"]
    told += [] if watch.answered else ["the other tasks answered nothing meanwhile"]
    return told + reports(router, process) + checker.violations(router, traffic)


def reports(router, process):
    """One crash report for each panic; neither they nor the log show the panic's message."""
    log = pathlib.Path(process.log_path).read_text()
    crashes = sorted((router.dir / "one" / "crashes").glob("*.txt"))
    told = [] if len(crashes) == PANICS else [f"{len(crashes)} crash reports for {PANICS} panics"]
    for crash in crashes:
        text = crash.read_text()
        if not re.search(r"^at +\S+\.rs:\d+", text, re.M) or SECRET in text:
            told.append(f"a crash report without a place, or with the message: {text[:400]}")
        if str(crash) not in log:
            told.append(f"the log does not name {crash}")
    if SECRET in log:
        told.append(f"the log holds the message of a panic: {next(line for line in log.splitlines() if SECRET in line)}")
    return told


CASES = {"resting_task": resting}
