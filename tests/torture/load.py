"""More than the router can do, and for how long it may go on: memory, backlog, and how long an answer takes meanwhile.

A process of its own writes attempts with their outcomes, records that were encoded once and get new ids; this one sends requests at a
steady pace (open loop: the time counts from when a request was due) and reads their decisions, read_committed. What is slow is printed
and fails nothing; a case fails when the backlog does not drain, memory is beyond its bound, a time-out is invented, or a result is lost or
doubled: every attempt has its outcome, so the windows of each PSP say exactly what was sent.
"""
import collections
import multiprocessing
import os
import pathlib
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from router import decode, encode

from traffic import INPUTS, PSPS

# What a process may hold: fetched records (4 MB for each of 12 inputs), queues (5,000 records each), caches of entities and of RocksDB.
RSS_MB_MAX = 1_000
OVERLOAD = 2.0
REQUESTS_PER_S = 40
DRAIN_S = 300
CUSTOMERS = 5_000
KEY, PAYMENT, ATTEMPT = "c0000000", "p00000000", "a00000000"


def payment(payment_id, customer_id):
    return {"payment_id": payment_id, "order_id": "o", "merchant_id": "volaris", "customer_id": customer_id, "amount_minor": 150_00, "currency": "MXN",
            "card": {"bin": "411111", "brand": "VISA", "type": "CREDIT", "issuer_country": "MX"}, "method": "card",
            "message": {"initiator": "CUSTOMER", "avs_sent": False, "mcc": "4511"}}


def varint(at):
    value, out = at << 1, bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Form:
    """A record's bytes with places for what changes. All values of a place have one length, so nothing else moves."""

    def __init__(self, topic, record, at):
        whole = encode(topic, record)
        places = [(whole.find(text), length, name) for name, text, length in
                  (("payment", PAYMENT.encode(), 9), ("customer", KEY.encode(), 8), ("attempt", ATTEMPT.encode(), 9), ("at", varint(at), len(varint(at))))]
        assert all(place >= 0 and whole.count(whole[place:place + length]) == 1 for place, length, _ in places), topic
        self.form, last = b"", 0
        for place, length, name in sorted(places):
            self.form += whole[last:place].replace(b"%", b"%%") + b"%%(%s)b" % name.encode()
            last = place + length
        self.form += whole[last:].replace(b"%", b"%%")

    def fill(self, **values):
        return self.form % {name.encode(): value for name, value in values.items()}


def forms(psp, at):
    outcome = {"attempt_id": ATTEMPT, "payment_id": PAYMENT, "customer_id": KEY, "psp_id": psp, "status": "APPROVED", "latency_ms": 250, "occurred_at": at}
    attempt = {"payment": payment(PAYMENT, KEY), "attempt_id": ATTEMPT, "attempt_number": 1, "psp_id": psp, "attempted_at": at}
    return Form("payment.attempts", attempt, at), Form("payment.outcomes", outcome, at)


def write(bootstrap, prefix, rate, stop, sent):
    """Attempts with their outcomes, `rate` pairs a second while it is not told to stop; `sent`: pairs by PSP."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20, "batch.size": 500_000, "compression.type": "lz4",
                         "queue.buffering.max.messages": 200_000, "message.timeout.ms": 300_000})
    at = int(time.time() * 1000)
    by_psp = [forms(psp, at) for psp in PSPS]
    topics = [prefix + "payment.attempts", prefix + "payment.outcomes"]
    number, due, moved = 0, 0.0, time.time()
    while not stop.is_set():
        # Each stretch of time brings its share; what cannot be written in time is not owed for ever.
        due, moved = min(due + (time.time() - moved) * rate.value, number + rate.value), time.time()
        while number < due and not stop.is_set():
            customer, now = b"c%07d" % (number * 7919 % CUSTOMERS), int(time.time() * 1000)
            for topic, form, moment in zip(topics, by_psp[number % len(PSPS)], (now - 300, now)):
                value = form.fill(payment=b"p%08d" % number, customer=customer, attempt=b"a%08d" % number, at=varint(moment))
                while True:
                    try:
                        producer.produce(topic, key=customer, value=value)
                        break
                    except BufferError:
                        producer.poll(0.05)
            sent[number % len(PSPS)] += 1
            number += 1
            if number % 500 == 0:
                producer.poll(0)
                break
        else:
            time.sleep(0.002)
    assert producer.flush(300) == 0


class Writer:
    """The process that writes."""

    def __init__(self, router, rate):
        # Not forked: librdkafka's threads would not come along.
        context = multiprocessing.get_context("spawn")
        self.rate, self.stop, self.sent = context.Value("d", rate), context.Event(), context.Array("q", len(PSPS))
        self.process = context.Process(target=write, args=(router.bootstrap, router.prefix, self.rate, self.stop, self.sent), daemon=True)
        self.process.start()

    def end(self):
        self.stop.set()
        self.process.join(310)
        assert self.process.exitcode == 0, "the writer of load failed"


class Requests(threading.Thread):
    """Asks at a steady pace and notes how long each decision took, by phase."""

    def __init__(self, router):
        super().__init__(daemon=True)
        self.router, self.phase, self.due = router, "quiet", {}
        self.took, self.again, self.stopped = collections.defaultdict(list), 0, False
        self.producer = Producer({"bootstrap.servers": router.bootstrap, "linger.ms": 0})
        self.consumer = Consumer({"bootstrap.servers": router.bootstrap, "group.id": "torture-reader", "isolation.level": "read_committed",
                                  "enable.auto.commit": False, "fetch.wait.max.ms": 5})
        name = router.prefix + "routing.decisions"
        partitions = self.consumer.list_topics(name, timeout=20).topics[name].partitions
        self.consumer.assign([TopicPartition(name, partition, 0) for partition in partitions])
        self.reader = threading.Thread(target=self.read, daemon=True)

    def run(self):
        self.reader.start()
        begun, number = time.time(), 0
        while not self.stopped:
            due = begun + number / REQUESTS_PER_S
            time.sleep(max(0.0, due - time.time()))
            key, request_id = f"c{number % CUSTOMERS:07}", f"r{number}"
            self.due[request_id] = (due, self.phase)
            record = {"payment": payment(f"q{number}", key), "request_id": request_id, "requested_at": int(due * 1000)}
            self.producer.produce(self.router.prefix + "routing.requests", key=key, value=encode("routing.requests", record))
            self.producer.poll(0)
            number += 1
        self.producer.flush(60)

    def read(self):
        answered = set()
        while not self.stopped or len(answered) < len(self.due) and time.time() < self.give_up_at:
            message = self.consumer.poll(0.2)
            if message is None or message.error():
                continue
            now, request_id = time.time(), decode("routing.decisions", message.value())["request_id"]
            self.again += request_id in answered
            answered.add(request_id)
            due, phase = self.due[request_id]
            self.took[phase].append(now - due)
        self.missing = len(self.due) - len(answered)

    def end(self):
        self.give_up_at = time.time() + 60
        self.stopped = True
        self.join(90)
        self.reader.join(90)
        self.consumer.close()
        return [f"decisions: {self.missing} missing, {self.again} more than once"] if self.missing or self.again else []

    def figures(self):
        for phase, took in self.took.items():
            took = sorted(took)
            at = lambda share: 1000 * took[min(len(took) - 1, int(share * len(took)))]
            print(f"     decisions, {phase}: {len(took)}, p50 {at(0.5):.1f} ms, p95 {at(0.95):.1f} ms, p99 {at(0.99):.1f} ms, longest {at(1):.0f} ms", flush=True)


class Gauge:
    """What a process holds, and how far behind it is."""

    def __init__(self, router, process):
        self.router, self.process = router, process
        self.consumer = Consumer({"bootstrap.servers": router.bootstrap, "group.id": router.prefix + "smartrouter", "isolation.level": "read_committed"})
        names = [router.prefix + topic for topic in INPUTS] + [router.prefix + "stats.deltas"]
        known = self.consumer.list_topics(timeout=20).topics
        self.places = [TopicPartition(name, partition) for name in names for partition in known[name].partitions]
        self.lag_max = self.rss_mb_max = 0

    def sample(self):
        """(records taken of what was written, lag, resident MB, file handles, files of RocksDB)"""
        ends = {(at.topic, at.partition): self.consumer.get_watermark_offsets(at, timeout=30)[1] for at in self.places}
        committed = {(at.topic, at.partition): max(0, at.offset) for at in self.consumer.committed(self.places, timeout=60)}
        # The end of an input is its last record's; that of the deltas is behind a marker of their transaction.
        lag = sum(max(0, end - committed[at] - at[0].endswith("stats.deltas")) for at, end in ends.items())
        pid = self.process.pid
        rss_mb = next(int(line.split()[1]) // 1024 for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
        handles = len(os.listdir(f"/proc/{pid}/fd"))
        files = sum(1 for _ in self.router.dir.glob("*/store/**/*.sst"))
        self.lag_max, self.rss_mb_max = max(self.lag_max, lag), max(self.rss_mb_max, rss_mb)
        return sum(committed.values()), lag, rss_mb, handles, files


def capacity(gauge, seconds=8):
    """Records a second that are taken while more are there."""
    (before, *_), begun = gauge.sample(), time.time()
    time.sleep(seconds)
    after, lag, *_ = gauge.sample()
    return (after - before) / (time.time() - begun), lag


def windows(router, sent):
    """Whether the totals of each PSP are what was sent, with not one time-out."""
    expected = {psp: (count, count, 0) for psp, count in zip(PSPS, sent) if count}
    deadline, found = time.time() + 60, {}
    while found != expected and time.time() < deadline:
        for _, state in router.read("psp.states", seconds=20):
            if state["segment"]["kind"] == "ALL":
                day = state["windows"]["last_24h"]
                found[state["psp_id"]] = (day["attempts"], day["approvals"], day["timeouts"])
    return [] if found == expected else [f"windows (attempts, approvals, time-outs): {found}, sent {expected}"]


def drained(gauge):
    begun = time.time()
    while time.time() - begun < DRAIN_S:
        if gauge.sample()[1] == 0:
            return []
        time.sleep(0.5)
    return [f"the backlog is not drained {DRAIN_S} s after the load ended: {gauge.sample()[1]} records are left"]


def begin(make_router, rate):
    router = make_router()
    process = router.start()
    requests, writer, gauge = Requests(router), Writer(router, 0.0), Gauge(router, process)
    requests.start()
    time.sleep(3)
    requests.phase = "warming up"
    writer.rate.value = rate
    return router, process, requests, writer, gauge


def end(router, process, requests, writer, gauge, told):
    requests.phase = "draining"
    begun = time.time()
    writer.end()
    told = told + drained(gauge)
    print(f"     drained after {time.time() - begun:.0f} s", flush=True)
    told += requests.end()
    requests.figures()
    gauge.consumer.close()
    told += windows(router, writer.sent[:])
    if process.poll() is not None or router.stop(process) != 0:
        told.append(f"the router ended with {process.poll()}: {pathlib.Path(process.log_path).read_text()[-800:]}")
    return told


def overload(make_router, seconds):
    all_of_it = router, process, requests, writer, gauge = begin(make_router, 1e6)
    # As much as can be written, to see how much is taken.
    time.sleep(4)
    taken, lag = capacity(gauge)
    writer.rate.value = OVERLOAD * taken / 2
    requests.phase = "overload"
    first = gauge.sample()
    written, begun = sum(writer.sent[:]), time.time()
    while time.time() - begun < seconds:
        last = gauge.sample()
        time.sleep(1)
    written = 2 * (sum(writer.sent[:]) - written) / (time.time() - begun)
    print(f"     taken {taken:.0f} records/s, written {written:.0f}/s for {seconds} s; backlog {first[1]} to {gauge.lag_max}; "
          f"resident {first[2]} to {last[2]} MB, at most {gauge.rss_mb_max}; file handles {first[3]} to {last[3]}; RocksDB files {last[4]}", flush=True)
    told = [] if gauge.lag_max > lag else [f"the load was none: the backlog did not grow beyond {lag}"]
    told = end(*all_of_it, told)
    if gauge.rss_mb_max > RSS_MB_MAX:
        told.append(f"resident memory came to {gauge.rss_mb_max} MB, {RSS_MB_MAX} are its bound")
    return told


def soak(make_router, seconds):
    """Half of what it can do, for long: nothing may grow for ever."""
    all_of_it = router, process, requests, writer, gauge = begin(make_router, 1e6)
    time.sleep(4)
    taken, _ = capacity(gauge)
    writer.rate.value = taken / 4
    told = drained_once(gauge)
    requests.phase = "soak"
    samples, begun = [], time.time()
    while time.time() - begun < seconds:
        samples.append(gauge.sample())
        time.sleep(max(1, seconds / 200))
    quarter = len(samples) // 4
    for name, index, slack in (("resident MB", 2, 64), ("file handles", 3, 32), ("RocksDB files", 4, 32)):
        middle = max(sample[index] for sample in samples[quarter:2 * quarter])
        last = max(sample[index] for sample in samples[3 * quarter:])
        print(f"     {name}: {samples[0][index]} at first, at most {middle} in the second quarter, {last} in the last", flush=True)
        if last > 1.25 * middle + slack:
            told.append(f"{name} grows: {middle} in the second quarter, {last} in the last")
    return end(*all_of_it, told)


def drained_once(gauge):
    """Comes to where the load is, before it is measured; a lag of some hundred records is what flows."""
    begun = time.time()
    while time.time() - begun < DRAIN_S:
        if gauge.sample()[1] < 20_000:
            return []
        time.sleep(0.5)
    return [f"half of its capacity is too much: {gauge.sample()[1]} records behind"]


SOAK_S = int(os.environ.get("SMARTROUTER_SOAK_S", "3600"))
SHORT = {"load_in_short": lambda make, seed: overload(make, 30)}
CASES = SHORT | {"load": lambda make, seed: overload(make, 300), "load_soak": lambda make, seed: soak(make, SOAK_S)}
