"""What has to come out, worked out from the truth alone.

An expectation of its own, in a few lines and without the engine's code: each attempt has one result, at its outcome's time or, when
that did not come in time, at its deadline; each result counts once in its PSP's total and in each of its segments; a window holds the
tiles that end at its own time.

Then the engine's own word (`replayed`): the attempts, in the order of their times and without what was sent twice, too early or not at
all, once through `smartrouter replay`, where nothing is ever killed and time is the records' alone. Its windows have to be those that
were published under fire, latency quantiles included, which the expectation above does not know. Orphans it cannot replay, a row being
an attempt: they count in the totals of a PSP alone, so its segments are compared.
"""
import collections
import json
import os
import shutil
import subprocess

from traffic import DEADLINE_MS

MAPPING = """
format = "json_lines"
time_zone = "UTC"
[fields]
attempt_id = { column = "attempt_id" }
attempt_number = { column = "attempt_number" }
psp_id = { column = "psp" }
attempted_at = { column = "attempted_at", time = "epoch_ms" }
occurred_at = { column = "occurred_at", time = "epoch_ms" }
latency_ms = { column = "latency_ms", default = 0 }
status = { column = "status" }
error_code = { column = "error_code" }
[fields.payment]
payment_id = { column = "payment.payment_id" }
order_id = { column = "payment.order_id" }
merchant_id = { column = "payment.merchant_id" }
customer_id = { column = "payment.customer_id" }
amount_minor = { column = "payment.amount_minor" }
currency = { column = "payment.currency" }
method = { column = "payment.method" }
sub_method = { column = "payment.sub_method" }
card.bin = { column = "payment.card.bin" }
card.brand = { column = "payment.card.brand" }
card.issuer_country = { column = "payment.card.issuer_country" }
message.initiator = { column = "payment.message.initiator" }
"""

FIGURES = ("attempts", "approvals", "soft_declines", "hard_declines", "timeouts", "errors")
# Tile length in milliseconds, and tiles of a window.
WINDOWS = {"last_15m": (10_000, 90), "last_1h": (60_000, 60), "last_24h": (900_000, 96)}
# Codes of the traffic that are not what their status says: blamed on the network, or final.
CODES = {"96": "errors", "54": "hard_declines"}
BY_STATUS = {"APPROVED": "approvals", "DECLINED": "soft_declines", "ERROR": "errors", "TIMEOUT": "timeouts"}
LEGAL = {("UP", "DEGRADED"), ("UP", "DOWN"), ("DEGRADED", "UP"), ("DEGRADED", "DOWN"), ("DOWN", "RECOVERING"), ("RECOVERING", "UP"), ("RECOVERING", "DOWN")}


def result(attempt):
    """When an attempt counts, and as what."""
    outcome = attempt["outcome"]
    if attempt["kind"] in ("lost", "late"):
        return attempt["attempted_at"] + DEADLINE_MS, "timeouts"
    counted_as = CODES.get(outcome["error_code"]) if outcome["status"] == "DECLINED" else None
    return outcome["occurred_at"], counted_as or BY_STATUS[outcome["status"]]


def segments(attempt):
    yield "ALL", ""
    if attempt["kind"] == "orphan":
        return
    payment = attempt["payment"]
    named = {"BRAND": payment["card"]["brand"], "CURRENCY": payment["currency"], "METHOD": payment["method"], "SUB_METHOD": payment["sub_method"],
             "ISSUER_COUNTRY": payment["card"]["issuer_country"], "MERCHANT": payment["merchant_id"]}
    named["PAIR"] = "+".join((named["BRAND"], named["ISSUER_COUNTRY"])) if named["BRAND"] and named["ISSUER_COUNTRY"] else None
    yield from ((kind, value) for kind, value in named.items() if value)


def results(traffic):
    """All results by (psp, kind, value): [(time, figure)]."""
    found = collections.defaultdict(list)
    for attempt in traffic.attempts.values():
        for kind, value in segments(attempt):
            found[(attempt["psp"], kind, value)].append(result(attempt))
    return found


def window(results, name, now):
    """The figures of one window that stands at `now`."""
    tile_ms, tiles = WINDOWS[name]
    first = now // tile_ms - tiles + 1
    counted = collections.Counter(figure for at, figure in results if at // tile_ms >= first)
    counted["attempts"] = sum(counted.values())
    return {figure: counted[figure] for figure in FIGURES}


def feedback(attempt):
    """The status and the mark of a time-out that an attempt's one feedback record has to bear."""
    outcome = attempt["outcome"]
    return (outcome["status"] if outcome else "TIMEOUT"), attempt["kind"] in ("lost", "late")


def replayed(router, traffic):
    """Windows over 24 hours of every segment, by (psp, kind, value), as a replay of the truth ends in them."""
    rows = []
    for attempt_id, attempt in traffic.attempts.items():
        if attempt["kind"] == "orphan":
            continue
        outcome = attempt["outcome"] if attempt["kind"] == "answered" else {}
        told = {name: outcome.get(name) for name in ("status", "error_code", "latency_ms", "occurred_at")}
        number = int(attempt_id[1:attempt_id.index("-")])
        rows.append({"attempt_id": attempt_id, "attempt_number": number, "psp": attempt["psp"], "attempted_at": attempt["attempted_at"],
                     "payment": attempt["payment"]} | told)
    rows.sort(key=lambda row: row["attempted_at"])
    # The end of time, for every partition of the replay: at a PSP that is nobody's.
    last = max(rows, key=lambda row: row["attempted_at"])
    rows += [last | {"attempt_id": f"a1-end{number}", "psp": "nobody", "payment": last["payment"] | {"payment_id": f"end{number}", "customer_id": None}}
             for number in range(100)]
    shutil.rmtree(router.dir / "replayed", ignore_errors=True)
    history, mapping = router.dir / "truth.jsonl", router.dir / "truth.toml"
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mapping.write_text(MAPPING)
    words = [router.binary, "-c", str(router.config), "--state-dir", str(router.dir / "replayed"), "--output", "json"]
    call = lambda *rest: json.loads(subprocess.run([*words, *rest], check=True, capture_output=True, text=True,
                                                   env=os.environ | {"SMARTROUTER__RUNTIME__LOG": "embedded"}).stdout.splitlines()[-1])
    report = call("replay", str(history), "--mapping", str(mapping))
    assert report["rejected"] == 0 and report["attempts"] == len(rows), report
    states = call("psp", "list", "--segments")
    return {(state["psp_id"], state["segment"]["kind"], state["segment"]["value"]): state["windows"]["last_24h"] for state in states}
