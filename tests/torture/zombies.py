"""Processes that sleep, come back, share a name, come and go; and a broker that dies. Payments flow all the while.

A process that is stopped by a signal knows nothing of it: when it goes on, it holds work that others have done in the meantime. Every
case ends with the checker. Stopped processes are always let go on, so that none is left behind.
"""
import os
import pathlib
import random
import signal
import subprocess
import time

import checker
from confluent_kafka import Producer
from answers import Answers
from proxy import Fault, Proxy
from router import PROJECT
from traffic import DEADLINE_MS, Traffic

SESSION_S = 6
TXN_S = 10
SETTINGS = {"SMARTROUTER__KAFKA__TRANSACTION_TIMEOUT_MS": str(TXN_S * 1000)}
BACK_S = 60


class Group:
    """Instances of one router, by name; where there is a proxy, only "one" is behind it."""

    def __init__(self, make_router, seed, bootstrap=None, behind_proxy=False):
        self.dice, self.router, self.told = random.Random(seed), make_router(bootstrap), []
        self.traffic, self.members = Traffic(self.router, seed), {}
        self.proxy = Proxy(self.router.bootstrap, seed) if behind_proxy else None
        self.answers = Answers(self.router, self.traffic)

    def start(self, name, wait=True, state=None, env={}):
        via = self.proxy.bootstrap if self.proxy and name == "one" else None
        self.members[name] = self.router.start(name, bootstrap=via, state=state, env=SETTINGS | env, wait=wait)
        return self.members[name]

    def freeze(self, name):
        os.kill(self.members[name].pid, signal.SIGSTOP)

    def thaw(self, name):
        os.kill(self.members[name].pid, signal.SIGCONT)

    def pay(self, seconds):
        begun = time.time()
        while True:
            self.traffic.burst(2)
            if time.time() - begun >= seconds:
                return
            time.sleep(0.1)

    def ready(self, name):
        return self.router.get(self.members[name], "/readyz")[0] == 200

    def back(self, what, patience=BACK_S):
        """Everybody is ready and everything is answered; who ended is named."""
        self.traffic.burst(2)
        begun = time.time()
        while not (all(map(self.ready, self.members)) and self.answers.complete()):
            for name, process in list(self.members.items()):
                if process.poll() is not None:
                    self.told.append(f"{what}: {name} ended with {process.returncode}: {words(process)}")
                    self.start(name, wait=False)
            if time.time() - begun > patience:
                states = {name: self.router.get(process, "/readyz") for name, process in self.members.items()}
                self.told.append(f"{what}: not back within {patience} s: {states}")
                return
            self.pay(0.5)
        print(f"     {what}: back after {time.time() - begun:.1f} s", flush=True)

    def violations(self):
        self.answers.close()
        for process in self.members.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        try:
            return self.told + checker.violations(self.router, self.traffic)
        finally:
            if self.proxy:
                self.proxy.close()


def words(process, since=0):
    return pathlib.Path(process.log_path).read_text()[since:][-1_500:]


def asleep(make_router, seed, rounds):
    """One sleeps past its session, another takes over, the first wakes up."""
    group = Group(make_router, seed)
    group.start("one")
    group.start("two")
    for number in range(rounds):
        sleeper = group.dice.choice(("one", "two"))
        group.pay(0.3 + group.dice.random())
        since = os.path.getsize(group.members[sleeper].log_path)
        group.freeze(sleeper)
        group.pay(SESSION_S + 2 + 4 * group.dice.random())
        # All partitions are the other's: what comes now is answered without the sleeper.
        begun = time.time()
        while not group.answers.complete() and time.time() - begun < BACK_S:
            group.pay(0.5)
        if not group.answers.complete():
            group.told.append(f"round {number}: nobody took over from {sleeper} within {BACK_S} s")
        group.thaw(sleeper)
        group.back(f"round {number}: {sleeper} woke up")
        if '"revoked"' not in words(group.members[sleeper], since):
            group.told.append(f"round {number}: {sleeper} was not told that its partitions were gone: {words(group.members[sleeper], since)}")
    return group.violations()


def asleep_in_a_commit(make_router, seed, moments):
    """The same, at the very moment of a request of its commit; the request arrives at once, or late, or never."""
    group = Group(make_router, seed, behind_proxy=True)
    group.start("one")
    group.start("two")
    for api, kind, seconds in moments:
        frozen_within(group, api, kind, seconds)
    return group.violations()


def frozen_within(group, api, kind, seconds, work=None, skip_below=8):
    """`work`: what is done until the moment comes; payments, when nothing is said. Fewer requests than `skip_below` go through before."""
    work = work or (lambda: group.pay(0.1))
    what = f"asleep at {api}, which " + {"pass": "arrives at once", "lose": "never arrives"}.get(kind, f"arrives {seconds} s late")
    struck = []

    def freeze():
        struck.append(True)
        group.freeze("one")

    group.proxy.set(Fault(kind, api, skip=group.dice.randrange(skip_below), seconds=seconds, then=freeze))
    begun = time.time()
    while not struck and time.time() - begun < BACK_S:
        work()
    begun = time.time()
    while time.time() - begun < max(SESSION_S + 2, seconds + 1):
        work()
    group.proxy.end_faults()
    if not struck:
        group.told.append(f"{what}: the fault never struck")
    group.thaw("one")
    group.back(what)


def silence_of_a_zombie(make_router, seed):
    """Work that silence alone makes, time-outs and windows that move on, is fenced like any other: the commit of a sleeper arrives when
    others have its partitions."""
    group = Group(make_router, seed, behind_proxy=True)
    group.start("one")
    group.start("two")
    group.traffic.burst(60)
    group.back("before the silence")
    time.sleep(3)
    # Silence commits now and then only.
    frozen_within(group, "TxnOffsetCommit", "hold", SESSION_S + 2, work=lambda: time.sleep(0.1), skip_below=3)
    return group.violations()


def asleep_longer_than_a_deadline(make_router, seed):
    """The wall's time jumps for a process that sleeps. Outcomes that were written meanwhile are no time-outs."""
    group = Group(make_router, seed)
    # It keeps its place in the group: this is about time alone.
    group.start("one", env={"SMARTROUTER__KAFKA__SESSION_TIMEOUT_MS": "120000"})
    group.back("before the sleep")
    traffic, held = group.traffic, []
    send = traffic.send
    traffic.send = lambda topic, *rest, **how: held.append((topic, rest, how)) if topic == "payment.outcomes" else send(topic, *rest, **how)
    traffic.burst(40)
    traffic.send = send
    # Taken in and waiting for their outcomes.
    group.back("attempts alone")
    group.freeze("one")
    time.sleep(DEADLINE_MS / 1000 + 15)
    for topic, rest, how in held:
        traffic.send(topic, *rest, **how)
    traffic.flush()
    group.thaw("one")
    group.back("slept longer than a deadline")
    return group.violations()


def of_the_same_name(make_router, seed):
    """A second process with the first one's name: the first is fenced, says so and ends; whether it has work to do or not."""
    group = Group(make_router, seed)
    for number, is_busy in enumerate((True, False)):
        first = group.start("one", state=group.router.dir / f"first-{number}")
        group.pay(1)
        second = group.start("one", wait=False, state=group.router.dir / f"second-{number}")
        begun = time.time()
        while first.poll() is None and time.time() - begun < BACK_S:
            group.pay(0.1) if is_busy else time.sleep(0.1)
        told = words(first)
        if first.poll() != 1 or "fenced" not in told or "one" not in told:
            group.told.append(f"the first of two of one name ended with {first.poll()} (busy: {is_busy}): {told}")
        group.back(f"a second process of the same name (busy: {is_busy})")
        if group.members["one"] is not second:
            group.told.append("the second of two of one name did not stay")
        status = group.router.stop(group.members["one"])
        if status != 0:
            group.told.append(f"the second of two of one name stopped with {status}")
    return group.violations()


def open_transaction(make_router, seed):
    """A transaction that nobody ends, in a topic that is only written to: it is named, nothing is built on it, and work goes on once it has
    ended."""
    group = Group(make_router, seed)
    router = group.router
    topic = router.prefix + "routing.decisions"
    somebody = Producer({"bootstrap.servers": router.bootstrap, "transactional.id": router.prefix + "somebody", "transaction.timeout.ms": 300_000})
    somebody.init_transactions(30)
    somebody.begin_transaction()
    somebody.produce(topic, partition=1, key=b"never", value=b"committed")
    somebody.flush(30)
    process = group.start("one", wait=False)
    named = f"abort --topic {topic} --partition 1 --start-offset 0"
    begun = time.time()
    while named not in router.get(process, "/readyz")[1]:
        if group.ready("one") or group.answers.count() or time.time() - begun > BACK_S:
            group.told.append(f"it did not wait for an open transaction, or did not say so: {router.get(process, '/readyz')}")
            break
        group.pay(0.5)
    somebody.abort_transaction(30)
    group.back("the transaction has ended")
    return group.violations()


def coming_and_going(make_router, seed, times):
    """Instances start, stop, die and sleep; "one" stays."""
    group = Group(make_router, seed)
    group.start("one")
    dice, sleeping = group.dice, set()
    for _ in range(times):
        others = [name for name, process in group.members.items() if name != "one" and process.poll() is None]
        step = dice.choice(("start", "stop", "kill", "sleep")) if others else "start"
        name = dice.choice(others) if step != "start" else f"other-{dice.randrange(3)}"
        if step == "start" and name not in others:
            group.start(name, wait=dice.random() < 0.5)
        elif step == "sleep" and name not in sleeping:
            group.freeze(name)
            sleeping.add(name)
        elif name in sleeping:
            group.thaw(name)
            sleeping.discard(name)
        elif step == "kill":
            group.router.kill(group.members.pop(name))
        elif step == "stop":
            process = group.members.pop(name)
            status = group.router.stop(process)
            # One that was not there yet could not hear it, and had taken nothing.
            unheard = status == -signal.SIGTERM and words(process, process.log_from) == ""
            if status != 0 and not unheard:
                group.told.append(f"{name} was told to stop and ended with {status}: {words(process)}")
        group.pay(2 * dice.random())
    for name in sleeping:
        group.thaw(name)
    group.back(f"members came and went {times} times")
    return group.violations()


WAITS_FOR_A_LEADER = "4.0.1"


class Broker:
    """One of this test's own, from the project's script."""

    def __init__(self, version):
        self.port = os.environ.get("SMARTROUTER_TEST_KAFKA_RESTART_PORT", "19396")
        self.version = version
        self.start()

    def script(self, *words):
        environment = {key: value for key, value in os.environ.items() if key != "KAFKA_BOOTSTRAP"}
        environment["SMARTROUTER_KAFKA_VERSION"] = self.version
        return subprocess.run([PROJECT / "scripts" / "kafka" / "kafka.sh", *words, self.port], env=environment, check=True, capture_output=True, text=True).stdout

    def start(self):
        self.bootstrap = self.script("start").splitlines()[-1]

    def kill(self):
        home = pathlib.Path(os.environ.get("SMARTROUTER_KAFKA_DIR") or
                            pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "smartrouter" / "kafka")
        pid = int((home / self.port / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while pathlib.Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def close(self):
        self.script("stop", "--clean")


def broker_killed(make_router, seed, times):
    """The broker dies and comes back. What was acknowledged is in the page cache, so nothing may be lost.

    Kafka 4.1 to 4.4 at least do not tell a partition without a leader how a transaction has ended, and a broker that has just come up has
    such partitions: records of a committed transaction stay hidden there for ever. No client can mend that, so this is shown on the last
    version that waits for a leader; `hanging_transaction` shows that the router does not build on one that hangs."""
    broker = Broker(WAITS_FOR_A_LEADER)
    try:
        group = Group(make_router, seed, bootstrap=broker.bootstrap)
        group.start("one")
        for number in range(times):
            group.pay(0.5 + group.dice.random())
            broker.kill()
            time.sleep(3 * group.dice.random())
            broker.start()
            group.back(f"the broker was killed and started, {number + 1}", patience=240)
        return group.violations()
    finally:
        broker.close()


MOMENTS = [(api, kind, seconds) for api in ("Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn")
           for kind, seconds in (("pass", 0), ("hold", SESSION_S + 1), ("hold", TXN_S + 3), ("lose", 0))]
SHORT = {
    "zombies_asleep_in_a_commit_in_short": lambda make, seed: asleep_in_a_commit(make, seed, [("EndTxn", "hold", SESSION_S + 1)]),
    "hanging_transaction": open_transaction,
    "zombies_coming_and_going_in_short": lambda make, seed: coming_and_going(make, seed, 4),
}
CASES = SHORT | {
    "zombies_asleep": lambda make, seed: asleep(make, seed, 6),
    "zombies_asleep_in_a_commit": lambda make, seed: asleep_in_a_commit(make, seed, MOMENTS),
    "zombies_silence": silence_of_a_zombie,
    "zombies_asleep_longer_than_a_deadline": asleep_longer_than_a_deadline,
    "zombies_of_the_same_name": of_the_same_name,
    "zombies_coming_and_going": lambda make, seed: coming_and_going(make, seed, 100),
    "zombies_broker_killed": lambda make, seed: broker_killed(make, seed, 5),
}
