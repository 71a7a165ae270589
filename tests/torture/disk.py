"""What disks do to local state: it is full, files are torn, missing or cut, or it is the state of something else.

The rule of every case: the router either stops and says clearly what a person is to do, or makes its state anew by itself; in both
cases the checker finds nothing wrong once it goes on. Damage is done while no process runs; the full disk while one does.
"""
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import time

import checker
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions
from traffic import Traffic

CHANGELOGS = tuple(f"smartrouter.{store}.changelog" for store in ("payments", "customers", "psps", "profiles"))


def log_of(process):
    return pathlib.Path(process.log_path).read_text()


class World:
    """A router that has worked for a while and was killed, so that its store holds files as well as a write-ahead log."""

    def __init__(self, make_router, seed):
        self.dice, self.router = random.Random(seed), make_router()
        self.traffic = Traffic(self.router, seed)
        for _ in range(3):
            process = self.router.start()
            self.traffic.burst(30)
            self.router.until(lambda: all(row["lag"] == 0 for row in self.router.json("lag")), "all is read", process)
            self.router.kill(process)
        self.store = self.router.dir / "one" / "store"

    def files(self, pattern):
        found = sorted(self.store.glob(pattern), key=lambda path: path.stat().st_mtime)
        assert found, f"no {pattern} in {sorted(path.name for path in self.store.iterdir())}"
        return found

    def start_or_told(self, *words, must_end=False):
        """Starts. A router that stops (or has to) names the directory (or `words`) and a remedy; then the remedy is applied."""
        process = self.router.start(wait=False)
        before = len(log_of(process))
        ready = lambda: self.router.get(process, "/readyz")[0] == 200
        checker.await_(lambda: process.poll() is not None or ready(), 60)
        if process.poll() is None:
            if must_end:
                return [f"it serves from a state that is not its changelog's: {log_of(process)[before:][-400:]}"]
            return [] if ready() else [f"neither ready nor ended: {log_of(process)[before:][-400:]}"]
        told = log_of(process)[before:]
        if process.returncode != 1 or not all(word in told for word in words or (str(self.store), "smartrouter reset --execute")):
            return [f"it ended with {process.returncode} and did not say what to do: {told[-400:]}"]
        status, _, err = self.router.command("reset", "--execute")
        if status != 0:
            return [f"reset ended with {status}: {err[-300:]}"]
        self.router.start()
        return []

    def goes_on(self, told):
        self.traffic.burst(30)
        return told + checker.violations(self.router, self.traffic)


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def flip(path, dice):
    data = bytearray(path.read_bytes())
    for _ in range(20):
        data[dice.randrange(len(data))] ^= 0xFF
    path.write_bytes(bytes(data))


def damaged(pattern, damage):
    def case(make_router, seed):
        world = World(make_router, seed)
        damage(world, world.files(pattern)[-1])
        return world.goes_on(world.start_or_told())
    return case


def cut_changelogs(router):
    """Deletes all records that the state of "one" holds. A broker does that on a topic with `delete` in its policy only, so somebody has set that."""
    admin = AdminClient({"bootstrap.servers": router.bootstrap})
    for policy in ("compact,delete", "compact"):
        entry = lambda: [ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)]
        resources = [ConfigResource(ConfigResource.Type.TOPIC, router.prefix + topic, incremental_configs=entry()) for topic in CHANGELOGS]
        for future in admin.incremental_alter_configs(resources).values():
            future.result(30)
        if policy != "compact":
            rows, _ = checker.check_state(router, router.dir / "one")
            ends = [TopicPartition(f"{router.prefix}smartrouter.{row['store']}.changelog", row["partition"], row["changelog_offset"]) for row in rows]
            for future in admin.delete_records(ends).values():
                future.result(30)


def old_changelog(make_router, seed):
    """Its changelog begins behind it: what lies between exists nowhere any more."""
    world = World(make_router, seed)
    router = world.router
    behind = router.dir / "behind"
    shutil.copytree(router.dir / "one", behind)
    process = router.start()
    world.traffic.burst(30)
    router.until(lambda: all(row["lag"] == 0 for row in router.json("lag")), "all is read", process)
    assert router.stop(process) == 0
    cut_changelogs(router)
    told = []
    for state in (behind, router.dir / "none"):
        process = router.start(state=state, wait=False)
        before = len(log_of(process))
        if not checker.await_(lambda: process.poll() is not None, 60):
            router.kill(process)
            told.append(f"{state.name}: it serves from a state that is not whole")
        elif process.returncode != 1 or "were deleted" not in log_of(process)[before:]:
            told.append(f"{state.name}: it ended with {process.returncode}: {log_of(process)[before:][-400:]}")
    shutil.rmtree(behind)
    shutil.rmtree(router.dir / "none", ignore_errors=True)
    # The instance that has it all goes on. A restore from nothing is refused from here on, so only its own state is checked.
    router.start()
    world.traffic.burst(20)
    told += checker.settle(router, world.traffic, checker.WAIT_S)
    for process in checker.running(router):
        told += [] if router.stop(process) == 0 else ["an orderly stop failed"]
    for check in checker.CHECKS:
        told += check(router, world.traffic)
    return told


def topics_made_anew(router, topics):
    names = [router.prefix + topic for topic in topics]
    admin = AdminClient({"bootstrap.servers": router.bootstrap})
    for future in admin.delete_topics(names).values():
        future.result(30)
    # It takes brokers a moment, in which a new topic of the name is refused.
    router.until(lambda: not set(names) & set(admin.list_topics(timeout=10).topics), "the topics are gone")
    status, out, err = router.command("topics", "apply", "--execute")
    assert status == 0, (out, err)


def changelog_made_anew(make_router, seed):
    """Its changelogs were deleted and made anew, and have grown beyond what it knows: a state out of both would be one that never was."""
    world = World(make_router, seed)
    router = world.router
    rows, told = checker.check_state(router, router.dir / "one")
    topics_made_anew(router, CHANGELOGS)
    # Without transactions there is a record at each offset.
    producer = Producer({"bootstrap.servers": router.bootstrap, "linger.ms": 2})
    for row in rows:
        for number in range(row["changelog_offset"] + 20):
            producer.produce(f"{router.prefix}smartrouter.{row['store']}.changelog", f"k{number}", b"", partition=row["partition"])
    assert producer.flush(30) == 0
    _, differing = checker.check_state(router, router.dir / "one")
    if not differing or not all("is another than" in sentence for sentence in differing):
        told.append(f"state check does not say that the changelogs are others: {differing}")
    return told + world.start_or_told("made anew", "smartrouter reset --execute", must_end=True)


def state_of_another_system(make_router, seed):
    """A state directory of other topics on the same cluster: everything in it is void."""
    world = World(make_router, seed)
    other = World(make_router, seed + 1)
    shutil.rmtree(world.router.dir / "one")
    shutil.copytree(other.router.dir / "one", world.router.dir / "one")
    return world.goes_on(world.start_or_told())


def state_of_another_partition_count(make_router, seed):
    """Partitions were added: keys move to other partitions, what is known of them does not. That is refused, before anything is read."""
    world = World(make_router, seed)
    router = world.router
    admin = AdminClient({"bootstrap.servers": router.bootstrap})
    grown = [NewPartitions(router.prefix + topic, 6) for topic in ("smartrouter.psps.changelog", "smartrouter.profiles.changelog", "stats.deltas")]
    for future in admin.create_partitions(grown).values():
        future.result(30)
    process = router.start(wait=False)
    before = len(log_of(process))
    if not checker.await_(lambda: process.poll() is not None, 60):
        router.kill(process)
        return ["it serves from a state whose keys have moved"]
    told = log_of(process)[before:]
    if process.returncode != 1 or "partitions" not in told or "--topic-prefix" not in told:
        return [f"it ended with {process.returncode}: {told[-400:]}"]
    return []


def full_disk(make_router, seed):
    if os.geteuid() != 0:
        print("     skipped: a full disk needs root to mount a small one", flush=True)
        return []
    router = make_router()
    traffic, disk = Traffic(router, seed), router.dir / "one"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, text=True)
    if mounted.returncode != 0:
        disk.rmdir()
        print(f"     skipped: no small disk can be mounted here: {mounted.stderr.strip()}", flush=True)
        return []
    try:
        process, told = router.start(), []
        before = len(log_of(process))
        ballast = disk / "ballast"
        traffic.burst(20)
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        deadline = time.time() + 60
        while "check the disk" not in log_of(process)[before:] and process.poll() is None and time.time() < deadline:
            traffic.burst(20)
            time.sleep(0.2)
        if "check the disk" not in log_of(process)[before:] and str(disk) not in log_of(process)[before:]:
            told.append(f"a full disk is not named: {log_of(process)[before:][-400:]}")
        if process.poll() is None and router.get(process, "/readyz")[0] == 200:
            time.sleep(2)
            told += ["ready on a full disk"] if router.get(process, "/readyz")[0] == 200 else []
        ballast.unlink()
        # With room again it goes on by itself, or after it was started again.
        if process.poll() is None and not checker.await_(lambda: router.get(process, "/readyz")[0] == 200, 20):
            router.kill(process)
        traffic.burst(20)
        return told + checker.violations(router, traffic)
    finally:
        router.close()
        subprocess.run(["umount", "-l", str(disk)], check=False)


CASES = {
    "disk_sst_torn": damaged("*.sst", lambda world, path: cut(path, 0.5)),
    "disk_sst_missing": damaged("*.sst", lambda world, path: path.unlink()),
    "disk_sst_flipped": damaged("*.sst", lambda world, path: flip(path, world.dice)),
    "disk_wal_truncated": damaged("*.log", lambda world, path: cut(path, world.dice.random())),
    "disk_wal_flipped": damaged("*.log", lambda world, path: flip(path, world.dice)),
    "disk_manifest_truncated": damaged("MANIFEST-*", lambda world, path: cut(path, world.dice.uniform(0.2, 0.9))),
    "disk_current_missing": damaged("CURRENT", lambda world, path: path.unlink()),
    "disk_changelog_cut": old_changelog,
    "disk_changelog_made_anew": changelog_made_anew,
    "disk_state_of_another_system": state_of_another_system,
    "disk_state_of_another_partition_count": state_of_another_partition_count,
    "disk_full": full_disk,
}
