#!/usr/bin/env python3
"""Tables, views and the statement that keeps cards, as a Snowflake that runs in this process takes them (PyPI: fakesnow): `fake.py FILE`, FILE with
the statements of `warehouse ddl --dialect snowflake`, then a line `--`, then the MERGE. What it does not know of the vendor's SQL is left out here."""
import pathlib
import re
import sys

import fakesnow
import snowflake.connector

# Options of tables and views that this Snowflake has no counterpart of, or reads wrongly.
LEFT_OUT = re.compile(r" (ERROR_LOGGING = TRUE|COMMENT = '(?:[^']|'')*')")
# It keeps arrays as JSON, in which it does not find this.
UNKNOWN = "ARRAY_POSITION("

ddl, merge = pathlib.Path(sys.argv[1]).read_text().split("\n--\n")
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
    views = [statement.split()[4] for statement in statements if statement.startswith("CREATE OR REPLACE VIEW")]
    assert len(views) == 6, views
    for view in views:
        run(f"SELECT * FROM {view}")
    print("all statements are taken")
