"""What is tested without a router on Kafka, as rows of the same table: hostile input, and the embedded log under the same faults.

The tests are those of `cargo test`; here they get a seed, and as many records as `make fuzz`.
"""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDS = 1_000_000
EMBEDDED_TIMES = 5


def passed(tests, seed, **env):
    env = os.environ | {name: str(value) for name, value in env.items()} | {"FUZZ_SEED": str(seed)}
    done = subprocess.run(["cargo", "test", "--quiet", "--features", "failpoints", *tests], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return [] if done.returncode == 0 else [f"{' '.join(tests)}: {done.stdout[-3000:]}"]


def fuzzed(_, seed):
    return passed(["--test", "fuzz_inputs"], seed, FUZZ_RECORDS=RECORDS)


def embedded(_, seed):
    """Replays that are killed at every step, and the embedded log's own kills and damages."""
    suites = (["--test", "torture", "embedded"], ["--test", "log_conformance", "--", "embedded", "kill"], ["--test", "disk_damage"])
    return [violation for number in range(EMBEDDED_TIMES) for tests in suites for violation in passed(tests, seed + number)]


CASES = {"input_fuzzed": fuzzed, "embedded_log": embedded}
