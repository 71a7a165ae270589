#!/usr/bin/env python3
"""Alerts on a real Kafka: `telling.py BINARY HOST:PORT [NAME...]`. The vendors are doubles that answer as documented, and keep what
they were sent; the truth that they are held to is what `psp.outages` says."""
import collections
import hashlib
import hmac
import http.server
import json
import pathlib
import socket
import struct
import sys
import threading
import time

from spine import Payments, main

PSPS = ("worldpay", "mit", "elavon", "amex")
SECRET = "shared secret of the webhook"


class Vendor:
    """A server for one vendor. `answers`: what it says to the next requests instead of taking them; RESET: it takes one, and the
    connection is gone before it can say so."""
    RESET = "reset"

    def __init__(self, taken):
        self.sent, self.answers, self.taken = [], collections.deque(), taken
        vendor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = vendor.answers.popleft() if vendor.answers else None
                if answer in (None, Vendor.RESET):
                    vendor.sent.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if answer == Vendor.RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                    return
                status, headers, text = answer or vendor.taken
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    # A router that was killed while it was answered.
                    pass

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"


class Vendors:
    def __init__(self):
        self.slack = Vendor((200, {}, "ok"))
        self.pagerduty = Vendor((202, {"Content-Type": "application/json"}, '{"status":"success","message":"Event processed"}'))
        self.webhook = Vendor((204, {}, ""))

    def environment(self):
        sinks = [f'{{ kind = "slack", url = "{self.slack.url("/services/T0/B0/hush-hush")}" }}',
                 f'{{ kind = "pagerduty", url = "{self.pagerduty.url("/v2/enqueue")}", routing_key = "hush-key" }}',
                 f'{{ kind = "webhook", url = "{self.webhook.url("/alerts")}", secret = "{SECRET}" }}', '{ kind = "log" }']
        return {"SMARTROUTER__ALERTS__SINKS": f"[{', '.join(sinks)}]", "SMARTROUTER__ALERTS__GROUP_MS": "300",
                "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def told_by_slack(self):
        """The steps of each message that does not say it may be a repeat, and of those that do."""
        fresh, repeated = [], []
        for _, body in self.slack.sent:
            message = json.loads(body)
            steps = [parsed(block["fields"]) for block in message["blocks"] if "fields" in block]
            assert steps and message["text"] and message["blocks"][0]["type"] == "header", message
            again = "Perhaps told before" in message["blocks"][-1]["elements"][0]["text"]
            (repeated if again else fresh).extend(steps)
        return fresh, repeated

    def told_by_webhook(self):
        alerts = {}
        for headers, body in self.webhook.sent:
            told = headers["smartrouter-timestamp"].encode() + b"." + body
            expected = "v1=" + hmac.new(SECRET.encode(), told, hashlib.sha256).hexdigest()
            assert hmac.compare_digest(expected, headers["smartrouter-signature"]) and abs(time.time() - int(headers["smartrouter-timestamp"])) < 600
            alert = json.loads(body)
            assert alert["version"] == 1 and alert["key"] == headers["idempotency-key"], alert
            steps = [identity(change["outage"]) for change in alert["changes"]]
            assert alerts.setdefault(alert["key"], steps) == steps, "one key, two contents"
        return [step for steps in alerts.values() for step in steps]

    def incidents(self):
        """What PagerDuty makes of the events: an incident for each trigger whose key is not open; actions by key, repeats dropped."""
        opened, actions = collections.Counter(), collections.defaultdict(list)
        open_keys = set()
        for _, body in self.pagerduty.sent:
            event = json.loads(body)
            key, action = event["dedup_key"], event["event_action"]
            assert event["routing_key"] == "hush-key" and ("payload" in event) == (action == "trigger"), event
            if action == "trigger" and key not in open_keys:
                opened[key] += 1
                open_keys.add(key)
            if action == "resolve":
                open_keys.discard(key)
            if actions[key][-1:] != [action]:
                actions[key].append(action)
        return opened, actions, open_keys


def parsed(fields):
    psp, segment, change, at = (field["text"].split("\n", 1)[1] for field in fields)
    return (psp, segment, *change.split(" → "), at.removesuffix(" UTC"))


def identity(outage):
    """A transition as `psp.outages`, or a webhook, tells it."""
    segment = outage["segment"]
    at = outage["at"] if isinstance(outage["at"], int) else int(outage["at"].timestamp() * 1000)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at // 1000))
    return (outage["psp_id"], segment["kind"] + (f":{segment['value']}" if segment["value"] else ""), outage["from"], outage["to"], when)


class Outages(Payments):
    """Attempts at PSPs that answer, or do not."""

    def results(self, psp, status, count):
        for _ in range(count):
            payment = self.payment()
            payment["card"] |= {"bin": "374245", "brand": "AMEX"} if psp == "amex" else {"bin": "411111", "brand": "VISA"}
            number = len(self.attempts)
            payment |= {"payment_id": f"a{number}", "customer_id": f"c{number % 97}"}
            self.at += 300
            attempt_id = f"a-{number}"
            self.attempts[attempt_id] = psp
            self.router.send("payment.attempts", payment["customer_id"], {
                "payment": payment, "attempt_id": attempt_id, "attempt_number": 1, "psp_id": psp, "attempted_at": self.at})
            self.router.send("payment.outcomes", payment["customer_id"], {
                "attempt_id": attempt_id, "payment_id": payment["payment_id"], "customer_id": payment["customer_id"], "psp_id": psp,
                "status": status, "error_code": None if status == "APPROVED" else "timeout", "latency_ms": 250, "occurred_at": self.at + 250})
        self.router.flush()

    def transitions(self, psp=None):
        told = [record for _, record in self.router.read("psp.outages", seconds=10)]
        return [record for record in told if psp in (None, record["psp_id"])]

    def keep_on(self, psp, status, to, revive, seconds=90):
        """Such results at this PSP, until it is in that state."""
        deadline = time.time() + seconds
        while True:
            self.results(psp, status, 15)
            revive()
            if any(record["to"] == to for record in self.transitions(psp)):
                return
            assert time.time() < deadline, (psp, to, [identity(it) for it in self.transitions()])

    def decided(self):
        """The decision on a request that is made now, and the offset of the states that it was made with."""
        payment = self.request(self.payment() | {"card": {"bin": "411111", "brand": "VISA", "type": "CREDIT", "issuer_country": "MX"}})
        self.router.flush()
        request_id = f"r-{payment['payment_id']}"
        mine = lambda records: any(record["request_id"] == request_id for _, record in records)
        return next(record for _, record in self.router.read("routing.decisions", mine, 60) if record["request_id"] == request_id)


def each_psp_in_turn(router):
    """An outage at each PSP in turn, the router killed at another moment of each: people are told of every transition once."""
    vendors, failpoint = Vendors(), lambda name: {"SMARTROUTER_FAILPOINT": f"{name}=1"}
    environment = vendors.environment()
    process = router.start(env=environment)
    sent = Outages(router)
    for psp in PSPS:
        sent.results(psp, "APPROVED", 60)
    router.until(lambda: all('smartrouter_alert_wait_seconds{sink="%s"}' % sink in router.get(process, "/metrics")[1]
                             for sink in ("slack", "pagerduty", "webhook", "log")), "every sink is served", process)
    vendors.slack.answers.extend([(503, {}, ""), (429, {"Retry-After": "1"}, "rate_limited")])
    vendors.pagerduty.answers.append((500, {}, "{}"))
    kills = {"worldpay": failpoint("alert-announced"), "mit": {}, "elavon": failpoint("slack-took-it"), "amex": failpoint("alert-committed")}
    running = [process]

    def revive():
        if running[0].poll() is not None:
            running[0] = router.start(env=environment)

    for psp, moment in kills.items():
        router.kill(running[0])
        mortal = running[0] = router.start(env=environment | moment)
        sent.keep_on(psp, "TIMEOUT", "DOWN", revive)
        if moment:
            router.until(lambda: mortal.poll() is not None, f"the router died of {moment}")
        else:
            router.kill(running[0])
        revive()
        visible = max(message.offset() for message, state in router.read("psp.states", seconds=10)
                      if state["psp_id"] == psp and state["state"] == "DOWN")
        decision = sent.decided()
        assert max(decision["psp_view"].values()) >= visible, (decision["psp_view"], visible)
        assert psp not in [ranked["psp_id"] for ranked in decision["ranked"][:1]] or decision["decided_by"] == "RECOVERY_SAMPLE", decision
        assert psp == "amex" or (psp, "DOWN") in [(skipped["psp_id"], skipped["reason"]) for skipped in decision["skipped"]], decision
        # Nothing fails for as long as it is held back, by the time of the events.
        sent.at += 70_000
        sent.keep_on(psp, "APPROVED", "RECOVERING", revive)
        sent.keep_on(psp, "APPROVED", "UP", revive)
        # Or the next router would die of what is left of this one's.
        router.until(lambda: complete(vendors, sent), f"everybody was told of {psp}", running[0])
        time.sleep(1)
    truth = [identity(record) for record in sent.transitions()]
    assert len(set(truth)) == len(truth) and {psp for psp, *_ in truth} == set(PSPS), truth

    judge(vendors, truth, sent.transitions(), in_doubt={"mit", "elavon"})
    twice = collections.Counter(step for steps in vendors.told_by_slack() for step in steps)
    assert any(count == 2 for (psp, *_), count in twice.items() if psp == "elavon"), "the one case of a repeat is one"
    log = pathlib.Path(running[0].log_path).read_text()
    assert "hush" not in log and SECRET not in log, "a secret is in the log"
    assert "alert: worldpay is DOWN" in log
    status, metrics = router.get(running[0], "/metrics")
    assert status == 200 and "smartrouter_alerts_total" in metrics
    assert router.get(running[0], "/readyz")[0] == 200
    assert router.stop(running[0]) == 0


def complete(vendors, sent):
    """Whether everybody has heard of everything."""
    truth = {identity(record) for record in sent.transitions()}
    fresh, repeated = vendors.told_by_slack()
    _, _, still_open = vendors.incidents()
    return truth <= set(fresh + repeated) and truth <= set(vendors.told_by_webhook()) and not still_open


def judge(vendors, truth, records, in_doubt):
    """`in_doubt`: PSPs of whom an alert may have been under way when the router was killed."""
    fresh, repeated = vendors.told_by_slack()
    counted = collections.Counter(fresh + repeated)
    assert set(counted) == set(truth), set(truth) ^ set(counted)
    assert max(collections.Counter(fresh).values()) == 1, f"Slack was told again without a word: {fresh}"
    again = {step for step, count in counted.items() if count > 1}
    assert {step[0] for step in again} <= in_doubt and max(counted.values()) <= 2, f"Slack was told again: {again}"
    told = collections.Counter(vendors.told_by_webhook())
    assert told == collections.Counter(truth), (told - collections.Counter(truth), collections.Counter(truth) - told)
    opened, actions, still_open = vendors.incidents()
    ids = {record["outage_id"] for record in records}
    assert not still_open and set(opened) == ids and set(opened.values()) == {1}, (opened, ids)
    for key, seen in actions.items():
        assert seen[0] == "trigger" and seen[-1] == "resolve" and "acknowledge" in seen, (key, seen)


def answers_that_are_lost(router):
    """A vendor who takes an alert and cannot say so, one who refuses, one who is away for long: the others are told at once."""
    vendors = Vendors()
    environment = vendors.environment() | {"SMARTROUTER__ALERTS__TIMEOUT_MS": "2000"}
    process = router.start(env=environment)
    sent = Outages(router)
    sent.results("mit", "APPROVED", 60)
    router.until(lambda: 'smartrouter_alert_wait_seconds{sink="slack"}' in router.get(process, "/metrics")[1], "Slack is served", process)
    vendors.slack.answers.append(Vendor.RESET)
    vendors.webhook.answers.extend([(503, {"Retry-After": "3600"}, "")])
    vendors.pagerduty.answers.append((400, {}, '{"status":"invalid event","message":"Event object is invalid","errors":["no"]}'))
    sent.keep_on("mit", "TIMEOUT", "DOWN", lambda: None)
    router.until(lambda: vendors.told_by_slack()[1], "Slack was told again", process)
    time.sleep(1)
    fresh, repeated = vendors.told_by_slack()
    # The first message alone, whatever was told after it.
    assert repeated == fresh[:len(repeated)] and len(set(fresh)) == len(fresh), (fresh, repeated)
    metric = lambda sink, outcome: f'smartrouter_alerts_total{{sink="{sink}",outcome="{outcome}"}} 1'
    router.until(lambda: metric("pagerduty", "refused") in router.get(process, "/metrics")[1], "PagerDuty refused", process)
    told = pathlib.Path(process.log_path).read_text()
    assert "Event object is invalid" in told and "HTTP 503" in told and "hush" not in told
    assert not vendors.webhook.sent and router.get(process, "/readyz")[0] == 200
    # A Retry-After binds one process; the next one asks for itself.
    assert router.stop(process) == 0
    process = router.start(env=environment)
    router.until(lambda: vendors.webhook.sent, "the webhook was told", process)
    router.until(lambda: set(vendors.told_by_webhook()) == {identity(record) for record in sent.transitions()}, "all of it", process)
    assert router.stop(process) == 0


def under_way(router):
    """The groups of sinks that have said that they will tell something, and not that they have."""
    newest = {message.key(): value for message, value in router.read("smartrouter.alerts.changelog", raw=True)}
    return [key for key, value in newest.items() if value is not None and b"/" not in key]


def another_instance_takes_over(router):
    """Two instances: each alert is sent by one of them, and when that one is killed the other goes on where it was."""
    vendors = Vendors()
    first = router.start("one", env=vendors.environment())
    sent = Outages(router)
    sent.results("mit", "APPROVED", 60)
    served = lambda process: all('smartrouter_alert_wait_seconds{sink="%s"}' % sink in router.get(process, "/metrics")[1]
                                 for sink in ("slack", "pagerduty", "webhook"))
    router.until(lambda: served(first), "one serves the sinks", first)
    second = router.start("two", env=vendors.environment())
    sent.keep_on("mit", "TIMEOUT", "DOWN", lambda: None)
    told = lambda: {identity(record) for record in sent.transitions()} == set(vendors.told_by_slack()[0])
    router.until(told, "Slack was told", second)
    router.until(lambda: not under_way(router), "what was told is noted", second)
    router.kill(first)
    sent.at += 70_000
    sent.keep_on("mit", "APPROVED", "RECOVERING", lambda: None)
    sent.keep_on("mit", "APPROVED", "UP", lambda: None)
    router.until(lambda: complete(vendors, sent), "everybody was told", second)
    judge(vendors, [identity(record) for record in sent.transitions()], sent.transitions(), in_doubt=set())
    assert router.stop(second) == 0


if __name__ == "__main__":
    sys.exit(main([each_psp_in_turn, answers_that_are_lost, another_instance_takes_over]))
