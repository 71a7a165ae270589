#!/usr/bin/env python3
"""The derived tables of a local warehouse, computed in Python from the rows in its files, against what the router's SQL says:
`analysts.py BINARY STATE_DIR`. Only reading Parquet is DuckDB's here; nothing of our SQL is used for what is expected."""
import collections
import datetime
import json
import math
import os
import pathlib
import subprocess
import sys

import duckdb

BINARY, STATE = sys.argv[1], sys.argv[2]
ENVIRONMENT = os.environ | {"SMARTROUTER__WAREHOUSE__QUERY_PROGRAMS": json.dumps([sys.executable]), "SMARTROUTER__RUNTIME__LOG": "embedded"}
MS = datetime.timedelta(milliseconds=1)


def said(*words):
    done = subprocess.run([BINARY, "--state-dir", STATE, *words], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def rows(table):
    """What lies in the files, as dictionaries; timestamps are naive and UTC."""
    directory = pathlib.Path(STATE) / "warehouse" / table
    if not directory.is_dir():
        return []
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    found = connection.execute(f"SELECT * FROM read_parquet('{directory}/*/*.parquet', hive_partitioning = true, union_by_name = true)")
    names = [column[0] for column in found.description]
    plain = lambda value: value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value
    return [dict(zip(names, map(plain, row))) for row in found.fetchall()]


def grouped(found, *keys):
    groups = collections.defaultdict(list)
    for row in found:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def percentile(values, share):
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (place - low)


def stage_outcomes(feedback):
    first = {}
    for row in sorted(feedback, key=lambda it: (it["outcome_at"], it["topic"], it["partition"], it["offset"])):
        first.setdefault((row["payment_id"], row["attempt_id"]), row)
    told = []
    for attempts in grouped(first.values(), "payment_id").values():
        attempts.sort(key=lambda it: (it["attempted_at"], it["outcome_at"], it["attempt_id"]))
        begun = min(it["attempted_at"] for it in attempts)
        for stage, row in enumerate(attempts, 1):
            before = attempts[stage - 2] if stage > 1 else {}
            told.append({"payment_id": row["payment_id"], "stage": stage, "attempt_id": row["attempt_id"], "decision_id": row["decision_id"],
                         "rank_taken": row["rank_taken"], "psp_id": row["psp_id"], "previous_psp_id": before.get("psp_id"),
                         "previous_error_code": before.get("error_code"), "previous_error_category": before.get("error_category"),
                         "previous_hard_soft": before.get("hard_soft"), "approved": row["approved"], "status": row["status"],
                         "error_code": row["error_code"], "error_category": row["error_category"], "hard_soft": row["hard_soft"],
                         "timed_out": row["timed_out"], "amount_minor": row["amount_minor"], "currency": row["currency"],
                         "fee_minor": row["fee_minor"], "latency_ms": row["latency_ms"], "attempted_at": row["attempted_at"],
                         "outcome_at": row["outcome_at"], "since_first_ms": (row["attempted_at"] - begun) // MS,
                         "since_previous_ms": (row["attempted_at"] - before["attempted_at"]) // MS if before else None})
    return told


def session_summary(stages):
    told = []
    for (payment,), attempts in grouped(stages, "payment_id").items():
        attempts.sort(key=lambda it: it["stage"])
        approved = [it for it in attempts if it["approved"]]
        fees = [it["fee_minor"] for it in attempts if it["fee_minor"] is not None]
        known = lambda key: max((it[key] for it in attempts if it[key] is not None), default=None)
        begun, ended = min(it["attempted_at"] for it in attempts), max(it["outcome_at"] for it in attempts)
        told.append({"payment_id": payment, "path": " > ".join(it["psp_id"] for it in attempts), "attempts": len(attempts),
                     "attempts_decided": sum(it["decision_id"] is not None for it in attempts), "psps": len({it["psp_id"] for it in attempts}),
                     "approved": bool(approved), "approved_psp_id": max((it["psp_id"] for it in approved), default=None),
                     "approved_at_first": attempts[0]["approved"], "timeouts": sum(it["status"] == "TIMEOUT" for it in attempts),
                     "amount_minor": known("amount_minor"), "currency": known("currency"), "fees_minor": sum(fees), "fees_known": len(fees),
                     "first_attempted_at": begun, "last_outcome_at": ended, "elapsed_ms": (ended - begun) // MS})
    return told


def multi_stage_analysis(stages):
    told = []
    for key, of in grouped(stages, "stage", "psp_id", "previous_psp_id", "previous_error_category").items():
        approvals = sum(it["approved"] for it in of)
        told.append(dict(zip(("stage", "psp_id", "previous_psp_id", "previous_error_category"), key)) | {
            "attempts": len(of), "approvals": approvals, "approval_rate": approvals / len(of), "timeouts": sum(it["status"] == "TIMEOUT" for it in of),
            "since_previous_ms_mean": mean(it["since_previous_ms"] for it in of if it["since_previous_ms"] is not None),
            "latency_ms_mean": mean(it["latency_ms"] for it in of)})
    return told


def followers(stages):
    """Of each decision the first attempt that followed it."""
    first = {}
    for row in sorted(stages, key=lambda it: (it["attempted_at"], it["outcome_at"], it["attempt_id"])):
        if row["decision_id"] is not None:
            first.setdefault(row["decision_id"], row)
    return first


def of_taken(prediction, psp, key):
    place = prediction["candidate_psp_ids"].index(psp) if psp in prediction["candidate_psp_ids"] else None
    return None if place is None else prediction[key][place]


def probability(prediction, psp):
    calibrated = of_taken(prediction, psp, "candidate_probabilities")
    return calibrated if calibrated is not None else of_taken(prediction, psp, "candidate_raw_probabilities")


def training_dataset(predictions, first):
    told = []
    for p in predictions:
        f = first.get(p["decision_id"])
        if f is None or p["shadow"] or not p["feature_version"] or of_taken(p, f["psp_id"], "candidate_features") is None:
            continue
        told.append({"decision_id": p["decision_id"], "payment_id": p["payment_id"], "attempt_id": f["attempt_id"], "model": p["model"],
                     "feature_version": p["feature_version"], "scored_at": p["scored_at"], "attempted_at": f["attempted_at"],
                     "outcome_at": f["outcome_at"], "psp_id": f["psp_id"], "request_features": p["request_features"],
                     "psp_features": of_taken(p, f["psp_id"], "candidate_features"), "probability": probability(p, f["psp_id"]),
                     "propensity": of_taken(p, f["psp_id"], "candidate_propensities") if f["psp_id"] == p["chosen"] else None,
                     "label": f["approved"], "reward": 1.0 if f["approved"] else 0.0, "amount_minor": f["amount_minor"],
                     "currency": f["currency"], "fee_minor": f["fee_minor"]})
    return told


def auc(scored):
    """By comparing every pair, which ranks have no part in."""
    positive = [it["p"] for it in scored if it["y"]]
    negative = collections.Counter(it["p"] for it in scored if not it["y"])
    if not positive or not negative:
        return None
    wins = sum(count * (1.0 if p > q else 0.5 if p == q else 0.0) for p in positive for q, count in negative.items())
    return wins / len(positive) / sum(negative.values())


def model_metrics(predictions, first):
    scored = []
    for p in predictions:
        f = first.get(p["decision_id"])
        chance = None if f is None else probability(p, f["psp_id"])
        if chance is None:
            continue
        slices = ["ALL", f"PSP:{f['psp_id']}"] + ([f"CURRENCY:{f['currency']}"] if f["currency"] is not None else [])
        scored += [{"model": p["model"], "shadow": p["shadow"], "slice": name, "scored_on": p["scored_at"].date(), "p": chance, "y": f["approved"],
                    "chosen": f["psp_id"] == p["chosen"], "us": p["latency_us"]} for name in slices]
    told = []
    for key, of in grouped(scored, "model", "shadow", "slice", "scored_on").items():
        bins = collections.defaultdict(float)
        for it in of:
            bins[min(int(it["p"] * 10), 9)] += it["p"] - it["y"]
        clip = lambda p: min(max(p, 1e-12), 1 - 1e-12)
        approvals = sum(it["y"] for it in of)
        told.append(dict(zip(("model", "shadow", "slice", "scored_on"), key)) | {
            "attempts": len(of), "approvals": approvals, "approval_rate": approvals / len(of), "auc": auc(of),
            "log_loss": mean(-math.log(clip(it["p"]) if it["y"] else 1 - clip(it["p"])) for it in of), "brier": mean((it["p"] - it["y"]) ** 2 for it in of),
            "calibration_error": sum(map(abs, bins.values())) / len(of), "confidence": mean(it["p"] for it in of),
            "rank_accuracy": mean(float(it["y"]) for it in of if it["chosen"]), "followed_rate": mean(float(it["chosen"]) for it in of),
            "latency_us_p50": percentile([it["us"] for it in of], 0.5), "latency_us_p95": percentile([it["us"] for it in of], 0.95)})
    return told


def experiment_lift(decisions, sessions):
    sessions = {it["payment_id"]: it for it in sessions}
    assigned = {}
    for d in sorted(decisions, key=lambda it: (it["decided_at"], it["decision_id"])):
        if d["experiment_id"] is not None:
            assigned.setdefault((d["experiment_id"], d["payment_id"]), d)
    found = [d | {"day": d["decided_at"].date(), "session": sessions[d["payment_id"]]} for d in assigned.values() if d["payment_id"] in sessions]
    groups = grouped(found, "experiment_id", "experiment_variant", "experiment_shadow", "day")
    rate = lambda of: sum(it["session"]["approved"] for it in of) / len(of)
    told = []
    for (name, variant, shadow, day), of in groups.items():
        control = groups.get((name, "control", shadow, day)) if variant != "control" else None
        row = {"experiment_id": name, "experiment_variant": variant, "experiment_shadow": shadow, "decided_on": day, "payments": len(of),
               "approvals": sum(it["session"]["approved"] for it in of), "approval_rate": rate(of), "attempts": sum(it["session"]["attempts"] for it in of),
               "fees_minor": sum(it["session"]["fees_minor"] for it in of), "control_payments": None, "control_approval_rate": None, "lift": None, "z": None}
        if control:
            error = math.sqrt(sum(rate(it) * (1 - rate(it)) / len(it) for it in (of, control)))
            row |= {"control_payments": len(control), "control_approval_rate": rate(control), "lift": rate(of) - rate(control),
                    "z": (rate(of) - rate(control)) / error if error else None}
        told.append(row)
    return told


def model_registry(stages, cards):
    told = {(it["model"], it["version"]): {key: it[key] for key in ("card_json", "lineage_json", "gate_json")} for it in cards}
    for row in sorted(stages, key=lambda it: it["offset"]):
        told.setdefault((row["model"], row["version"]), {}).update({key: row[key] for key in ("stage", "stage_at", "stage_by", "settings_json")})
    keys = ("stage", "stage_at", "stage_by", "settings_json", "card_json", "lineage_json", "gate_json")
    return [{"model": model, "version": version} | {key: row.get(key) for key in keys} for (model, version), row in told.items()]


def plain(value):
    """As JSON from DuckDB has it."""
    if isinstance(value, datetime.datetime):
        # Digits behind the second as many as are needed.
        text = value.isoformat(sep=" ", timespec="milliseconds")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return value.isoformat() if isinstance(value, datetime.date) else value


def same(one, other):
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = all(isinstance(it, (int, float)) and not isinstance(it, bool) for it in (one, other))
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) if numbers else one == other


def compare(name, expected, found, keys):
    order = lambda row: tuple(str(plain(row[key])) for key in keys)
    expected, found = sorted(expected, key=order), sorted(found, key=order)
    assert len(expected) == len(found), f"{name}: {len(found)} rows, expected {len(expected)}"
    for one, other in zip(expected, found):
        assert one.keys() == other.keys(), f"{name}: columns {sorted(one.keys() ^ other.keys())}"
        for key in one:
            assert same(plain(one[key]), other[key]), f"{name}: {key} is {other[key]!r}, expected {plain(one[key])!r} in {other}"
    print(f"{name}: {len(found)} rows")


def with_duckdb_alone():
    """The views as `warehouse ddl` prints them, in a DuckDB that nobody set up."""
    connection = duckdb.connect()
    connection.execute(said("warehouse", "ddl"))
    return connection


def main():
    feedback, predictions, decisions = rows("ATHIA_FEEDBACK"), rows("ATHIA_PREDICTIONS"), rows("ATHIA_DECISIONS")
    stages = stage_outcomes(feedback)
    first, sessions = followers(stages), session_summary(stages)
    expected = {
        "ATHIA_STAGE_OUTCOMES": (stages, ("payment_id", "stage")),
        "ATHIA_SESSION_SUMMARY": (sessions, ("payment_id",)),
        "ATHIA_MULTI_STAGE_ANALYSIS": (multi_stage_analysis(stages), ("stage", "psp_id", "previous_psp_id", "previous_error_category")),
        "ATHIA_TRAINING_DATASET": (training_dataset(predictions, first), ("decision_id",)),
        "ATHIA_MODEL_METRICS": (model_metrics(predictions, first), ("model", "shadow", "slice", "scored_on")),
        "ATHIA_EXPERIMENT_LIFT": (experiment_lift(decisions, sessions), ("experiment_id", "experiment_variant", "decided_on")),
        "ML_MODEL_REGISTRY": (model_registry(rows("ML_MODEL_STAGES"), rows("ML_MODEL_CARDS")), ("model", "version")),
    }
    alone = with_duckdb_alone()
    for name, (wanted, keys) in expected.items():
        compare(name, wanted, json.loads(said("--output", "json", "query", f"SELECT * FROM {name}")), keys)
        counted = alone.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
        assert counted == len(wanted), f"{name}: DuckDB alone has {counted} rows, query {len(wanted)}"
    for name, found in (("ATHIA_FEEDBACK", feedback), ("ATHIA_PREDICTIONS", predictions), ("ATHIA_DECISIONS", decisions)):
        [counted] = json.loads(said("--output", "json", "query", f"SELECT COUNT(*) AS n, COUNT(DISTINCT (t.topic, t.partition, t.offset)) AS places FROM {name} t"))
        assert counted == {"n": len(found), "places": len(found)}, (name, counted, len(found))
        assert not found or alone.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] == len(found), name
    print("all tables agree")


if __name__ == "__main__":
    main()
