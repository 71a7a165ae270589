"""Faults of the way between a router and its broker, for each API that it needs, while payments flow.

A case is one router behind `proxy`. It goes through the faults of one API one after the other; each has to strike, then it ends, and the
router has to come back by itself within RECOVERY_S: ready, with every request decided. After the last one the checker looks at all that
was written. A router that is told that somebody else has its name (FENCING) may end, saying so; it is started again, as a supervisor
would. Which request is struck comes of the seed.
"""
import pathlib
import random
import time

import checker
from answers import Answers
from proxy import Fault, Proxy
from traffic import Traffic

# A commit that has no end is given up after half the transaction time-out, a member that is silent after the session time-out.
SETTINGS = {"SMARTROUTER__KAFKA__TRANSACTION_TIMEOUT_MS": "10000"}
RECOVERY_S = 45
STRIKE_S = 60
BURST_MAX = 12
DELAY_S = 4.0
FENCING = {"INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "FENCED_INSTANCE_ID"}
# Said again of a record that is alone in its transaction, it would go to the dead letters, and rightly so.
ONCE = FENCING | {"MESSAGE_TOO_LARGE"}
# What a broker may answer. Errors that say for good that we may not, or that there is no such topic, are not among them.
REFUSALS = {
    "AddPartitionsToTxn": ("CONCURRENT_TRANSACTIONS", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "INVALID_TXN_STATE",
                           "INVALID_PRODUCER_ID_MAPPING", "INVALID_PRODUCER_EPOCH"),
    "AddOffsetsToTxn": ("CONCURRENT_TRANSACTIONS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH"),
    "TxnOffsetCommit": ("COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT", "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION",
                        "REBALANCE_IN_PROGRESS", "FENCED_INSTANCE_ID", "INVALID_PRODUCER_EPOCH"),
    "EndTxn": ("CONCURRENT_TRANSACTIONS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH",
               "PRODUCER_FENCED"),
    "Produce": ("NOT_LEADER_OR_FOLLOWER", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "KAFKA_STORAGE_ERROR", "UNKNOWN_PRODUCER_ID",
                "OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_ID_MAPPING", "INVALID_TXN_STATE", "MESSAGE_TOO_LARGE",
                "INVALID_PRODUCER_EPOCH"),
    "InitProducerId": ("CONCURRENT_TRANSACTIONS", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"),
    "Fetch": ("NOT_LEADER_OR_FOLLOWER", "OFFSET_OUT_OF_RANGE", "KAFKA_STORAGE_ERROR", "UNKNOWN_SERVER_ERROR", "UNKNOWN_TOPIC_ID"),
    "JoinGroup": ("COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"),
    "SyncGroup": ("REBALANCE_IN_PROGRESS", "NOT_COORDINATOR", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"),
    "Heartbeat": ("REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "NOT_COORDINATOR", "FENCED_INSTANCE_ID"),
    "Metadata": ("LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PARTITION"),
    "FindCoordinator": ("COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS"),
}
# The broker did it, and says that it did not.
LIES = {
    "AddPartitionsToTxn": ("CONCURRENT_TRANSACTIONS", "NOT_COORDINATOR"),
    "AddOffsetsToTxn": ("COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"),
    "TxnOffsetCommit": ("REQUEST_TIMED_OUT", "NOT_COORDINATOR"),
    "EndTxn": ("CONCURRENT_TRANSACTIONS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "INVALID_TXN_STATE", "INVALID_PRODUCER_EPOCH"),
    "Produce": ("REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "NOT_LEADER_OR_FOLLOWER"),
    "InitProducerId": ("NOT_COORDINATOR",),
}
# These are asked when a process begins, or when it begins again.
AT_START = {"InitProducerId", "JoinGroup", "SyncGroup", "Metadata", "FindCoordinator"}


class Run:
    def __init__(self, make_router, seed):
        self.dice, self.router, self.told = random.Random(seed), make_router(), []
        self.traffic = Traffic(self.router, seed)
        self.proxy = Proxy(self.router.bootstrap, seed)
        self.process, self.slowest = None, ("", 0.0)
        self.start()
        self.answers = Answers(self.router, self.traffic)

    def start(self, wait=True):
        self.process = self.router.start(bootstrap=self.proxy.bootstrap, env=SETTINGS, wait=wait)

    def restart(self):
        """Without a farewell, as a crash: an orderly stop would need the API that is struck."""
        self.router.kill(self.process)
        self.start(wait=False)

    def words(self, start=-2_000):
        return pathlib.Path(self.process.log_path).read_text()[start:]

    def fault(self, name, fault):
        """Strikes with it, ends it, and sees the router come back."""
        struck = lambda: self.proxy.strikes[(fault.kind, fault.api, fault.error)]
        before, wanted, begun = struck(), fault.times, time.time()
        self.proxy.set(fault)
        if fault.api in AT_START:
            self.restart()
        # A burst that the router rightly gives up on is over with its first strike.
        while struck() < before + wanted and time.time() - begun < STRIKE_S:
            self.pay()
            if struck() > before and time.time() - begun > STRIKE_S / 4:
                break
            if self.process.poll() is not None:
                break
        self.proxy.end_faults()
        if struck() == before:
            self.told.append(f"{name}: the fault never struck")
        self.recover(name, fault.error in FENCING)

    def outage(self, name, begin, seconds):
        """Faults of the whole way."""
        begin()
        begun = time.time()
        while time.time() - begun < seconds:
            self.pay()
        self.proxy.end_faults()
        self.recover(name, False)

    def pay(self):
        self.traffic.burst(2)
        time.sleep(0.2)

    def recover(self, name, may_end):
        begun = time.time()
        self.traffic.burst(2)
        while not self.is_well():
            if self.process.poll() is not None:
                words = self.words()
                if not (may_end and "fenced" in words.lower()):
                    self.told.append(f"{name}: the router ended with {self.process.returncode}: {words[-600:]}")
                self.start(wait=False)
                may_end = False
            if time.time() - begun > RECOVERY_S:
                status = self.router.get(self.process, "/readyz")
                self.told.append(f"{name}: not back within {RECOVERY_S} s: readyz {status}, {self.answers.count()} of {len(self.traffic.requests)} decided: {self.words()}")
                # The faults that follow need a router that works.
                self.restart()
                return
            self.pay()
        self.slowest = max(self.slowest, (name, time.time() - begun), key=lambda it: it[1])
        print(f"     {name}: back after {time.time() - begun:.1f} s", flush=True)

    def is_well(self):
        return self.router.get(self.process, "/readyz")[0] == 200 and self.answers.complete()

    def violations(self):
        self.answers.close()
        try:
            return self.told + checker.violations(self.router, self.traffic)
        finally:
            self.proxy.close()


def faults_of(api, dice):
    skip = lambda: 0 if api in AT_START else dice.randrange(6)
    for kind in ("lose_reply", "lose", "black_hole", "cut_before", "cut_after", "delay_reply"):
        # Two clients fetch, and one that waits for a lost answer does not ask again: both are struck.
        once = 2 if api == "Fetch" else 1
        yield Fault(kind, api, skip=skip(), times=once if kind in ("lose_reply", "lose", "black_hole") else 3, seconds=DELAY_S)
    for error in REFUSALS[api]:
        yield Fault("refuse", api, error, skip=skip(), times=1 if error in ONCE else dice.randint(1, BURST_MAX))
    for error in LIES.get(api, ()):
        yield Fault("belie", api, error, skip=skip())


def of(api):
    def case(make_router, seed):
        run = Run(make_router, seed)
        for fault in faults_of(api, random.Random(seed)):
            run.fault(f"{fault.kind} {api} {fault.error}".strip(), fault)
        return run.violations()

    return case


def outages(make_router, seed):
    run = Run(make_router, seed)
    for seconds in (1, 3, 14):
        run.outage(f"cut for {seconds} s", run.proxy.cut, seconds)
        run.outage(f"silent for {seconds} s", run.proxy.silence, seconds)
    return run.violations()


def often(make_router, seed):
    """A bad network: every API is struck now and then, for a minute."""
    run = Run(make_router, seed)
    run.proxy.set(*(Fault(kind, api, chance=0.004 if api == "Fetch" else 0.03) for api in REFUSALS for kind in ("lose_reply", "cut_before", "cut_after")))
    begun = time.time()
    while time.time() - begun < 60:
        run.pay()
        if run.process.poll() is not None:
            run.told.append(f"the router ended with {run.process.returncode}: {run.words()}")
            break
    run.proxy.end_faults()
    run.recover("a bad network", False)
    return run.violations()


def in_short(make_router, seed):
    """One of each that matters most: results that nobody knows."""
    run = Run(make_router, seed)
    for kind, api, error in (("lose_reply", "EndTxn", ""), ("cut_after", "EndTxn", ""), ("cut_after", "TxnOffsetCommit", ""), ("cut_after", "Produce", ""),
                             ("belie", "EndTxn", "NOT_COORDINATOR"), ("refuse", "AddPartitionsToTxn", "CONCURRENT_TRANSACTIONS"),
                             ("refuse", "TxnOffsetCommit", "ILLEGAL_GENERATION"), ("cut_before", "Fetch", ""), ("lose_reply", "JoinGroup", "")):
        times = run.dice.randint(2, BURST_MAX) if kind == "refuse" else 1
        skip = 0 if api in AT_START else run.dice.randrange(6)
        run.fault(f"{kind} {api} {error}".strip(), Fault(kind, api, error, skip=skip, times=times))
    run.outage("cut for 1 s", run.proxy.cut, 1)
    run.outage("silent for 1 s", run.proxy.silence, 1)
    return run.violations()


def snake(api):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in api)


SHORT = {"network_in_short": in_short}
CASES = SHORT | {f"network{snake(api)}": of(api) for api in REFUSALS} | {"network_outages": outages, "network_often": often}
