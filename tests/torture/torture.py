#!/usr/bin/env python3
"""Faults of every kind against routers on a real Kafka: `torture.py BINARY HOST:PORT [--cycles N] [--seed S] [NAME...]`.

Runs the named cases, or all, `--jobs N` at a time, and ends with a table: fault, how often tried, violations found. The exit status is 0
only when there are none. A case is a function of `make_router` (topics of their own under a new prefix) and a seed; it returns the
violations that it found, as sentences. Modules offer theirs as `CASES`, a dict by name. With `--cycles N` the kill cases go on, with new
seeds, until N processes have been killed. A failing case names its seed and leaves its logs and states.
"""
import argparse
import contextlib
import importlib
import io
import multiprocessing
import multiprocessing.connection
import shutil
import signal
import sys
import time
import traceback

MODULES = ("kill", "mutants", "resting", "disk", "network", "zombies", "inputs", "load")
CYCLES_PER_RUN = 10
# Begun first: the others fit beside it.
LONGEST = "load_soak"


def cases():
    import traffic  # noqa: F401  puts tests/interop on the path
    return {name: case for module in MODULES for name, case in importlib.import_module(module).CASES.items()}


class Bench:
    """Makes the routers of one run of a case, and clears away after it."""

    def __init__(self, binary, bootstrap):
        self.binary, self.bootstrap, self.routers = binary, bootstrap, []

    def make_router(self, bootstrap=None):
        from router import Router
        router = Router(self.binary, bootstrap or self.bootstrap)
        self.routers.append(router)
        status, out, err = router.command("topics", "apply", "--execute")
        assert status == 0, (out, err)
        return router

    def close(self, keep):
        for router in self.routers:
            router.close()
            if not keep:
                shutil.rmtree(router.dir)


def run(case, binary, bootstrap, seed):
    bench = Bench(binary, bootstrap)
    try:
        found = case(bench.make_router, seed)
    except Exception:
        found = [f"the case itself failed:\n{traceback.format_exc()}"]
    except BaseException:
        bench.close(keep=True)
        raise
    bench.close(keep=bool(found))
    return found, [str(router.dir) for router in bench.routers]


def work(case, binary, bootstrap, seed, told):
    """One run of a case, as a process: sends (seconds, violations, directories, what it printed)."""
    begun, printed = time.time(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        found, directories = run(case, binary, bootstrap, seed)
    told.send((time.time() - begun, found, directories, printed.getvalue()))


def run_all(plan, known, options):
    """Yields (name, seed, seconds, violations, directories, what it printed) of each run as it ends."""
    left, running = list(reversed(plan)), {}
    try:
        while left or running:
            while left and len(running) < options.jobs:
                name, seed = left.pop()
                told, tell = multiprocessing.Pipe(duplex=False)
                process = multiprocessing.Process(target=work, args=(known[name], options.binary, options.bootstrap, seed, tell))
                process.start()
                tell.close()
                running[told] = process, name, seed
            for told in multiprocessing.connection.wait(running):
                process, name, seed = running.pop(told)
                try:
                    result = told.recv()
                except EOFError:
                    result = 0, ["the case's process ended without a word"], [], ""
                process.join()
                yield name, seed, *result
    finally:
        for process, *_ in running.values():
            process.terminate()
        for process, *_ in running.values():
            process.join()


def main():
    # Told to stop, a case still ends its processes and unmounts its disks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("bootstrap")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cycles", type=int, default=0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_intermixed_args()
    known = cases()
    names = options.names or list(known)
    if unknown := set(names) - set(known):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(f"seed {options.seed}", flush=True)
    plan = [(name, options.seed) for name in names]
    kills = [name for name in names if name.startswith("kill_")]
    for number in range(max(0, options.cycles // CYCLES_PER_RUN - len(kills)) if kills else 0):
        plan.append((kills[number % len(kills)], options.seed + 1 + number))
    plan.sort(key=lambda run: run[0] != LONGEST)
    table = {name: [0, 0] for name in names}
    for name, seed, seconds, found, directories, printed in run_all(plan, known, options):
        table[name][0] += 1
        table[name][1] += len(found)
        print(f"{printed}{'FAIL' if found else 'ok  '} {name} --seed {seed} ({seconds:.0f} s)", flush=True)
        for violation in found:
            print(f"     {violation}", flush=True)
        if found:
            print(f"     left: {' '.join(directories)}", flush=True)
    width = max(map(len, names))
    print(f"\n{'FAULT':{width}}  TRIED  VIOLATIONS")
    for name, (tried, violations) in table.items():
        print(f"{name:{width}}  {tried:5}  {violations:10}")
    return 1 if any(violations for _, violations in table.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
