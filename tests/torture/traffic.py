"""Seeded, made-up payments on the three inputs, and the truth about them.

Owns what is sent and what is known of it: every request, every attempt with what came of it, the place of every bad record. Event
time is the traffic's own: it begins an hour ago and never falls behind the wall, so that an engine which lets silence pass
by the wall's time has no reason to call an answered attempt silent. Never reads what the router writes.

Kinds of attempts: `answered` (its outcome comes in time, before or after the attempt's own record), `lost` (no outcome ever),
`late` (its outcome comes once the time-out has been counted), `orphan` (an outcome without attempt).
"""
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))

from confluent_kafka import Producer  # noqa: E402
from router import PROJECT, encode  # noqa: E402

INPUTS = ("payment.attempts", "payment.outcomes", "routing.requests")
PSPS = ("worldpay", "mit", "elavon")
DEADLINE_MS, OUTCOME_WAIT_MS, LATENESS_MS = 30_000, 1_500_000, 5_000
SETTINGS = f"""
[engine]
attempt_deadline_ms = {DEADLINE_MS}
outcome_wait_ms = {OUTCOME_WAIT_MS}
lateness_ms = {LATENESS_MS}
attempt_overdue_ms = {DEADLINE_MS // 2}
# From the first result on: which results count must not depend on when there were enough.
pair_results_min = 0

[health]
publish_interval_ms = 200

[kafka]
session_timeout_ms = 6000
"""
# What an attempt may end in: weight, status, error code.
ENDS = ((60, "APPROVED", None), (14, "DECLINED", "51"), (8, "DECLINED", "54"), (4, "DECLINED", "96"), (5, "ERROR", "500"), (2, "ERROR", "x9"),
        (3, "TIMEOUT", "timeout"))
CUSTOMERS = 60
# From the first event to the last, so that a late outcome is still waited for and nothing lies in the future.
RUN_MS_MAX = OUTCOME_WAIT_MS + 30 * 60_000
PARTITIONS = 4


def configure(router):
    """The shipped example with short waits, as this router's configuration."""
    router.config = router.dir / "torture.toml"
    router.config.write_text((PROJECT / "deploy" / "volaris.toml").read_text() + SETTINGS)


class Traffic:
    def __init__(self, router, seed):
        configure(router)
        self.router, self.seed, self.dice = router, seed, random.Random(seed)
        # One record sent is one record written, also over a broker's restart.
        self.producer = Producer({"bootstrap.servers": router.bootstrap, "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 120_000})
        self.begun, self.at = time.time(), int(time.time() * 1000) - 60 * 60_000
        self.begun_at = self.at
        self.payments, self.requests, self.attempts = 0, {}, {}
        self.bad, self.ends, self.failed = [], {}, []
        self.bad_wanted = 0
        self.again, self.down = [], None
        self.last_pushed_at = self.at
        self.lock = threading.Lock()

    def pass_time(self, ms):
        self.at = max(self.at + ms, self.begun_at + int((time.time() - self.begun) * 1000))
        assert self.at < self.begun_at + RUN_MS_MAX, "a run too long for its windows, and for its outcomes to be waited for"

    # Sending.

    def send(self, topic, key, record, again=True):
        self.send_bytes(topic, key, encode(topic, record))
        if again and self.dice.random() < 0.06:
            self.again.append((topic, key, record))

    def send_bytes(self, topic, key, value, partition=None, bad=False):
        def told(error, message):
            with self.lock:
                if error is not None:
                    self.failed.append(str(error))
                    return
                place = (topic, message.partition(), message.offset())
                self.ends[place[:2]] = max(self.ends.get(place[:2], 0), place[2] + 1)
                if bad:
                    self.bad.append(place)

        self.bad_wanted += bad
        where = {} if partition is None else {"partition": partition}
        self.producer.produce(self.router.prefix + topic, key=key, value=value, headers=[("traceparent", b"00-torture")], on_delivery=told, **where)
        self.producer.poll(0)

    def flush(self):
        left = self.producer.flush(120)
        assert left == 0 and not self.failed, f"the test's own records were not written: {left} {self.failed[:3]}"

    # Payments.

    def payment(self):
        dice, number = self.dice, self.payments
        self.payments += 1
        amex = dice.random() < 0.1
        brand = "AMEX" if amex else dice.choice(("VISA", "VISA", "MASTERCARD", "CARNET"))
        msi = not amex and dice.random() < 0.15
        return {
            "payment_id": f"p{self.seed}-{number}", "order_id": f"o{number}", "merchant_id": "volaris",
            "customer_id": None if dice.random() < 0.1 else f"c{dice.randrange(CUSTOMERS)}",
            "amount_minor": dice.randrange(1_00, 9_999_00), "currency": "USD" if dice.random() < 0.2 and not msi else "MXN",
            "card": {"bin": "374245" if amex else "411111", "brand": brand, "type": "CREDIT", "issuer_country": dice.choice(("MX", "MX", "US"))},
            "method": "card", "sub_method": "msi" if msi else None,
            "installments": {"count": 3, "kind": "MSI"} if msi else None,
            "message": {"initiator": "CUSTOMER", "avs_sent": False, "mcc": "4511"},
        }

    def burst(self, count, pause=0.0):
        """`count` payments with all their records. When it returns they are written."""
        for _ in range(count):
            self.one()
            if pause:
                self.producer.flush(0.01)
                time.sleep(pause)
        again, self.again = self.again, []
        for topic, key, record in again:
            self.send(topic, key, record, again=False)
        self.flush()

    def one(self):
        dice = self.dice
        self.pass_time(dice.choice((5, 20, 60, 150)))
        payment = self.payment()
        key = payment["customer_id"] or payment["payment_id"]
        if dice.random() < 0.08:
            self.spoil(key, payment)
        if dice.random() < 0.05:
            return self.orphan(payment, key)
        if dice.random() < 0.9:
            self.ask(payment, key, f"r-{payment['payment_id']}", dry_run=dice.random() < 0.05)
        number = 1
        while number <= 3:
            status = self.attempt(payment, key, number)
            if status == "APPROVED" or dice.random() < 0.5:
                break
            number += 1
            if dice.random() < 0.5:
                # Where to go next is asked as soon as the attempt has failed.
                self.ask(payment, key, f"r{number}-{payment['payment_id']}")
        return None

    def ask(self, payment, key, request_id, dry_run=False):
        self.requests[request_id] = payment
        self.send("routing.requests", key, {"payment": payment, "request_id": request_id, "requested_at": self.at, "dry_run": dry_run})

    def attempt(self, payment, key, number):
        dice = self.dice
        self.pass_time(dice.choice((10, 60, 250)))
        psp = "amex" if payment["card"]["brand"] == "AMEX" else dice.choice(PSPS)
        record = {"payment": payment, "attempt_id": f"a{number}-{payment['payment_id']}", "attempt_number": number, "psp_id": psp, "attempted_at": self.at}
        fate = dice.random()
        kind = "lost" if fate < 0.03 else "late" if fate < 0.06 else "answered"
        latency = dice.randrange(20, 2_500)
        occurred_at = self.at + DEADLINE_MS + 2_000 if kind == "late" else self.at + latency
        outcome = None if kind == "lost" else self.outcome(record["attempt_id"], payment, psp, latency, occurred_at)
        self.attempts[record["attempt_id"]] = {"kind": kind, "psp": psp, "payment": payment, "attempted_at": self.at, "outcome": outcome}
        sends = [lambda: self.send("payment.attempts", key, record)]
        if kind == "answered":
            sends.append(lambda: self.send("payment.outcomes", key, outcome))
            if dice.random() < 0.1:
                sends.reverse()
        for send in sends:
            send()
        return outcome["status"] if outcome else "TIMEOUT"

    def outcome(self, attempt_id, payment, psp, latency, occurred_at):
        weights = [weight for weight, _, _ in ENDS]
        _, status, code = self.dice.choices(ENDS, weights)[0]
        if psp == self.down:
            status, code = "ERROR", "503"
        return {"attempt_id": attempt_id, "payment_id": payment["payment_id"], "customer_id": payment["customer_id"], "psp_id": psp,
                "status": status, "error_code": code, "latency_ms": latency, "occurred_at": occurred_at, "fee_minor": 7}

    def orphan(self, payment, key):
        psp = self.dice.choice(PSPS)
        attempt_id = f"a1-{payment['payment_id']}"
        outcome = self.outcome(attempt_id, payment, psp, 100, self.at)
        self.attempts[attempt_id] = {"kind": "orphan", "psp": psp, "payment": payment, "attempted_at": self.at, "outcome": outcome}
        self.send("payment.outcomes", key, outcome)

    def spoil(self, key, payment):
        """A record that is no event, on any of the inputs."""
        topic = self.dice.choice(INPUTS)
        attempt = {"payment": payment | {"currency": "pesos"}, "attempt_id": "a-bad", "attempt_number": 1, "psp_id": "mit", "attempted_at": self.at}
        whole = encode("payment.attempts", attempt)
        values = (whole[:40], b"\x01" + whole[1:], b"\x00\x7f\xff\xff\xff" + whole[5:], b"", b"{}", whole, None, bytes(self.dice.randrange(10, 60_000)))
        self.send_bytes(topic, key, self.dice.choice(values), bad=True)

    # The end.

    def push(self, ms):
        """Moves event time on, in every partition: an attempt with its outcome."""
        self.pass_time(ms)
        for partition in range(PARTITIONS):
            payment = self.payment()
            key, attempt_id = payment["payment_id"], f"a1-{payment['payment_id']}"
            record = {"payment": payment, "attempt_id": attempt_id, "attempt_number": 1, "psp_id": "elavon", "attempted_at": self.at}
            outcome = self.outcome(attempt_id, payment, "elavon", 10, self.at + 10)
            self.attempts[attempt_id] = {"kind": "answered", "psp": "elavon", "payment": payment, "attempted_at": self.at, "outcome": outcome}
            for topic, value in (("payment.attempts", record), ("payment.outcomes", outcome)):
                self.send_bytes(topic, key, encode(topic, value), partition)
        self.flush()

    def let_deadlines_pass(self):
        self.push(DEADLINE_MS + 2 * LATENESS_MS)

    def send_late_outcomes(self):
        """Only once the router has counted their time-outs: see `checker.settle`."""
        for attempt in self.attempts.values():
            if attempt["kind"] == "late":
                payment = attempt["payment"]
                self.send("payment.outcomes", payment["customer_id"] or payment["payment_id"], attempt["outcome"], again=False)
        self.flush()
        self.push(OUTCOME_WAIT_MS + 2 * LATENESS_MS)
