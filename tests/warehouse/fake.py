#!/usr/bin/env python3
"""Tables, views and the statement that keeps cards, as a Snowflake that runs in this process takes them (PyPI: fakesnow): `fake.py FILE`, FILE with
the statements of `warehouse ddl --dialect snowflake`, then, each behind a line `--`, the MERGE of cards and that of predictions. What it does not know of the vendor's SQL is left out here."""
import json
import pathlib
import re
import sys

import fakesnow
import snowflake.connector

# Options of tables and views that this Snowflake has no counterpart of, or reads wrongly.
LEFT_OUT = re.compile(r" (ERROR_LOGGING = TRUE|COMMENT = '(?:[^']|'')*')")
# It keeps arrays as JSON, in which it does not find this.
UNKNOWN = "ARRAY_POSITION("

ddl, merge, insert = pathlib.Path(sys.argv[1]).read_text().split("\n--\n")
with fakesnow.patch():
    connection = snowflake.connector.connect(database="PAYMENT_ML", schema="PUBLIC", paramstyle="qmark")
    cursor = connection.cursor()

    def run(statement, *binds):
        statement = LEFT_OUT.sub("", statement)
        try:
            return cursor.execute(statement, binds or None).fetchall()
        except Exception as error:
            raise SystemExit(f"{statement}\n{error}")

    all_of_them = [statement for statement in ddl.split(";\n\n") if statement.strip()]
    statements = [statement for statement in all_of_them if UNKNOWN not in statement]
    print(f"left out, for {UNKNOWN[:-1]}:", *(statement.split()[4] for statement in all_of_them if UNKNOWN in statement))
    # Twice: whoever applies them again changes nothing.
    for statement in statements * 2:
        run(statement)
    for version, card in [("1", "first"), ("2", "it's"), ("1", "second")]:
        run(merge, "selector", version, card, None, None)
    assert run("SELECT version, card_json FROM ML_MODEL_CARDS ORDER BY 1") == [("1", "second"), ("2", "it's")]
    row = {"TOPIC": "athia.predictions", "PARTITION": 1, "OFFSET": 7, "INGESTED_AT": "2026-01-05T12:00:00.250", "DECISION_ID": "it's",
           "REQUEST_ID": "r", "PAYMENT_ID": "p", "MODEL": "m@1", "FEATURE_VERSION": "v", "REQUEST_FEATURES": [0.5, 2], "CANDIDATE_PSP_IDS": ["a", "b"],
           "CANDIDATE_FEATURES": [[1.5], [2.5]], "CANDIDATE_RAW_PROBABILITIES": [0.5, None], "CANDIDATE_PROBABILITIES": [None, None],
           "CANDIDATE_PROPENSITIES": [1, 0], "CHOSEN": "a", "SHADOW": False, "SCORED_AT": "2026-01-05T12:00:00.000", "LATENCY_US": 9}
    for _ in range(2):
        run(insert, json.dumps(row))
    place = run("SELECT topic, partition, offset, previous_offset, decision_id, shadow, ingested_at::VARCHAR FROM ATHIA_PREDICTIONS")
    print(place)
    assert len(place) == 1 and place[0][:6] == ("athia.predictions", 1, 7, None, "it's", False), place
    views = [statement.split()[4] for statement in statements if statement.startswith("CREATE OR REPLACE VIEW")]
    assert len(views) == 6, views
    for view in views:
        run(f"SELECT * FROM {view}")
    print("all statements are taken")
