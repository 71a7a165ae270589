"""Whether a router's work is exactly once: what it wrote against what was sent.

`violations(router, traffic)` lets the deadlines of the traffic pass, waits until the router has come to the end, stops it and looks at
everything that it left: output topics (read_committed), committed offsets, dead letters, local state, and the state that a restore
from the changelogs makes of nothing. It returns sentences; none means that nothing was lost, doubled or invented. It never kills a
running process and never changes a topic.
"""
import collections
import json
import pathlib
import shutil
import time

import reference
from confluent_kafka import Consumer, KafkaError, TopicPartition
from router import decode
from traffic import INPUTS

SHOWN_MAX = 4
WAIT_S = 120


class Tail:
    """The committed records of a topic, followed from its start."""

    def __init__(self, router, base, raw=False):
        self.base, self.raw, self.records = base, raw, []
        self.consumer = Consumer({"bootstrap.servers": router.bootstrap, "group.id": "torture-reader", "isolation.level": "read_committed",
                                  "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
        name = router.prefix + base
        self.partitions = list(self.consumer.list_topics(name, timeout=20).topics[name].partitions)
        self.consumer.assign([TopicPartition(name, partition, 0) for partition in self.partitions])
        self.open, self.ended = set(self.partitions), set()

    def catch_up(self, seconds=60):
        """All records up to the present end: [(message, record)]."""
        self.open = set(self.partitions)
        deadline, quiet = time.time() + seconds, time.time()
        while self.open and time.time() < deadline:
            message = self.consumer.poll(0.2)
            if message is None:
                # An end that was told before is not told again while nothing arrives.
                if time.time() - quiet > 0.5 and self.open <= self.ended:
                    break
                continue
            quiet = time.time()
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    self.open.discard(message.partition())
                    self.ended.add(message.partition())
                continue
            value = message.value()
            self.records.append((message, value if self.raw or value is None else decode(self.base, value)))
        return self.records

    def close(self):
        self.consumer.close()


def read(router, base, raw=False):
    tail = Tail(router, base, raw)
    try:
        return tail.catch_up()
    finally:
        tail.close()


def some(things):
    things = sorted(things, key=str)
    return ", ".join(map(str, things[:SHOWN_MAX])) + (f" and {len(things) - SHOWN_MAX} more" if len(things) > SHOWN_MAX else "")


def once(name, found, expected):
    """Each expected id once, and no other."""
    counted = collections.Counter(found)
    told = []
    for what, ids in (("missing", set(expected) - set(counted)), ("not asked for", set(counted) - set(expected)),
                      ("more than once", {key for key, count in counted.items() if count > 1})):
        if ids:
            told.append(f"{name}: {len(ids)} {what}: {some(ids)}")
    return told


# Waiting.

def newest_states(records):
    newest = {}
    for _, state in records:
        newest[(state["psp_id"], state["segment"]["kind"], state["segment"]["value"])] = state
    return newest


def await_(holds, seconds):
    deadline = time.time() + seconds
    while not holds():
        if time.time() > deadline:
            return False
        time.sleep(0.1)
    return True


def settle(router, traffic, patience):
    """Lets every deadline pass and waits for what comes of it. What does not come in time, the checks will name."""
    states, told = Tail(router, "psp.states"), []
    try:
        traffic.flush()
        traffic.let_deadlines_pass()

        def counted():
            expected = {key: len(results) for key, results in reference.results(traffic).items()}
            newest = newest_states(states.catch_up())
            return all(key in newest and newest[key]["windows"]["last_24h"]["attempts"] >= count for key, count in expected.items())

        if not await_(counted, patience):
            told.append(f"the windows did not come to their expected totals within {patience} s")
        traffic.send_late_outcomes()
        if not await_(counted, patience):
            told.append(f"the windows did not come to their expected totals within {patience} s of the end")
        if not await_(lambda: all(row["lag"] == 0 for row in router.json("lag")), patience):
            told.append(f"the group did not come to the end of its inputs within {patience} s")
    finally:
        states.close()
    return told


# Checks: each a function of the router and the traffic, to be run when no process works any more.

def decisions(router, traffic):
    decided = [record for _, record in read(router, "routing.decisions")]
    told = once("decisions", [record["request_id"] for record in decided], traffic.requests)
    for record in decided:
        payment = traffic.requests.get(record["request_id"])
        if payment and (payment["card"]["brand"] == "AMEX") != ([ranked["psp_id"] for ranked in record["ranked"]] == ["amex"]):
            told.append(f"decisions: {record['request_id']} ranks {[ranked['psp_id'] for ranked in record['ranked']]}")
    predictions = [record for _, record in read(router, "athia.predictions")]
    told += once("predictions", [record["decision_id"] for record in predictions], [record["decision_id"] for record in decided])
    by_request = {record["request_id"]: record["decision_id"] for record in decided}
    told += [f"predictions: {record['request_id']} names another decision" for record in predictions
             if by_request.get(record["request_id"]) != record["decision_id"]][:SHOWN_MAX]
    return told


def feedback(router, traffic):
    records = [record for _, record in read(router, "athia.feedback")]
    told = once("feedback", [record["attempt_id"] for record in records], traffic.attempts)
    wrong = []
    for record in records:
        attempt = traffic.attempts.get(record["attempt_id"])
        if attempt is None:
            continue
        expected = (*reference.feedback(attempt), attempt["psp"], attempt["payment"]["payment_id"])
        found = (record["status"], record["timed_out"], record["psp_id"], record["payment_id"])
        if found != expected:
            wrong.append(f"{record['attempt_id']} ({attempt['kind']}) says {found}, not {expected}")
        amount = None if attempt["kind"] == "orphan" else attempt["payment"]["amount_minor"]
        if record["amount_minor"] != amount or record["approved"] != (expected[0] == "APPROVED") or (record["approved"] and not record["final_approved"]):
            wrong.append(f"{record['attempt_id']}: amount or approval")
    if wrong:
        told.append(f"feedback: {len(wrong)} wrong: {some(wrong)}")
    return told


def windows(router, traffic):
    newest = newest_states(read(router, "psp.states"))
    expected, told = reference.results(traffic), []
    told += once("psp.states", list(newest), expected)
    for key in sorted(set(newest) & set(expected)):
        state = newest[key]
        for name, figures in state["windows"].items():
            truth = reference.window(expected[key], name, millis(state["updated_at"]))
            found = {figure: figures[figure] for figure in reference.FIGURES}
            if found != truth:
                wrong = {figure: f"{found[figure]} for {truth[figure]}" for figure in truth if found[figure] != truth[figure]}
                told.append(f"windows: {'/'.join(key)} {name}: {wrong}")
    return told[:12]


def replay(router, traffic):
    """The windows of the router under fire are those of an engine that was left in peace."""
    expected, told = reference.replayed(router, traffic), []
    for key, state in newest_states(read(router, "psp.states")).items():
        found = state["windows"]["last_24h"]
        if key[1] != "ALL" and found != expected.get(key):
            told.append(f"replay: {'/'.join(key)} has {found}, a replay of the same events {expected.get(key)}")
    return told[:SHOWN_MAX]


def millis(at):
    return at if isinstance(at, int) else round(at.timestamp() * 1000)


def transitions(router, traffic):
    """Steps of a segment follow each other, and its state counts as many."""
    at, steps, told = {}, collections.Counter(), []
    for message, record in read(router, "psp.outages"):
        key = (record["psp_id"], record["segment"]["kind"], record["segment"]["value"])
        step = (record["from"], record["to"])
        if step[0] != at.get(key, "UP") or step not in reference.LEGAL:
            told.append(f"transitions: {'/'.join(key)} steps from {step[0]} to {step[1]}, having been {at.get(key, 'UP')} (offset {message.offset()})")
        at[key] = step[1]
        steps[key] += 1
    for key, state in newest_states(read(router, "psp.states")).items():
        if state["state"] != at.get(key, "UP") or state["version"] != steps[key]:
            told.append(f"transitions: {'/'.join(key)} is {state['state']} after {state['version']} steps, {steps[key]} steps to {at.get(key, 'UP')} were told")
    return told[:12]


def dead_letters(router, traffic):
    found, told = [], []
    for topic in INPUTS:
        for message, _ in read(router, f"{topic}.dlq", raw=True):
            headers = dict(message.headers() or ())
            source = headers["dlq-source-topic"].decode()
            if source != router.prefix + topic or not headers["dlq-reason"]:
                told.append(f"dead letters: one of {source} in {topic}.dlq")
            found.append((topic, int(headers["dlq-source-partition"]), int(headers["dlq-source-offset"])))
    if len(traffic.bad) != traffic.bad_wanted:
        told.append(f"the test knows the places of {len(traffic.bad)} of its {traffic.bad_wanted} bad records")
    return told + once("dead letters", found, traffic.bad)


def offsets(router, traffic):
    consumer = Consumer({"bootstrap.servers": router.bootstrap, "group.id": router.prefix + "smartrouter"})
    try:
        places = [TopicPartition(router.prefix + topic, partition) for topic, partition in sorted(traffic.ends)]
        committed = {(it.topic[len(router.prefix):], it.partition): it.offset for it in consumer.committed(places, timeout=30)}
    finally:
        consumer.close()
    return [f"offsets: {topic}-{partition} is committed at {committed.get((topic, partition))}, its end is {end}"
            for (topic, partition), end in sorted(traffic.ends.items()) if committed.get((topic, partition)) != end]


CHECKS = (decisions, feedback, windows, replay, transitions, dead_letters, offsets)


# State.

def check_state(router, state):
    """The rows of `smartrouter state check` for a directory, and what they tell."""
    status, out, err = router.command("--output", "json", "state", "check", state=state)
    if status not in (0, 3):
        return [], [f"state check of {state.name}: status {status}: {err.strip()[-300:]}"]
    rows = json.loads(out.strip().splitlines()[-1])
    told = [f"state: {state.name}: {row['store']}-{row['partition']}: {row['difference']}" for row in rows if not row["equal"]]
    if (status == 3) != bool(told):
        told.append(f"state check of {state.name} ends with {status}, but says {told}")
    return rows, told


def states(router, directories):
    """Every shard is what its changelog says; and the changelogs alone make the same shards again."""
    newest, told = {}, []
    for state in directories:
        rows, wrong = check_state(router, state)
        told += wrong
        for row in rows:
            key = (row["store"], row["partition"])
            if key not in newest or row["changelog_offset"] > newest[key]["changelog_offset"]:
                newest[key] = row
    # Restored from nothing, by a process that dies before it goes on.
    again = router.dir / "again"
    shutil.rmtree(again, ignore_errors=True)
    # Under the name of the only instance that was: the group gives it all partitions at once.
    name = directories[0].name if len(directories) == 1 else "verifier"
    process = router.start(name, state=again, wait=False, env={"SMARTROUTER_FAILPOINT": "after-restore=1"})
    if not await_(lambda: process.poll() is not None, 60):
        router.kill(process)
        return told + ["state: a restore from nothing did not come to its end within 60 s"]
    rows, wrong = check_state(router, again)
    told += wrong
    restored = {(row["store"], row["partition"]): row for row in rows}
    for key, row in sorted(newest.items()):
        found = restored.get(key)
        if row["changelog_offset"] < row["changelog_end"]:
            # Another instance, or nobody, went on from here.
            continue
        if found is None or found["sha256"] != row["sha256"]:
            told.append(f"state: {key[0]}-{key[1]}: live {row['entries']} entries, {row['sha256'][:12]}; "
                        f"restored {found and found['entries']}, {found and found['sha256'][:12]}")
    if not set(restored) <= set(newest):
        told.append(f"state: restored shards that no instance has: {some(set(restored) - set(newest))}")
    return told


def running(router):
    return [process for process in router.processes if process.poll() is None]


def violations(router, traffic, patience=WAIT_S):
    """All that does not hold, as sentences. Ends the router's processes."""
    if not running(router):
        router.start()
    told = settle(router, traffic, patience)
    for process in running(router):
        status = router.stop(process)
        if status != 0:
            told.append(f"an orderly stop ended with {status}: {pathlib.Path(process.log_path).read_text()[-300:]}")
    for check in CHECKS:
        told += check(router, traffic)
    directories = [path.parent for path in sorted(router.dir.glob("*/store")) if path.parent.name not in ("again", "replayed")]
    return told + states(router, directories)

