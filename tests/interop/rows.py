#!/usr/bin/env python3
"""Rows for analysts from a real Kafka: `rows.py BINARY HOST:PORT [NAME...]`. What they are held to is what a consumer reads from the topics."""
import collections
import contextlib
import csv
import datetime
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import duckdb
from router import PROJECT
from spine import Payments, main

TABLES = {"ATHIA_PREDICTIONS": "athia.predictions", "ATHIA_FEEDBACK": "athia.feedback", "ATHIA_DECISIONS": "routing.decisions"}
STEPS = ("warehouse-written", "warehouse-synced", "warehouse-renamed", "warehouse-committed", "warehouse-merged", "warehouse-exchanged")
SYNC = {"SMARTROUTER__WAREHOUSE__SYNC": "true", "SMARTROUTER__WAREHOUSE__AGE_MS": "150", "SMARTROUTER__WAREHOUSE__FILES_MAX": "4"}
ASK = {"SMARTROUTER__WAREHOUSE__QUERY_PROGRAMS": json.dumps([sys.executable])}


def held(directory):
    """Offsets by table and partition, as they lie in the files. What was merged between listing and opening is asked for again."""
    found = collections.defaultdict(list)
    for table in TABLES:
        for _ in range(20):
            files = [str(path) for path in (pathlib.Path(directory) / table).glob("day=*/*.parquet")]
            with contextlib.suppress(duckdb.IOException):
                rows = duckdb.execute('SELECT "partition", "offset" FROM read_parquet(?)', [files]).fetchall() if files else []
                break
        for partition, offset in rows:
            found[table, partition].append(offset)
    return {key: sorted(offsets) for key, offsets in found.items()}


def committed(router, sent):
    """The same, as the topics have them once the router has answered all that was sent."""
    found, least = collections.defaultdict(list), {"athia.feedback": len(sent.attempts)}
    for table, topic in TABLES.items():
        enough = lambda records: len(records) >= least.get(topic, len(sent.requests))
        for message, _ in router.read(topic, enough, 90):
            found[table, message.partition()].append(message.offset())
    return {key: sorted(offsets) for key, offsets in found.items()}


def complete(router, sent, directory, seconds=90):
    """Every record that a consumer sees has its row, and no other."""
    wanted = committed(router, sent)
    deadline = time.time() + seconds
    while held(directory) != wanted:
        assert time.time() < deadline, {key: (len(held(directory).get(key, [])), len(wanted.get(key, []))) for key in wanted}
        time.sleep(0.5)
    router.env |= ASK
    checked = router.json("warehouse", "check")
    assert checked and all(row["gaps"] == row["doubles"] == 0 for row in checked), checked
    # The marker of the last transaction may stand behind the last row.
    assert all(row["lag"] <= 1 for row in checked), checked
    holes = sum(last - first + 1 - len(offsets) for offsets in wanted.values() for first, last in [(offsets[0], offsets[-1])])
    assert holes > 0, "transactions leave holes between offsets, which are no gaps"


def rows_of_a_router_that_is_killed(router):
    """The router with its sync, killed at every step and at any moment."""
    sent = Payments(router)
    moments = [{"SMARTROUTER_FAILPOINT": f"{step}={random.randint(1, 3)}"} for step in STEPS] + [{}] * 4
    random.shuffle(moments)
    died = 0
    for moment in moments:
        # It may die of what an earlier one left to do, before it is ready.
        process = router.start(env=SYNC | moment, wait=False)
        until = time.time() + (12 if moment else 1 + 2 * random.random())
        while process.poll() is None and time.time() < until:
            sent.traffic(40)
            time.sleep(0.2)
        died += process.poll() is not None
        if process.poll() is None:
            router.kill(process)
    assert died >= 3, f"the sync was killed {died} times only"
    process = router.start(env=SYNC)
    sent.traffic(60)
    complete(router, sent, router.dir / "one" / "warehouse")
    metrics = router.get(process, "/metrics")[1]
    assert 'smartrouter_warehouse_rows_total{table="ATHIA_FEEDBACK"}' in metrics
    assert router.stop(process) == 0


def start_sync(router, name, directory):
    log = open(router.dir / f"{name}.log", "ab")
    words = [router.binary, *router.words(name), "--admin-addr", "127.0.0.1:0", "sync"]
    environment = os.environ | SYNC | {"SMARTROUTER__WAREHOUSE__DIR": str(directory)}
    process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    process.log_path = log.name
    router.processes.append(process)
    return process


def one_directory_has_one_writer(router):
    """Two processes are given one directory: one writes, the other goes on when that one dies."""
    sent, directory = Payments(router), router.dir / "shared"
    router.start()
    first = start_sync(router, "first", directory)
    router.until(lambda: (directory / "LOG").exists(), "the first one writes", first)
    second = start_sync(router, "second", directory)
    sent.traffic(100)
    router.until(lambda: "another process" in pathlib.Path(second.log_path).read_text(), "the second one waits", second)
    router.kill(first)
    sent.traffic(100)
    router.env["SMARTROUTER__WAREHOUSE__DIR"] = str(directory)
    complete(router, sent, directory)
    assert router.stop(second) == 0


def a_full_disk_stops_rows_and_nothing_else(router):
    if os.geteuid() != 0:
        print("     skipped: a full disk needs root to mount a small one", flush=True)
        return
    directory = router.dir / "small"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)], capture_output=True, text=True)
    if mounted.returncode != 0:
        print(f"     skipped: no small disk can be mounted here: {mounted.stderr.strip()}", flush=True)
        return
    try:
        sent = Payments(router)
        process = router.start(env=SYNC | {"SMARTROUTER__WAREHOUSE__DIR": str(directory)})
        sent.traffic(30)
        router.until(lambda: held(directory), "rows", process)
        ballast = directory / "ballast"
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        sent.traffic(50)
        router.until(lambda: "no space left" in pathlib.Path(process.log_path).read_text(), "the full disk is named", process)
        router.until(lambda: 'smartrouter_warehouse_errors_total{kind="full"}' in router.get(process, "/metrics")[1], "and counted", process)
        sent.traffic(50)
        decided = lambda records: len(records) >= len(sent.requests)
        assert len(router.read("routing.decisions", decided, 60)) == len(sent.requests), "routing goes on"
        assert router.get(process, "/readyz")[0] == 200
        ballast.unlink()
        router.env["SMARTROUTER__WAREHOUSE__DIR"] = str(directory)
        complete(router, sent, directory)
        assert router.stop(process) == 0
    finally:
        router.close()
        subprocess.run(["umount", "-l", str(directory)], check=False)


def payments_of_january(rows):
    """Attempts of the same country, amount, card and 3-D Secure flag, at most 60 s apart, up to the first success, are one payment."""
    open_payments, payments = {}, []
    for row in rows:
        key = (row["country"], row["amount"], row["card"], row["3D_secured"])
        at = datetime.datetime.fromisoformat(row["tmsp"])
        attempts = open_payments.get(key)
        if attempts is None or (at - attempts[-1]["at"]).total_seconds() > 60 or attempts[-1]["approved"]:
            attempts = open_payments[key] = []
            payments.append(attempts)
        attempts.append({"id": row["id"], "at": at, "psp": row["PSP"].lower(), "approved": row["success"] == "1", "amount": int(row["amount"]) * 100})
    # Stages are ordered by time, results and id: what happened within a second is told apart by its id alone.
    return [sorted(attempts, key=lambda it: (it["at"], it["id"])) for attempts in payments]


def expected_of_january(payments):
    """Stages by attempt id; sessions by the id of the first attempt."""
    written = lambda at: at.isoformat(sep=" ")
    stages, sessions = {}, {}
    for attempts in payments:
        begun, before = attempts[0]["at"], None
        for stage, it in enumerate(attempts, 1):
            since = lambda earlier: round((it["at"] - earlier).total_seconds() * 1_000)
            stages[it["id"]] = {
                "stage": stage, "psp_id": it["psp"], "previous_psp_id": before and before["psp"], "approved": it["approved"],
                "status": "APPROVED" if it["approved"] else "DECLINED", "amount_minor": it["amount"], "currency": "EUR", "attempted_at": written(it["at"]),
                "outcome_at": written(it["at"]), "since_first_ms": since(begun), "since_previous_ms": since(before["at"]) if before else None}
            before = it
        approved = [it["psp"] for it in attempts if it["approved"]]
        sessions[attempts[0]["id"]] = {
            "path": " > ".join(it["psp"] for it in attempts), "attempts": len(attempts), "psps": len({it["psp"] for it in attempts}),
            "approved": bool(approved), "approved_psp_id": approved[0] if approved else None, "approved_at_first": attempts[0]["approved"],
            "timeouts": 0, "amount_minor": attempts[0]["amount"], "first_attempted_at": written(begun), "last_outcome_at": written(attempts[-1]["at"]),
            "elapsed_ms": round((attempts[-1]["at"] - begun).total_seconds() * 1_000)}
    return stages, sessions


def all_rows(router, table):
    status, out, err = router.command("--output", "json", "query", f"SELECT * FROM {table}", timeout=600)
    assert status == 0, (out, err)
    return json.loads(out.strip().splitlines()[-1])


def january_becomes_stages_and_sessions(router):
    """A month of history through Kafka, the router and the sync: both tables are those that Python makes of the file."""
    file = PROJECT.parent / "shared" / "data" / "psp_2019_january" / "attempts.csv"
    if not file.exists():
        print(f"     skipped: {file} is not there", flush=True)
        return
    rows = list(csv.DictReader(file.open()))
    payments = payments_of_january(rows)
    router.config = PROJECT / "deploy" / "january.toml"
    router.env |= ASK
    told = router.json("replay", str(file), "--mapping", str(PROJECT / "deploy" / "mappings" / "psp_routing_log.toml"), "--to", "kafka")
    assert (told["attempts"], told["payments"]) == (len(rows), len(payments)), told
    process = router.start()
    assert len(router.read("athia.feedback", lambda records: len(records) >= len(rows), 300)) == len(rows)
    status, out, err = router.command("sync", "--once", timeout=600)
    assert status == 0, (out, err)
    stages, sessions = expected_of_january(payments)
    found = all_rows(router, "ATHIA_STAGE_OUTCOMES")
    assert len(found) == len(stages) == len(rows), (len(found), len(stages))
    first = {}
    for row in found:
        expected = stages[row["attempt_id"]]
        assert {key: row[key] for key in expected} == expected, (row, expected)
        if row["stage"] == 1:
            first[row["payment_id"]] = row["attempt_id"]
    found = all_rows(router, "ATHIA_SESSION_SUMMARY")
    assert len(found) == len(sessions) == len(first), (len(found), len(sessions), len(first))
    for row in found:
        expected = sessions[first[row["payment_id"]]]
        assert {key: row[key] for key in expected} == expected, (row, expected)
    assert router.stop(process) == 0


CHECKS = [
    rows_of_a_router_that_is_killed,
    one_directory_has_one_writer,
    a_full_disk_stops_rows_and_nothing_else,
    january_becomes_stages_and_sessions,
]

if __name__ == "__main__":
    sys.exit(main(CHECKS))
