#!/usr/bin/env python3
"""The vendor's own client (PyPI: snowpipe-streaming) writes rows over a channel, leaves it in between, and goes on behind the committed token:
`vendor.py PORT ACCOUNT USER KEY_FILE`; SSL_CERT_FILE names the authority."""
import pathlib
import sys
import time

from snowflake.ingest.streaming import StreamingIngestClient

PORT, ACCOUNT, USER, KEY = sys.argv[1:]
ROWS, CHANNEL = 3_000, "VENDOR-0"
PROPERTIES = {
    "account": ACCOUNT, "user": USER, "private_key": pathlib.Path(KEY).read_text(), "scheme": "https", "host": "localhost", "port": PORT,
    "mgmt_http_timeout_seconds": "2", "data_http_timeout_seconds": "2",
}


def write(first, behind):
    """Rows of one session of the client, which is gone afterwards; gives the token that it found."""
    client = StreamingIngestClient("double", "PAYMENT_ML", "PUBLIC", "ML_MODEL_STAGES-STREAMING", properties=PROPERTIES)
    channel, status = client.open_channel(CHANNEL)
    for offset in range(first, behind):
        channel.append_row({"TOPIC": "control.models", "PARTITION": 0, "OFFSET": offset}, str(offset))
    deadline = time.time() + 60
    while channel.get_latest_committed_offset_token() != str(behind - 1):
        assert time.time() < deadline, channel.get_latest_committed_offset_token()
        time.sleep(0.1)
    channel.close()
    client.close()
    return status.latest_committed_offset_token


assert write(0, ROWS // 2) is None
assert write(ROWS // 2, ROWS) == str(ROWS // 2 - 1)
print("all rows are committed")
