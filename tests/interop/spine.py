#!/usr/bin/env python3
"""The router on a real Kafka, from outside: `spine.py BINARY HOST:PORT [NAME...]` runs the checks, or those that are named."""
import collections
import csv
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time
import traceback

from router import PROJECT, Router, encode

NOW_MS = int(time.time() * 1000)


class Payments:
    """Made-up payments of the shipped example, ending some minutes ago in event time, and what was said of them."""

    def __init__(self, router):
        self.router, self.at = router, NOW_MS - 40 * 60_000
        self.requests, self.attempts, self.approved = {}, {}, collections.Counter()

    def payment(self):
        number = len(self.requests)
        amex = number % 10 == 3
        return {
            "payment_id": f"p{number}", "order_id": f"o{number}", "merchant_id": "volaris", "customer_id": f"c{number % 97}",
            "amount_minor": 100_00 + number, "currency": "MXN",
            "card": {"bin": "374245" if amex else "411111", "brand": "AMEX" if amex else "VISA", "type": "CREDIT", "issuer_country": "MX"},
            "method": "card",
            "message": {"initiator": "CUSTOMER", "avs_sent": False, "mcc": "4511"},
        }

    def request(self, payment=None):
        payment = payment or self.payment()
        self.at += 5
        request_id = f"r-{payment['payment_id']}"
        self.requests[request_id] = payment
        self.router.send("routing.requests", payment["customer_id"], {"payment": payment, "request_id": request_id, "requested_at": self.at})
        return payment

    def attempt(self, payment, psp, status):
        self.at += 300
        attempt_id = f"a-{payment['payment_id']}"
        self.attempts[attempt_id] = psp
        self.approved[psp] += status == "APPROVED"
        self.router.send("payment.attempts", payment["customer_id"], {
            "payment": payment, "attempt_id": attempt_id, "attempt_number": 1, "psp_id": psp, "attempted_at": self.at})
        self.router.send("payment.outcomes", payment["customer_id"], {
            "attempt_id": attempt_id, "payment_id": payment["payment_id"], "customer_id": payment["customer_id"], "psp_id": psp,
            "status": status, "error_code": None if status == "APPROVED" else "51", "latency_ms": 250, "occurred_at": self.at + 250})

    def traffic(self, count):
        for _ in range(count):
            payment = self.request()
            number = len(self.requests)
            psp = "amex" if payment["card"]["brand"] == "AMEX" else ("worldpay", "mit", "elavon")[number % 3]
            self.attempt(payment, psp, "APPROVED" if number % 5 else "DECLINED")
        self.router.flush()


def once(records, key):
    counted = collections.Counter(record[key] for _, record in records)
    assert all(count == 1 for count in counted.values()), f"{key} repeated: {[k for k, n in counted.items() if n > 1][:5]}"
    return set(counted)


def all_counted(router, sent):
    """Each request has one decision and one prediction, each attempt one feedback, each result its place in the windows."""
    enough = lambda count: lambda records: len(records) >= count
    decisions = router.read("routing.decisions", enough(len(sent.requests)), 90)
    assert once(decisions, "request_id") == set(sent.requests), f"{len(decisions)} decisions for {len(sent.requests)} requests"
    for message, decision in decisions:
        payment = sent.requests[decision["request_id"]]
        psps = [ranked["psp_id"] for ranked in decision["ranked"]]
        assert 1 <= len(psps) <= 3 and len(set(psps)) == len(psps), psps
        if payment["card"]["brand"] == "AMEX":
            assert psps == ["amex"] and decision["decided_by"] == "HARD_RULE", decision
        else:
            assert "amex" not in psps, decision
        assert message.key().decode() == payment["customer_id"]
        assert ("traceparent", b"00-interop") in message.headers()
    # Models that only look on predict too.
    acted_on = lambda records: [(message, record) for message, record in records if not record["shadow"]]
    predictions = acted_on(router.read("athia.predictions", lambda records: len(acted_on(records)) >= len(sent.requests), 60))
    assert once(predictions, "decision_id") == once(decisions, "decision_id")
    feedback = router.read("athia.feedback", enough(len(sent.attempts)), 60)
    assert once(feedback, "attempt_id") == set(sent.attempts), f"{len(feedback)} of {len(sent.attempts)}"
    expected = {psp: [count, sent.approved[psp]] for psp, count in collections.Counter(sent.attempts.values()).items()}
    deadline = time.time() + 30
    while True:
        newest = {}
        for _, state in router.read("psp.states", seconds=15):
            if state["segment"]["kind"] == "ALL":
                newest[state["psp_id"]] = [state["windows"]["last_24h"][key] for key in ("attempts", "approvals")]
        if newest == expected or time.time() > deadline:
            break
    assert newest == expected, f"windows {newest}, sent {expected}"


def stop_and_start(router):
    sent = Payments(router)
    process = router.start()
    sent.traffic(300)
    assert router.stop(process) == 0
    sent.traffic(200)
    process = router.start()
    sent.traffic(100)
    all_counted(router, sent)
    lag = router.json("lag")
    inputs = [row for row in lag if row["topic"].split(".", 1)[1] in ("payment.attempts", "payment.outcomes", "routing.requests")]
    assert len(inputs) >= 12 and all(row["lag"] == 0 for row in inputs), lag
    rows = router.json("psp", "list")
    assert {row["psp_id"] for row in rows} >= {"worldpay", "mit", "elavon", "amex"}, rows
    status, metrics = router.get(process, "/metrics")
    assert status == 200 and "smartrouter_decisions_total" in metrics
    assert router.stop(process) == 0


def killed_while_working(router):
    sent = Payments(router)
    process = router.start()
    for pause in (0.05, 0.2, 0.4, 0.01):
        sent.traffic(120)
        time.sleep(pause)
        router.kill(process)
        process = router.start()
    sent.traffic(50)
    all_counted(router, sent)


def killed_and_replaced(router):
    sent = Payments(router)
    first = router.start("one")
    sent.traffic(200)
    router.start("two")
    sent.traffic(100)
    router.kill(first)
    sent.traffic(100)
    all_counted(router, sent)


def dead_letters_and_redrive(router):
    sent = Payments(router)
    process = router.start()
    sent.traffic(20)
    good = {"payment": sent.payment() | {"payment_id": "mended"}, "attempt_id": "a-mended", "attempt_number": 1, "psp_id": "mit", "attempted_at": sent.at}
    pesos = encode("payment.attempts", good | {"payment": good["payment"] | {"currency": "pesos"}})
    whole = encode("payment.attempts", good)
    bad = {
        "payment.attempts": [whole[:40], b"\x01" + whole[1:], b"\x00\x7f\xff\xff\xff" + whole[5:], b"", b"{}", bytes(900_000), pesos, None],
        "payment.outcomes": [b"\x00", whole, None],
        "routing.requests": [b"noise" * 1000, whole],
    }
    for topic, values in bad.items():
        for value in values:
            router.send_bytes(topic, "c1", value)
    sent.traffic(40)
    all_counted(router, sent)
    for topic, values in bad.items():
        letters = router.read(f"{topic}.dlq", lambda records: len(records) >= len(values), 30, raw=True)
        assert sorted(map(repr, values)) == sorted(repr(value) for _, value in letters), topic
        for message, _ in letters:
            headers = dict(message.headers())
            assert headers["dlq-reason"] and headers["dlq-source-topic"].decode() == router.prefix + topic, headers
    listed = router.json("dlq", "list")
    assert len(listed) == sum(map(len, bad.values())), listed
    mine = next(row for row in listed if "currency" in row["reason"])
    mended = router.dir / "mended.avro"
    mended.write_bytes(whole)
    where = [f"{mine['topic']}:{mine['partition']}:{mine['offset']}"]
    status, out, err = router.command("dlq", "redrive", *where, "--value-file", str(mended))
    assert status == 0 and len(router.read("payment.attempts", raw=True)) == 68, (status, out, err)
    status, out, err = router.command("dlq", "redrive", *where, "--value-file", str(mended), "--execute")
    assert status == 0, (out, err)
    outcome = {"attempt_id": "a-mended", "payment_id": "mended", "customer_id": good["payment"]["customer_id"], "psp_id": "mit",
               "status": "DECLINED", "error_code": "ZZ-9", "latency_ms": 1, "occurred_at": sent.at}
    router.send("payment.outcomes", "c1", outcome)
    router.flush()
    told = lambda records: any(record["attempt_id"] == "a-mended" for _, record in records)
    assert told(router.read("athia.feedback", told, 30))
    # A code that nobody has listed.
    assert 'smartrouter_unknown_error_codes_total{psp_id="mit"} 1' in router.get(process, "/metrics")[1]
    assert "ZZ-9" in pathlib.Path(process.log_path).read_text()
    router.stop(process)


def wrong_use(router):
    gone = "127.0.0.1:1"
    status, out, err = router.command("check", bootstrap=gone)
    assert status in (1, 3) and gone in out + err, (status, out, err)
    process = router.start()
    shared_state = router.dir / "one"
    status, out, err = router.command("run", instance="two", state=shared_state)
    assert status == 1 and str(shared_state) in err and "--state-dir" in err, (status, err)
    # A second process under the same name: the older one ends and says why.
    router.start("one", state=router.dir / "elsewhere")
    router.until(lambda: process.poll() is not None, "the older process has ended", seconds=60)
    assert process.returncode == 1 and "--instance" in open(process.log_path).read()
    # No broker at the start: it waits, alive but not ready, and says for whom.
    waiting = router.start("three", bootstrap=gone, wait=False)
    router.until(lambda: gone in router.get(waiting, "/readyz")[1], "readyz names the broker", waiting)
    assert router.get(waiting, "/readyz")[0] == 503 and router.get(waiting, "/livez")[0] == 200
    router.stop(waiting)
    unusable = router.dir / "file"
    unusable.write_text("")
    status, out, err = router.command("run", instance="four", state=unusable)
    assert status == 1 and str(unusable) in err, (status, err)


def history_both_ways(router):
    """A replay through Kafka and one in a process of its own end in the same windows, with the same feedback and decisions."""
    january = PROJECT.parent / "shared" / "data" / "psp_2019_january" / "attempts.csv"
    history = january if january.exists() else made_up_history(router.dir / "attempts.csv")
    rows = list(csv.DictReader(history.open()))
    words = [router.binary, "-c", str(PROJECT / "deploy" / "january.toml"), "-b", router.bootstrap, "--topic-prefix", router.prefix, "--output", "json"]
    replay = ["replay", str(history), "--mapping", str(PROJECT / "deploy" / "mappings" / "psp_routing_log.toml"), "--decide"]
    call = lambda state, *rest, env={}: json.loads(subprocess.run(
        [*words, "--state-dir", str(router.dir / state), *rest], check=True, capture_output=True, text=True, env=os.environ | env).stdout.splitlines()[-1])
    here = call("embedded", *replay)
    there = call("kafka", *replay, "--to", "kafka")
    assert here["attempts"] == there["attempts"] == len(rows) and here["feedback"] == len(rows), (here, there)
    assert here["decisions"] == here["payments"] == there["requests"], (here, there)
    windows = {row["psp_id"]: row["windows"] for row in call("embedded", "psp", "list", env={"SMARTROUTER__RUNTIME__LOG": "embedded"})}
    router.config = PROJECT / "deploy" / "january.toml"
    process = router.start()
    feedback = router.read("athia.feedback", lambda records: len(records) >= len(rows), 120)
    assert len(once(feedback, "attempt_id")) == len(rows)
    approved = collections.Counter(record["psp_id"] for _, record in feedback if record["approved"])
    assert dict(approved) == {psp: counts["approved"] for psp, counts in here["by_psp"].items() if counts["approved"]}
    decisions = router.read("routing.decisions", lambda records: len(records) >= here["payments"], 60)
    assert len(once(decisions, "request_id")) == here["payments"]
    ends = max(record["outcome_at"] for _, record in feedback)
    # Silence after the last event moves windows on: what embedded ended with must be among what was published.
    figures = lambda windows: [windows[window][figure] for window in ("last_15m", "last_1h", "last_24h")
                               for figure in ("attempts", "approvals", "soft_declines", "hard_declines", "timeouts", "errors")]
    published = collections.defaultdict(list)
    for _, state in router.read("psp.states"):
        if state["segment"]["kind"] == "ALL":
            published[state["psp_id"]].append(figures(state["windows"]))
    for psp, expected in windows.items():
        assert figures(expected) in published[psp], (psp, figures(expected), published[psp][-3:])
    router.stop(process)


def made_up_history(path):
    """A day of the same shape as the routing log, where that is not at hand."""
    lines = ["id,tmsp,country,amount,success,PSP,3D_secured,card"]
    for number in range(2_000):
        at = datetime.datetime(2019, 1, 1) + datetime.timedelta(seconds=40 * number)
        psp = ("UK_Card", "Simplecard", "Moneycard", "Goldcard")[number % 4]
        lines.append(f"{number},{at:%Y-%m-%d %H:%M:%S},Germany,{50 + number // 2 % 90},{int(number % 5 == 0)},{psp},{number % 2},Visa")
    path.write_text("\n".join(lines) + "\n")
    return path


def broker_of_another_shape(router):
    """Unequal partition counts are refused before anything is read."""
    from confluent_kafka.admin import AdminClient, NewPartitions
    admin = AdminClient({"bootstrap.servers": router.bootstrap})
    for future in admin.create_partitions([NewPartitions(router.prefix + "payment.outcomes", 6)]).values():
        future.result(20)
    known = lambda: len(admin.list_topics(timeout=10).topics[router.prefix + "payment.outcomes"].partitions)
    router.until(lambda: known() == 6, "the broker knows of the new partitions")
    for words in (["run"], ["topics", "check"], ["check"]):
        status, out, err = router.command(*words)
        told = out + err
        assert status in (1, 3) and "payment.outcomes" in told and "6" in told, (words, status, told)


def orders_of_operators(router):
    """A PSP is taken out by hand, stays out over a kill, and is put back by hand; the next decisions and the transitions say so."""
    sent = Payments(router)
    process = router.start()
    # Before anything has happened: it is in force, and lapses by itself.
    assert router.json("psp", "down", "amex", "--reason", "a moment", "--for", "3s", "--execute")["in_force"]
    held = lambda: [row["manual"] for row in router.json("psp", "list") if row["psp_id"] == "amex"]
    router.until(lambda: held() == [None], "the order on amex has lapsed", process)
    sent.traffic(60)
    down = ["psp", "down", "elavon", "--reason", "maintenance", "--by", "ana"]
    plan = router.json(*down)
    assert (plan["to"], plan["executed"], plan["in_force"]) == ("DOWN", False, False), plan
    done = router.json(*down, "--execute")
    assert done["executed"] and done["in_force"], done
    router.kill(process)
    process = router.start()
    before = set(sent.requests)
    sent.traffic(60)
    decisions = router.read("routing.decisions", lambda records: len(records) >= len(sent.requests), 90)
    later = [decision for _, decision in decisions if decision["request_id"] not in before and decision["decided_by"] != "HARD_RULE"]
    assert len(later) > 40, len(later)
    for decision in later:
        skipped = {skip["psp_id"]: skip for skip in decision["skipped"]}
        assert "elavon" not in [ranked["psp_id"] for ranked in decision["ranked"]], decision
        assert skipped["elavon"]["reason"] == "DOWN" and "by order of ana: maintenance" in skipped["elavon"]["detail"], skipped
    status, out, err = router.command("psp", "show", "elavon")
    assert status == 0 and "by order of ana until that is taken back: maintenance" in out, (out, err)
    # What went elsewhere is told once the attempts are counted: by the task of the PSP that they were kept from, apart from the
    # windows of the one that they went to.
    all_counted(router, sent)
    router.until(lambda: all(row["lag"] == 0 for row in router.json("lag")), "all is read", process)
    assert router.json("psp", "up", "elavon", "--reason", "done", "--for", "1h", "--execute")["in_force"]
    of_elavon = lambda records: [record for _, record in records if record["psp_id"] == "elavon"]
    told = of_elavon(router.read("psp.outages", lambda records: len(of_elavon(records)) >= 2))
    assert [(record["from"], record["to"], record["cause"]) for record in told] == [("UP", "DOWN", "MANUAL"), ("DOWN", "UP", "MANUAL")], told
    assert len({record["outage_id"] for record in told}) == 1, told
    went = {entry["psp_id"]: entry["payments"] for entry in told[1]["diverted"]}
    attempts = [psp for attempt, psp in sent.attempts.items() if f"r-{attempt[2:]}" not in before]
    expected = {psp: attempts.count(psp) for psp in ("worldpay", "mit")}
    assert went == expected and "Payments went elsewhere" in told[1]["summary"], (told[1], expected)
    assert router.json("psp", "auto", "elavon", "--execute")["in_force"]
    for words, needle in ((("psp", "down", "nobody", "--reason", "x"), "nobody"), (("psp", "down", "mit", "--segment", "X:Y", "--reason", "x"), "X:Y")):
        status, out, err = router.command(*words)
        assert status in (1, 2) and needle in err, (status, err)
    assert router.stop(process) == 0


def made_up_lesson(path, days):
    """Attempts of some days whose result depends on PSP and brand, in the form of the routing log."""
    luck, lines = random.Random(7), ["id,tmsp,country,amount,success,PSP,3D_secured,card"]
    for number in range(700 * days):
        at = datetime.datetime(2019, 1, 1) + datetime.timedelta(seconds=number * 86_400 // 700)
        psp, card = luck.choice(("UK_Card", "Simplecard", "Moneycard", "Goldcard")), luck.choice(("Visa", "Master", "Diners"))
        chance = {"Goldcard": 0.5, "UK_Card": 0.1}.get(psp, 0.25) + (0.2 if card == "Diners" else 0)
        lines.append(f"{number},{at:%Y-%m-%d %H:%M:%S},Germany,{luck.randrange(20, 300)},{int(luck.random() < chance)},{psp},{luck.randrange(2)},{card}")
    path.write_text("\n".join(lines) + "\n")
    return path


def models_are_promoted_and_rolled_back(router):
    """What a model goes through, as another client reads it on `control.models`: trained, judged, promoted, rolled back, retired."""
    router.config = PROJECT / "deploy" / "january.toml"
    router.env = {"SMARTROUTER__RUNTIME__MODELS_DIR": str(router.dir / "models"), "SMARTROUTER__MODELS__GATE__ROWS_MIN": "500",
                  "SMARTROUTER__MODELS__GATE__ECE_MAX": "0.2", "SMARTROUTER__MODELS__GATE__ROW_US_MAX": "1000000"}
    history = made_up_lesson(router.dir / "lesson.csv", 4)
    build = ["dataset", "build", str(history), "--mapping", str(PROJECT / "deploy" / "mappings" / "psp_routing_log.toml")]
    router.json(*build, "--out", str(router.dir / "learn"), "--to", "2019-01-04")
    router.json(*build, "--out", str(router.dir / "later"), "--from", "2019-01-04")
    for seed in ("1", "2", "3"):
        router.json("train", "--dataset", str(router.dir / "learn"), "--model", "m", "--kind", "logistic", "--trials", "1", "--bags", "1", "--seed", seed)
    listed = lambda: {row["version"]: row for row in router.json("models", "list", "m")}
    stages = lambda: [listed()[version]["stage"] for version in "123"]
    assert stages() == ["candidate"] * 3, listed()
    promote = lambda model, *words, **how: router.json("models", "promote", model, "--by", "ana", *words, **how)
    status, out, err = router.command("models", "promote", "m@1", "--to", "champion", "--execute")
    assert status == 1 and "never judged" in err and "--force" in err, (status, err)
    status, out, err = router.command("models", "promote", "m@4", "--to", "champion", "--force", "--execute")
    assert status == 1 and "m/4 does not exist" in err, (status, err)
    evaluate = ["evaluate", "--dataset", str(router.dir / "later"), "--model"]
    judged = router.json(*evaluate, "m@1", "--gate")
    assert judged["gate"]["blessed"] and judged["gate"]["champion"] is None and judged["auc"] > 0.6, judged
    plan = promote("m@1", "--to", "champion")
    assert (plan["after"]["champion"], plan["executed"]) == ("1", False) and stages() == ["candidate"] * 3, plan
    assert promote("m@1", "--to", "champion", "--execute")["executed"]
    # It was judged without a champion, and now there is one; the rules ask for more than it can have.
    router.json(*evaluate, "m@2", "--gate", "--against", "m@3")
    status, out, err = router.command("models", "promote", "m@2", "--to", "champion")
    assert status == 1 and "judged against m@3, and m@1 is the champion now" in err, (status, err)
    router.env["SMARTROUTER__MODELS__GATE__AUC_GAIN_MIN"] = "0.4"
    judged = router.json(*evaluate, "m@2", "--gate", status=3)
    assert judged["gate"]["champion"] == "m@1" and [check["rule"] for check in judged["gate"]["checks"] if not check["holds"]] == ["auc_gain_min"], judged
    status, out, err = router.command("models", "promote", "m@2", "--to", "canary", "--share", "0.05")
    assert status == 1 and "rejected: auc_gain_min" in err, (status, err)
    assert promote("m@3", "--to", "shadow", "--execute")["after"]["shadows"] == ["3"]
    forced = promote("m@2", "--to", "canary", "--share", "0.05", "--force", "--execute", "--reason", "a test")
    assert forced["forced"] and forced["after"]["canary"] == {"version": "2", "share": 0.05}, forced
    assert promote("m@2", "--to", "champion", "--force", "--execute")["after"] == {"champion": "2", "canary": None, "shadows": ["3"]}
    assert stages() == ["retired", "champion", "shadow"] and listed()["2"]["forced"] and listed()["2"]["gate"] == "rejected", listed()
    weights = router.dir / "models" / "m" / "1" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    status, out, err = router.command("models", "rollback", "m", "--execute")
    assert status == 1 and "m@1 is refused" in err and "weights.safetensors" in err, (status, err)
    assert router.json("models", "show", "m@1", status=3)["problem"]
    weights.write_bytes(whole)
    back = router.json("models", "rollback", "m", "--execute", "--by", "ben", "--reason", "declines")
    assert (back["before"]["champion"], back["after"]["champion"]) == ("2", "1"), back
    assert stages() == ["champion", "retired", "shadow"], listed()
    status, out, err = router.command("models", "rollback", "m")
    assert status == 1 and "no champion before it" in err, (status, err)
    shown = router.json("models", "show", "m@1")
    assert shown["ok"] and shown["stage"] == "champion" and shown["by"] == "ben" and shown["card"]["kind"] == "logistic", shown["stage"]
    differences = router.json("models", "diff", "m@1", "m@2")["differences"]
    assert "seed" in {row["what"] for row in differences}, differences
    compared = router.json("compare", "--dataset", str(router.dir / "later"), "m@1", "m@2")
    assert compared["differences"][0]["against"] == "m@1" and len(compared["models"]) == 2, compared
    assert router.json("models", "retire", "m@1", "--execute")["after"]["champion"] is None
    # The superseded one was retired first: it does not come back, for this fold or for another's.
    told = [(message.key().decode(), record["stage"], json.loads(record["body_json"])) for message, record in router.read("control.models")]
    assert [(key, stage) for key, stage, _ in told] == [
        ("m@1", "ACTIVE"), ("m@3", "SHADOW"), ("m@2", "CANARY"), ("m@2", "ACTIVE"), ("m@1", "ACTIVE"), ("m@2", "RETIRED"), ("m@1", "RETIRED")], told
    assert told[2][2] == {"share": 0.05, "reason": "a test", "forced": True} and told[3][2] == {"forced": True, "after": "1"}, told
    assert stages() == ["retired", "retired", "shadow"], listed()
    # Without a broker versions are listed all the same.
    status, out, err = router.command("models", "list", bootstrap="127.0.0.1:1")
    assert status == 0 and out.count("unknown") == 3 and "stages are unknown" in err, (status, out, err)


def models_swap_in_two_instances(router):
    """The model that ships is promoted, another one looks on, takes over and is rolled back, in two instances of which one is killed
    meanwhile: both end on the same version, and no decision is lost."""
    name, models = "processor_selector", router.dir / "models"
    for version in ("1", "2"):
        shutil.copytree(PROJECT / "models" / name / "1", models / name / version)
    router.env = {"SMARTROUTER__RUNTIME__MODELS_DIR": str(models), "SMARTROUTER__POLICY__RANKING": "model"}
    start = lambda instance: router.start(instance, env=router.env)
    one, two = start("one"), start("two")
    sent = Payments(router)
    pattern = re.compile(r'smartrouter_model_in_use\{([^}]*)\} 1\b')
    label = lambda labels, key: re.search(rf'{key}="([^"]*)"', labels)[1]
    in_use = lambda process: {(label(it, "model"), label(it, "stage")) for it in pattern.findall(router.get(process, "/metrics")[1])}

    def ordered(*words, seen_by, expected):
        assert router.json("models", *words, "--by", "ana", "--execute")["executed"]
        for process in seen_by:
            begun = time.time()
            router.until(lambda: in_use(process) == expected, f"{words}: {expected}", process)
            print(f"{' '.join(words)}: in use {time.time() - begun:.2f} s after the command, instance at {process.admin}")

    def decided_by(count):
        before = set(sent.requests)
        sent.traffic(count)
        records = router.read("routing.decisions", lambda records: len(records) >= len(sent.requests), 90)
        new = [decision for _, decision in records if decision["request_id"] not in before and decision["decided_by"] != "HARD_RULE"]
        return {(decision["decided_by"], decision["versions"]["model"]) for decision in new}

    first, second = (f"{name}@1", "champion"), (f"{name}@2", "champion")
    assert {by for by, _ in decided_by(60)} <= {"WINDOWED_RATE", "STATIC_RULE"}
    ordered("promote", f"{name}@1", "--to", "champion", "--force", seen_by=(one, two), expected={first})
    assert decided_by(60) == {("MODEL", f"{name}@1")}
    ordered("promote", f"{name}@2", "--to", "shadow", seen_by=(one, two), expected={first, (f"{name}@2", "shadow")})
    assert decided_by(60) == {("MODEL", f"{name}@1")}, "a shadow decides nothing"
    router.kill(two)
    ordered("promote", f"{name}@2", "--to", "champion", "--force", seen_by=(one,), expected={second})
    two = start("two")
    router.until(lambda: in_use(two) == {second}, "the one that was killed has the new champion", two)
    assert decided_by(60) == {("MODEL", f"{name}@2")}
    ordered("rollback", name, seen_by=(one, two), expected={first})
    assert decided_by(60) == {("MODEL", f"{name}@1")}
    all_counted(router, sent)
    shadows = [record for _, record in router.read("athia.predictions", lambda records: len(records) > len(sent.requests)) if record["shadow"]]
    assert shadows and {record["model"] for record in shadows} == {f"{name}@2"}, len(shadows)
    # A decision in words, with what mattered.
    request = list(sent.requests)[-1]
    status, out, err = router.command("explain", request)
    assert status == 0 and f"by {name}@1" in out and "mattered for" in out and "came of it" in out, (out, err)
    told = router.json("explain", request)["decisions"]
    assert len(told) == 1 and told[0]["decision"]["request_id"] == request and told[0]["effects"], told
    status, out, err = router.command("explain", "nobody")
    assert status == 2 and "no decision, request or payment" in err, (status, err)
    assert 'smartrouter_feature{' in router.get(one, "/metrics")[1] + router.get(two, "/metrics")[1]
    assert router.stop(one) == 0 and router.stop(two) == 0


def simulated_outage(router):
    """At the default configuration: calm raises no alarm, and a PSP that fails every payment is left on the word of the sequential test,
    not of the seed rule. Answers to payments from before the outage still come with the first failures, and an attempt that is never
    answered fails late: the first step may be to DEGRADED."""
    process = router.start()
    simulate = lambda *words: router.json("simulate", "--rate", "30", *words)
    report = simulate("--duration", "20", "--seed", "3")
    assert report["attempts"] > 300, report
    # Of every segment the steps that it has made: an empty topic may be one that was not read yet.
    rows = router.json("psp", "list", "--segments")
    counted = sum(row["windows"]["last_24h"]["attempts"] for row in rows if row["segment"]["kind"] == "ALL")
    assert counted > 300 and all(row["version"] == 0 for row in rows), [row for row in rows if row["version"]] or counted
    begun = datetime.datetime.now(datetime.timezone.utc)
    scenario = router.dir / "outage.toml"
    scenario.write_text("name = 'test'\n[[outages]]\npsp = 'worldpay'\nfrom_ms = 5000\nto_ms = 25000\nfault = { kind = 'total' }\n")
    simulate("--duration", "25", "--seed", "4", "--scenario", str(scenario))
    told = [record for _, record in router.read("psp.outages", lambda records: any(record["to"] == "DOWN" for _, record in records))]
    told.sort(key=lambda record: record["at"])
    first = told[0]
    evidence = first["evidence"]
    assert first["from"] == "UP" and first["to"] in ("DEGRADED", "DOWN") and first["cause"] in ("ERRORS", "TIMEOUTS", "SILENCE"), first
    assert any(record["to"] == "DOWN" for record in told), told
    # In nats, of which the seed rule's shares have no more than one.
    assert evidence["statistic"] >= evidence["threshold"] > 1, first
    assert evidence["failures"] >= 5, first
    assert {record["psp_id"] for record in told} == {"worldpay"}, told
    # Steps are told in tiles of ten seconds.
    assert first["at"] >= begun - datetime.timedelta(seconds=10), first
    skips = lambda decision: any((skipped["psp_id"], skipped["reason"]) == ("worldpay", "DOWN") for skipped in decision["skipped"])
    avoided = [decision for _, decision in router.read("routing.decisions", lambda records: any(skips(decision) for _, decision in records))
               if skips(decision)]
    assert avoided, "nothing was kept away from a PSP that is down"
    taken = [decision for decision in avoided if decision["ranked"][0]["psp_id"] == "worldpay" and decision["decided_by"] != "RECOVERY_SAMPLE"]
    assert not taken, taken[:3]
    history = router.json("psp", "history", "worldpay")
    steps = lambda rows: [row["to"] for row in rows if row["segment"]["kind"] == "ALL"]
    assert steps(history)[:len(steps(told))] == steps(told), history
    assert router.json("psp", "history", "--last", "1")[0]["at"] == history[-1]["at"] and router.json("psp", "history", "amex") == []
    status, out, err = router.command("psp", "show", "worldpay")
    assert status == 0 and "worldpay is" in out and "for all traffic since" in out, (out, err)
    status, out, err = router.command("psp", "history", "nobody")
    assert status == 1 and "nobody" in err, (out, err)
    assert router.stop(process) == 0


CHECKS = [stop_and_start, killed_while_working, killed_and_replaced, dead_letters_and_redrive, wrong_use, history_both_ways,
          broker_of_another_shape, orders_of_operators, models_are_promoted_and_rolled_back, models_swap_in_two_instances,
          simulated_outage]


def main(checks):
    binary, bootstrap, *names = sys.argv[1:]
    failed = 0
    for check in checks:
        if names and check.__name__ not in names:
            continue
        router, begun = Router(binary, bootstrap), time.time()
        try:
            status, out, err = router.command("topics", "apply", "--execute")
            assert status == 0, (out, err)
            check(router)
            print(f"ok   {check.__name__} ({time.time() - begun:.0f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {check.__name__}\n{traceback.format_exc()}", flush=True)
        else:
            # What failed leaves its logs and states.
            router.close()
            shutil.rmtree(router.dir)
        finally:
            router.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(CHECKS))
