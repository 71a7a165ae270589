"""Runs SQL statements in a DuckDB of this process: a JSON list of them on standard input. Results leave by COPY."""
import json
import sys

import duckdb

connection = duckdb.connect()
try:
    for statement in json.load(sys.stdin):
        connection.execute(statement)
except duckdb.Error as error:
    sys.exit(str(error))
