#!/usr/bin/env python3
"""The reports of a local warehouse, computed in Python from the rows in its files, against what `smartrouter report` says:
`reports.py BINARY STATE_DIR`. Intervals, areas and baselines are computed here from their definitions."""
import collections
import datetime
import json
import math

from analysts import auc, followers, grouped, mean, percentile, probability, rows, said, same, session_summary, stage_outcomes

Z = 1.959963984540054
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
EPOCH = datetime.datetime(1970, 1, 1)


def report(*words):
    return json.loads(said("--output", "json", "report", *words).splitlines()[-1])


def millis(time):
    return round((time - EPOCH) / datetime.timedelta(milliseconds=1))


def wilson(successes, trials):
    """The two shares at which the observed one is Z standard errors away, found by bisection."""
    if not trials:
        return None
    share = successes / trials
    far = lambda p: abs(share - p) - Z * math.sqrt(p * (1 - p) / trials)

    def edge(inside, outside):
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if far(middle) < 0 else (inside, middle)
        return inside

    return {"value": share, "low": 0.0 if share == 0 else edge(share, 0.0), "high": 1.0 if share == 1 else edge(share, 1.0)}


def above(one, other):
    one, other = wilson(*one), wilson(*other)
    if one is None or other is None:
        return None
    value = one["value"] - other["value"]
    low = value - math.sqrt((one["value"] - one["low"]) ** 2 + (other["high"] - other["value"]) ** 2)
    high = value + math.sqrt((one["high"] - one["value"]) ** 2 + (other["value"] - other["low"]) ** 2)
    return {"value": value, "low": low, "high": high}


def agree(name, expected, found):
    if isinstance(expected, dict) and isinstance(found, dict):
        assert expected.keys() == found.keys(), f"{name}: {sorted(expected.keys() ^ found.keys())}"
        for key in expected:
            agree(f"{name}.{key}", expected[key], found[key])
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(expected) == len(found), f"{name}: {len(found)} entries, expected {len(expected)}"
        for place, (one, other) in enumerate(zip(expected, found)):
            agree(f"{name}[{place}]", one, other)
    else:
        assert same(expected, found), f"{name} is {found!r}, expected {expected!r}"


def counted(attempts):
    return sum(it["approved"] for it in attempts), len(attempts)


def bucket(attempts, psp, start, end, past):
    of = [it for it in attempts if psp in ("(all)", it["psp_id"])]
    now = counted([it for it in of if start <= it["attempted_at"] < end])
    before = counted([it for it in of if start - past <= it["attempted_at"] < start])
    difference = above(now, before)
    return {"psp_id": psp, "at": millis(start), "attempts": now[1], "approvals": now[0], "approval_rate": wilson(*now),
            "baseline": before[0] / before[1] if before[1] else None, "baseline_attempts": before[1], "above_baseline": difference,
            "stands_out": now[1] >= 30 and difference is not None and (difference["low"] > 0 or difference["high"] < 0)}


def approval(stages, first_only, days, start=None, end=None):
    attempts = [it for it in stages if it["stage"] == 1 or not first_only]
    floor = lambda time: time.replace(minute=0, second=0, microsecond=0)
    within = [floor(it["attempted_at"]) for it in attempts if (start is None or it["attempted_at"] >= start) and (end is None or it["attempted_at"] < end)]
    first, last, past = min(within), max(within) + HOUR, days * DAY
    psps = ["(all)"] + sorted({it["psp_id"] for it in attempts})
    hours = [first + n * HOUR for n in range(round((last - first) / HOUR))]
    midnight = first.replace(hour=0)
    dates = [midnight + n * DAY for n in range((last - midnight) // DAY + 1)]
    some = lambda buckets: [it for it in buckets if it["attempts"]]
    return {"from": millis(first), "to": millis(last), "baseline_days": days, "first_attempts": first_only,
            "psps": some(bucket(attempts, psp, first, last, past) for psp in psps),
            "days": some(bucket(attempts, psp, max(date, first), min(date + DAY, last), past) for psp in psps for date in dates if date < last),
            "hours": some(bucket(attempts, psp, hour, hour + HOUR, past) for psp in psps for hour in hours)}


def figures(found):
    scored = [it for it in found if it["p"] is not None and it["y"] is not None]
    first = [it for it in found if it["took_first"]]
    clip = lambda p: min(max(p, 1e-12), 1 - 1e-12)
    return {"predictions": len(found), "confidence": mean(it["confidence"] for it in found if it["confidence"] is not None),
            "first_choices": len(first), "rank_accuracy": wilson(sum(it["y"] for it in first), len(first)), "attempts": len(scored),
            "approvals": sum(it["y"] for it in scored), "predicted": mean(it["p"] for it in scored),
            "approval_rate": wilson(sum(it["y"] for it in scored), len(scored)),
            "log_loss": mean(-math.log(clip(it["p"]) if it["y"] else 1 - clip(it["p"])) for it in scored),
            "brier": mean((it["p"] - it["y"]) ** 2 for it in scored), "auc": auc(scored),
            "latency_us_p50": percentile([it["us"] for it in found], 0.5), "latency_us_p95": percentile([it["us"] for it in found], 0.95)}


def scored(predictions, first):
    told = []
    for p in predictions:
        f = first.get(p["decision_id"])
        told.append({"model": p["model"], "shadow": p["shadow"], "day": str(p["scored_at"].date()), "us": p["latency_us"], "confidence": probability(p, p["chosen"]),
                     "took_first": f is not None and f["psp_id"] == p["chosen"], "y": None if f is None else int(f["approved"]),
                     "p": None if f is None else probability(p, f["psp_id"])})
    return told


def check_model(predictions, first):
    found = scored(predictions, first)
    told = report("model")
    order = lambda it: (it["slice"], it["model"], it["shadow"])
    expected = [{"model": model, "shadow": shadow, "slice": "ALL"} | figures(of) for (model, shadow), of in grouped(found, "model", "shadow").items()]
    agree("models", sorted(expected, key=order), sorted(told["models"], key=order))
    expected = [{"model": model, "shadow": shadow, "slice": day} | figures(of) for (model, shadow, day), of in grouped(found, "model", "shadow", "day").items()]
    agree("days", sorted(expected, key=order), sorted(told["days"], key=order))
    bins = grouped([it | {"bin": min(int(it["p"] * 10), 9)} for it in found if it["p"] is not None and it["y"] is not None], "model", "shadow", "bin")
    expected = []
    for (model, shadow, place), of in sorted(bins.items()):
        predicted, rate = mean(it["p"] for it in of), wilson(sum(it["y"] for it in of), len(of))
        expected.append({"model": model, "shadow": shadow, "from": place / 10, "to": (place + 1) / 10, "attempts": len(of), "approvals": sum(it["y"] for it in of),
                         "predicted": predicted, "approval_rate": rate, "is_off": not rate["low"] <= predicted <= rate["high"]})
    agree("calibration", expected, told["calibration"])


WAITS = [(10, "under 10 s"), (60, "10 s to 1 min"), (600, "1 to 10 min"), (3600, "10 min to 1 h"), (86400, "1 h to 1 day"), (math.inf, "a day and more")]


def groups(retries, name, order=None):
    told = collections.defaultdict(list)
    for it in retries:
        told[name(it)].append(it)
    names = sorted(told, key=(lambda it: [wait for _, wait in WAITS].index(it)) if order else None)
    return [{"name": it, "attempts": len(told[it]), "approvals": counted(told[it])[0], "approval_rate": wilson(*counted(told[it]))} for it in names]


def retries(stages):
    sessions = session_summary(stages)
    again = [it for it in stages if it["stage"] > 1]
    tried = [it for it in sessions if not it["approved_at_first"] and it["attempts"] > 1]
    recovered = [it for it in tried if it["approved"]]
    at_first = sum(it["approved_at_first"] for it in sessions)
    days = []
    for (day,), of in sorted(grouped([it | {"day": str(it["first_attempted_at"].date())} for it in sessions], "day").items()):
        again_of = [it for it in of if not it["approved_at_first"] and it["attempts"] > 1]
        saved = sum(it["approved"] for it in again_of)
        days.append({"day": day, "payments": len(of), "approved_at_first": sum(it["approved_at_first"] for it in of), "retried": len(again_of),
                     "recovered": saved, "success": wilson(saved, len(again_of))})
    chains = []
    for (stage, before, category, psp), of in grouped([it | {"category": it["previous_error_category"] or ""} for it in again], "stage", "previous_psp_id", "category", "psp_id").items():
        chains.append({"stage": stage, "previous_psp_id": before, "previous_category": category, "psp_id": psp, "attempts": len(of),
                       "approvals": counted(of)[0], "approval_rate": wilson(*counted(of))})
    wait = lambda it: next(name for limit, name in WAITS if it["since_previous_ms"] < limit * 1000)
    return {"payments": len(sessions), "approved_at_first": at_first, "retried": len(tried), "recovered": len(recovered),
            "success": wilson(len(recovered), len(tried)), "approval_rate": wilson(at_first + len(recovered), len(sessions)),
            "approval_rate_at_first": wilson(at_first, len(sessions)),
            "groups": {"stage": groups(again, lambda it: f"attempt {it['stage']}"),
                       "category before": groups(again, lambda it: it["previous_error_category"] or "no category told"),
                       "decline before": groups(again, lambda it: it["previous_hard_soft"] or "neither hard nor soft"),
                       "PSP": groups(again, lambda it: "the same again" if it["psp_id"] == it["previous_psp_id"] else "another"),
                       "wait": groups(again, wait, order=True)},
            "chains": chains, "days": days}


def check_retries(stages):
    told, expected = report("retries"), retries(stages)
    key = lambda it: (it["stage"], it["previous_psp_id"], it["previous_category"], it["psp_id"])
    for it in (told, expected):
        it["chains"] = sorted(it["chains"], key=key)
    agree("retries", expected, told)


def taken(of):
    approvals, attempts = sum(it["y"] for it in of), len(of)
    return {"attempts": attempts, "approvals": approvals, "approval_rate": wilson(approvals, attempts)}


def pair(names, kind, name, of):
    both = [it for it in of if None not in (it["y"], it["champion"], it["shadow"])]
    loss = lambda p, y: -math.log(max(p, 1e-12) if y else 1 - min(p, 1 - 1e-12))
    say = lambda who: {"predicted": mean(it[who] for it in both), "log_loss": mean(loss(it[who], it["y"]) for it in both),
                       "brier": mean((it[who] - it["y"]) ** 2 for it in both), "auc": auc([{"p": it[who], "y": it["y"]} for it in both])}
    less = [loss(it["champion"], it["y"]) - loss(it["shadow"], it["y"]) for it in both]
    interval = None
    if len(less) > 1:
        half = 1.96 * math.sqrt(sum((it - mean(less)) ** 2 for it in less) / (len(less) - 1) / len(less))
        interval = {"value": mean(less), "low": mean(less) - half, "high": mean(less) + half}
    known = [it for it in of if it["y"] is not None]
    return {"shadow_model": names[0], "champion_model": names[1], "kind": kind, "slice": name, "decisions": len(of),
            "agreement": wilson(sum(it["agree"] for it in of), len(of)), "attempts": len(both), "approvals": sum(it["y"] for it in both),
            "approval_rate": wilson(sum(it["y"] for it in both), len(both)), "champion": say("champion"), "shadow": say("shadow"), "log_loss_less": interval,
            "agreed": taken([it for it in known if it["agree"] and it["psp"] == it["champion_choice"]]),
            "champion_alone": taken([it for it in known if not it["agree"] and it["psp"] == it["champion_choice"]]),
            "shadow_alone": taken([it for it in known if not it["agree"] and it["psp"] == it["shadow_choice"]])}


def check_shadow(predictions, first):
    champions = {it["decision_id"]: it for it in predictions if not it["shadow"]}
    found = []
    for s in predictions:
        c = champions.get(s["decision_id"])
        if not s["shadow"] or c is None:
            continue
        f = first.get(s["decision_id"])
        psp = None if f is None else f["psp_id"]
        found.append({"names": (s["model"], c["model"]), "day": str(c["scored_at"].date()), "agree": s["chosen"] == c["chosen"], "psp": psp, "y": None if f is None else int(f["approved"]),
                      "champion": psp and probability(c, psp), "shadow": psp and probability(s, psp), "champion_choice": c["chosen"], "shadow_choice": s["chosen"]})
    if not found:
        return "no shadow"
    expected = [pair(names, "ALL", "", of) for (names,), of in grouped(found, "names").items()]
    expected += [pair(names, "DAY", day, of) for (names, day), of in grouped(found, "names", "day").items()]
    expected += [pair(names, "PSP", psp, of) for (names, psp), of in grouped([it for it in found if it["psp"]], "names", "psp").items()]
    order = lambda it: (it["shadow_model"], it["champion_model"], it["kind"], it["slice"])
    agree("shadow", sorted(expected, key=order), sorted(report("shadow")["pairs"], key=order))
    return f"{len(found)} shadow predictions"


def main():
    stages, predictions = stage_outcomes(rows("ATHIA_FEEDBACK")), rows("ATHIA_PREDICTIONS")
    first = followers(stages)
    agree("approval", approval(stages, False, 7), report("approval"))
    last = max(it["attempted_at"] for it in stages)
    start = (last - DAY / 2).replace(minute=0, second=0, microsecond=0)
    if start > min(it["attempted_at"] for it in stages):
        words = ("--from", str(start), "--to", str(last.replace(microsecond=0)), "--baseline-days", "1", "--first-attempts")
        agree("approval of a time", approval(stages, True, 1, start, last.replace(microsecond=0)), report("approval", *words))
    check_model(predictions, first)
    check_retries(stages)
    print(check_shadow(predictions, first))
    print("all reports agree")


main()
