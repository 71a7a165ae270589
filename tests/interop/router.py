"""A router process and its topics, seen by clients that are not ours: confluent-kafka for the log, fastavro for the bytes."""
import io
import json
import os
import pathlib
import random
import signal
import socket
import string
import struct
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

PROJECT = pathlib.Path(__file__).resolve().parents[2]
IDS = tomllib.loads((PROJECT / "schemas" / "ids.toml").read_text())["subjects"]
FILES = {
    "payment.attempts": "payment_attempt",
    "payment.outcomes": "payment_outcome",
    "routing.requests": "routing_request",
    "routing.decisions": "routing_decision",
    "psp.states": "psp_state",
    "psp.outages": "psp_outage",
    "athia.predictions": "prediction",
    "athia.feedback": "feedback",
    "control.models": "control_model",
}
SCHEMAS = {topic: fastavro.schema.load_schema(PROJECT / "schemas" / f"{file}.avsc") for topic, file in FILES.items()}


def encode(topic, record):
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, IDS[f"{topic}-value"]))
    fastavro.schemaless_writer(out, SCHEMAS[topic], record, strict_allow_default=True)
    return out.getvalue()


def decode(topic, value):
    magic, schema_id = struct.unpack(">bI", value[:5])
    assert (magic, schema_id) == (0, IDS[f"{topic}-value"]), f"{topic}: framing {value[:5]!r}"
    rest = io.BytesIO(value[5:])
    record = fastavro.schemaless_reader(rest, SCHEMAS[topic])
    assert not rest.read(), f"{topic}: bytes are left over"
    fastavro.validate(record, SCHEMAS[topic], strict=True)
    return record


class Router:
    """Topics under a prefix of their own, and processes on them."""

    def __init__(self, binary, bootstrap):
        self.binary, self.bootstrap = binary, bootstrap
        self.prefix = "".join(random.choices(string.ascii_lowercase, k=8)) + "."
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="smartrouter-interop-"))
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
        self.processes = []
        self.config = PROJECT / "deploy" / "volaris.toml"
        # Of commands.
        self.env = {}

    def words(self, instance="one", bootstrap=None, state=None):
        state = state or self.dir / instance
        return ["-c", str(self.config), "-b", bootstrap or self.bootstrap, "--topic-prefix", self.prefix,
                "--state-dir", str(state), "--instance", instance]

    def command(self, *words, instance="one", bootstrap=None, state=None, timeout=90):
        """Exit status, standard output, standard error."""
        words = [self.binary, *self.words(instance, bootstrap, state), *words]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=os.environ | self.env)
        return done.returncode, done.stdout, done.stderr

    def json(self, *words, status=0):
        ended, out, err = self.command("--output", "json", *words)
        assert ended == status, (words, ended, err)
        return json.loads(out.strip().splitlines()[-1])

    def start(self, instance="one", bootstrap=None, state=None, wait=True, env={}):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            admin = f"127.0.0.1:{probe.getsockname()[1]}"
        log = open(self.dir / f"{instance}.log", "ab")
        words = [self.binary, *self.words(instance, bootstrap, state), "--admin-addr", admin, "run"]
        log_from = os.path.getsize(log.name)
        process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | env)
        process.admin, process.log_path, process.log_from = admin, log.name, log_from
        self.processes.append(process)
        if wait:
            self.until(lambda: self.get(process, "/readyz")[0] == 200, f"{instance} is ready", process)
        return process

    def get(self, process, path):
        try:
            with urllib.request.urlopen(f"http://{process.admin}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def until(self, holds, what, process=None, seconds=60):
        deadline = time.time() + seconds
        while not holds():
            ended = process is not None and process.poll() is not None
            if ended or time.time() > deadline:
                log = pathlib.Path(process.log_path).read_text()[-3000:] if process is not None else ""
                raise AssertionError(f"not reached: {what}; exit status {process.poll() if process else None}\n{log}")
            time.sleep(0.1)

    def kill(self, process):
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self, process):
        process.terminate()
        return process.wait(40)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)

    def send(self, topic, key, record):
        self.send_bytes(topic, key, encode(topic, record))

    def send_bytes(self, topic, key, value):
        self.producer.produce(self.prefix + topic, key=key, value=value, headers=[("traceparent", b"00-interop")])
        self.producer.poll(0)

    def flush(self):
        assert self.producer.flush(30) == 0

    def read(self, topic, until=lambda records: True, seconds=60, raw=False):
        """Committed records from the start: [(message, record)], once `until` holds and a second brought nothing more."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"interop-{random.random()}", "isolation.level": "read_committed",
                             "enable.auto.commit": False})
        name, found, quiet = self.prefix + topic, [], time.time()
        partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
        consumer.assign([TopicPartition(name, partition, 0) for partition in partitions])
        deadline = time.time() + seconds
        while time.time() < deadline and not (time.time() - quiet > 1 and until(found)):
            message = consumer.poll(0.1)
            if message is None or message.error():
                continue
            quiet = time.time()
            value = message.value()
            found.append((message, value if raw or value is None else decode(topic, value)))
        consumer.close()
        return found
