"""As much of Kafka's protocol as a proxy needs to answer in a broker's place: request headers, and replies that bear an error.

Layouts are those of the protocol's public description, for the versions that librdkafka speaks; from a version on that differs by API,
strings and arrays are compact and every structure ends in tagged fields. A request of an unknown version is refused with an exception,
never answered with a guess.
"""
import struct

PRODUCE, FETCH, METADATA, FIND_COORDINATOR = 0, 1, 3, 10
JOIN_GROUP, HEARTBEAT, SYNC_GROUP = 11, 12, 14
INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 22, 24, 25, 26, 28
NAMES = {
    PRODUCE: "Produce", FETCH: "Fetch", METADATA: "Metadata", FIND_COORDINATOR: "FindCoordinator", JOIN_GROUP: "JoinGroup",
    HEARTBEAT: "Heartbeat", SYNC_GROUP: "SyncGroup", INIT_PRODUCER_ID: "InitProducerId", ADD_PARTITIONS_TO_TXN: "AddPartitionsToTxn",
    ADD_OFFSETS_TO_TXN: "AddOffsetsToTxn", END_TXN: "EndTxn", TXN_OFFSET_COMMIT: "TxnOffsetCommit", 2: "ListOffsets", 8: "OffsetCommit",
    9: "OffsetFetch", 13: "LeaveGroup", 17: "SaslHandshake", 18: "ApiVersions", 32: "DescribeConfigs", 71: "GetTelemetrySubscriptions",
}
KEYS = {name: key for key, name in NAMES.items()}
# API: newest version whose layout is known here, first version with compact layouts.
KNOWN = {
    PRODUCE: (12, 9), FETCH: (17, 12), METADATA: (13, 9), FIND_COORDINATOR: (2, 3), JOIN_GROUP: (5, 6), HEARTBEAT: (4, 4), SYNC_GROUP: (3, 4),
    INIT_PRODUCER_ID: (5, 2), ADD_PARTITIONS_TO_TXN: (3, 3), ADD_OFFSETS_TO_TXN: (4, 3), END_TXN: (4, 3), TXN_OFFSET_COMMIT: (4, 3),
}
ERRORS = {
    "UNKNOWN_SERVER_ERROR": -1, "OFFSET_OUT_OF_RANGE": 1, "UNKNOWN_TOPIC_OR_PARTITION": 3, "LEADER_NOT_AVAILABLE": 5, "NOT_LEADER_OR_FOLLOWER": 6,
    "REQUEST_TIMED_OUT": 7, "MESSAGE_TOO_LARGE": 10, "COORDINATOR_LOAD_IN_PROGRESS": 14, "COORDINATOR_NOT_AVAILABLE": 15, "NOT_COORDINATOR": 16,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": 20, "ILLEGAL_GENERATION": 22, "UNKNOWN_MEMBER_ID": 25, "REBALANCE_IN_PROGRESS": 27,
    "OUT_OF_ORDER_SEQUENCE_NUMBER": 45, "INVALID_PRODUCER_EPOCH": 47, "INVALID_TXN_STATE": 48, "INVALID_PRODUCER_ID_MAPPING": 49,
    "CONCURRENT_TRANSACTIONS": 51, "KAFKA_STORAGE_ERROR": 56, "UNKNOWN_PRODUCER_ID": 59, "FENCED_INSTANCE_ID": 82,
    "UNSTABLE_OFFSET_COMMIT": 88, "PRODUCER_FENCED": 90, "UNKNOWN_TOPIC_ID": 100,
}


class Parts:
    """Takes a request apart."""

    def __init__(self, frame, compact):
        self.frame, self.at, self.compact = frame, 0, compact

    def number(self, form):
        value, = struct.unpack_from(">" + form, self.frame, self.at)
        self.at += struct.calcsize(form)
        return value

    def varint(self):
        value = shift = 0
        while True:
            byte = self.frame[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bytes(self, form="h"):
        length = self.varint() - 1 if self.compact else self.number(form)
        if length < 0:
            return None
        self.at += length
        return self.frame[self.at - length:self.at]

    def raw(self, length):
        self.at += length
        return self.frame[self.at - length:self.at]

    def array(self, read):
        count = self.varint() - 1 if self.compact else self.number("i")
        return [read() for _ in range(count)]

    def tags(self):
        if self.compact:
            for _ in range(self.varint()):
                self.varint()
                self.at += self.varint()


class Whole:
    """Puts a reply together."""

    def __init__(self, compact):
        self.out, self.compact = bytearray(), compact

    def add(self, form, *values):
        self.out += struct.pack(">" + form, *values)
        return self

    def varint(self, value):
        while value >= 0x80:
            self.out.append(value & 0x7F | 0x80)
            value >>= 7
        self.out.append(value)
        return self

    def bytes(self, value, form="h"):
        length = -1 if value is None else len(value)
        self.varint(length + 1) if self.compact else self.add(form, length)
        self.out += value or b""
        return self

    def array(self, rows, write):
        self.varint(len(rows) + 1) if self.compact else self.add("i", len(rows))
        for row in rows:
            write(row)
        return self

    def tags(self):
        return self.varint(0) if self.compact else self


class Request:
    def __init__(self, frame):
        self.frame = frame
        self.key, self.version, self.correlation = struct.unpack_from(">hhi", frame)
        self.name = NAMES.get(self.key, str(self.key))

    def body(self):
        newest, first_compact = KNOWN[self.key]
        if self.version > newest:
            raise NotImplementedError(f"{self.name} version {self.version}")
        parts = Parts(self.frame, False)
        parts.at = 8
        parts.bytes()
        parts.compact = self.version >= first_compact
        parts.tags()
        return parts

    def refusal(self, error, broker):
        """The frame of a reply that says `error` for everything that was asked. `broker`: host and port that replies may name."""
        body, code = self.body(), ERRORS[error]
        reply = Whole(body.compact).add("i", self.correlation).tags()
        REPLIES[self.key](self.version, body, reply, code, broker)
        return bytes(reply.out)


def by_partition(parts, skip):
    """The topics of a request, each (its name or id, its partitions); `skip` reads what follows a partition's number."""
    def partition():
        number = parts.number("i")
        skip()
        return number

    def topic(read):
        name = read()
        partitions = parts.array(partition)
        parts.tags()
        return name, partitions

    return topic


def produce(version, parts, reply, code, broker):
    parts.bytes()
    parts.number("h")
    parts.number("i")

    def skip():
        parts.bytes("i")
        parts.tags()

    topic = by_partition(parts, skip)
    topics = parts.array(lambda: topic(parts.bytes))

    def write(partition):
        reply.add("ihqq", partition, code, -1, -1)
        if version >= 5:
            reply.add("q", -1)
        if version >= 8:
            reply.array((), None).bytes(None)
        reply.tags()

    reply.array(topics, lambda it: reply.bytes(it[0]).array(it[1], write).tags()).add("i", 0).tags()


def fetch(version, parts, reply, code, broker):
    if version < 15:
        parts.number("i")
    parts.raw(4 + 4 + 4 + 1)
    session = parts.raw(8)[:4] if version >= 7 else b""

    def skip():
        parts.raw((4 if version >= 9 else 0) + 8 + (4 if version >= 12 else 0) + (8 if version >= 5 else 0) + 4)
        parts.tags()

    topic = by_partition(parts, skip)
    topics = parts.array(lambda: topic((lambda: parts.raw(16)) if version >= 13 else parts.bytes))

    def write(partition):
        reply.add("ihqq", partition, code, -1, -1)
        if version >= 5:
            reply.add("q", -1)
        reply.array((), None)
        if version >= 11:
            reply.add("i", -1)
        reply.bytes(b"", "i").tags()

    def write_topic(it):
        if version >= 13:
            reply.out += it[0]
        else:
            reply.bytes(it[0])
        reply.array(it[1], write).tags()

    reply.add("i", 0)
    if version >= 7:
        reply.add("h", 0)
        reply.out += session
    reply.array(topics, write_topic).tags()


def metadata(version, parts, reply, code, broker):
    def topic():
        topic_id = parts.raw(16) if version >= 10 else b""
        name = parts.bytes()
        parts.tags()
        return topic_id, name

    # No list asks for all topics: the answer is that there are none.
    asked = parts.varint() - 1 if parts.compact else parts.number("i")
    topics = [topic() for _ in range(asked)]
    host, port = broker

    def write(it):
        reply.add("h", code).bytes(it[1])
        reply.out += it[0]
        reply.add("b", 0).array((), None)
        if version >= 8:
            reply.add("i", -2**31)
        reply.tags()

    if version >= 3:
        reply.add("i", 0)
    reply.array([broker], lambda _: reply.add("i", 1).bytes(host.encode()).add("i", port).bytes(None).tags()).bytes(None).add("i", 1)
    reply.array(topics, write)
    if 8 <= version <= 10:
        reply.add("i", -2**31)
    if version >= 13:
        reply.add("h", 0)
    reply.tags()


def find_coordinator(version, parts, reply, code, broker):
    reply.add("ih", 0, code).bytes(None).add("i", -1).bytes(b"").add("i", -1)


def join_group(version, parts, reply, code, broker):
    reply.add("ihi", 0, code, -1).bytes(b"").bytes(b"").bytes(b"").array((), None)


def sync_group(version, parts, reply, code, broker):
    reply.add("ih", 0, code).bytes(b"", "i")


def code_alone(version, parts, reply, code, broker):
    reply.add("ih", 0, code).tags()


def init_producer_id(version, parts, reply, code, broker):
    reply.add("ihqh", 0, code, -1, -1).tags()


def add_partitions(version, parts, reply, code, broker):
    parts.bytes()
    parts.raw(8 + 2)
    topic = by_partition(parts, lambda: None)
    by_code(reply, parts.array(lambda: topic(parts.bytes)), code)


def txn_offset_commit(version, parts, reply, code, broker):
    parts.bytes()
    parts.bytes()
    parts.raw(8 + 2)
    if version >= 3:
        parts.number("i")
        parts.bytes()
        parts.bytes()

    def skip():
        parts.raw(8 + (4 if version >= 2 else 0))
        parts.bytes()
        parts.tags()

    topic = by_partition(parts, skip)
    by_code(reply, parts.array(lambda: topic(parts.bytes)), code)


def by_code(reply, topics, code):
    write = lambda partition: reply.add("ih", partition, code).tags()
    reply.add("i", 0).array(topics, lambda it: reply.bytes(it[0]).array(it[1], write).tags()).tags()


REPLIES = {
    PRODUCE: produce, FETCH: fetch, METADATA: metadata, FIND_COORDINATOR: find_coordinator, JOIN_GROUP: join_group, HEARTBEAT: code_alone,
    SYNC_GROUP: sync_group, INIT_PRODUCER_ID: init_producer_id, ADD_PARTITIONS_TO_TXN: add_partitions, ADD_OFFSETS_TO_TXN: code_alone,
    END_TXN: code_alone, TXN_OFFSET_COMMIT: txn_offset_commit,
}
