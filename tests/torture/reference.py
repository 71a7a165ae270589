"""What has to come out, worked out from the truth alone.

An expectation of its own, in a few lines and without the engine's code: each attempt has one result, at its outcome's time or, when
that did not come in time, at its deadline; each result counts once in its PSP's total and in each of its segments; a window holds the
tiles that end at its own time. The engine's own word on the same events, `smartrouter replay`, is compared in `embedded.py`.
"""
import collections

from traffic import DEADLINE_MS

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
