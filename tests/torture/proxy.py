"""A proxy between a router and its broker that knows Kafka's frames and makes faults.

The broker's second listener (scripts/kafka) tells its clients to come to where this proxy stands, so all of a router's traffic goes
through it. A fault is set for an API, strikes a number of its requests, and counts how often it did: `strikes` is what a test looks at,
for a fault that never struck proves nothing. Never changes what it passes on.

Kinds of faults:
    refuse       answers with an error in the broker's place; the broker never sees the request
    belie        passes the request on, and answers with an error in place of the broker's own reply
    lose_reply   passes the request on; its reply is never told
    hold         holds the request, and all behind it on its connection, for `seconds`: it arrives late
    delay_reply  holds the reply, and all behind it on its connection, for `seconds`
    lose         neither passes the request on nor answers it
    cut_before   closes the connection instead of passing the request on
    cut_after    passes the request on, and closes the connection in place of the reply
    black_hole   from this request on the connection takes everything and answers nothing, until its client gives it up
"""
import asyncio
import collections
import dataclasses
import fcntl
import pathlib
import random
import struct
import tempfile
import threading
import typing

from wire import KEYS, Request


@dataclasses.dataclass
class Fault:
    kind: str
    api: str
    error: str = ""
    # Requests that it strikes, after letting `skip` of them pass.
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    # Called at each strike.
    then: typing.Callable = None
    # Instead: every request is struck with this probability, until the fault is taken away.
    chance: float = 0.0


class Link:
    """One connection of a client."""

    def __init__(self, client, broker):
        self.client, self.broker, self.is_dead = client, broker, False
        # What is to happen to replies, by correlation id.
        self.struck = {}

    def close(self):
        for _, writer in (self.client, self.broker):
            writer.close()


class Proxy:
    """Stands at PORT + 3 for the broker of `bootstrap`, whose second listener is at PORT + 2."""

    def __init__(self, bootstrap, seed):
        host, port = bootstrap.rsplit(":", 1)
        self.upstream, self.place = (host, int(port) + 2), (host, int(port) + 3)
        self.bootstrap = f"{host}:{int(port) + 3}"
        # The broker names one place to its clients: who comes second waits until the first is gone.
        self.turn = open(pathlib.Path(tempfile.gettempdir(), f"smartrouter-proxy-{self.place[1]}"), "w")
        fcntl.flock(self.turn, fcntl.LOCK_EX)
        self.dice, self.lock = random.Random(seed), threading.Lock()
        self.faults, self.links = [], set()
        self.strikes, self.seen = collections.Counter(), collections.Counter()
        # Faults of the whole way: nothing is answered, or nobody gets in.
        self.is_silent = self.is_cut = False
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.listen())
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    async def listen(self):
        try:
            _, writer = await asyncio.open_connection(*self.upstream)
            writer.close()
        except OSError as error:
            raise RuntimeError(f"no second listener at port {self.upstream[1]}: scripts/kafka/kafka.sh starts a broker that has one") from error
        self.server = await asyncio.start_server(self.accept, *self.place, limit=2**20)

    # For tests, from their own thread.

    def set(self, *faults):
        with self.lock:
            self.faults = list(faults)

    def end_faults(self):
        """All that comes from now on is passed on; a connection that went silent stays so, as one whose way was forgotten."""
        self.set()
        self.is_silent = self.is_cut = False

    def cut(self):
        """Closes all connections and lets nobody in."""
        self.is_cut = True
        self.loop.call_soon_threadsafe(self.close_links)

    def silence(self):
        """All connections, present and new ones, take everything and answer nothing."""
        self.is_silent = True
        for link in list(self.links):
            link.is_dead = True

    def close(self):
        self.end_faults()

        async def end():
            self.server.close()
            self.close_links()
            await asyncio.sleep(0.05)
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self.loop)
        self.thread.join(10)
        self.turn.close()

    # In the loop's thread.

    def close_links(self):
        for link in list(self.links):
            link.close()

    async def accept(self, reader, writer):
        if self.is_cut:
            self.strikes["cut"] += 1
            return writer.close()
        try:
            broker = await asyncio.open_connection(*self.upstream, limit=2**20)
        except OSError:
            return writer.close()
        link = Link((reader, writer), broker)
        link.is_dead = self.is_silent
        self.links.add(link)
        pumps = [asyncio.ensure_future(self.requests(link)), asyncio.ensure_future(self.replies(link))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.links.discard(link)
            link.close()
        return None

    async def requests(self, link):
        with_errors_as_ends = (OSError, asyncio.IncompleteReadError)
        try:
            while True:
                frame = await read_frame(link.client[0])
                if link.is_dead:
                    self.strikes["silence"] += self.is_silent
                    continue
                if not await self.request(link, Request(frame)):
                    return
        except with_errors_as_ends:
            return

    async def request(self, link, request):
        """Whether the connection goes on."""
        self.seen[(request.name, request.version)] += 1
        fault = self.strike(request)
        kind = fault.kind if fault else "pass"
        if fault and fault.then:
            fault.then()
        if kind == "hold":
            await asyncio.sleep(fault.seconds)
        if kind == "cut_before":
            return False
        if kind == "black_hole":
            link.is_dead = True
        elif kind == "refuse":
            await write_frame(link.client[1], request.refusal(fault.error, self.place))
        elif kind != "lose":
            if fault and kind != "hold":
                link.struck[request.correlation] = (fault, request)
            await write_frame(link.broker[1], request.frame)
        return True

    def strike(self, request):
        with self.lock:
            for fault in self.faults:
                if KEYS[fault.api] != request.key:
                    continue
                if fault.chance:
                    if self.dice.random() >= fault.chance:
                        continue
                elif fault.skip > 0:
                    fault.skip -= 1
                    continue
                elif fault.times <= 0:
                    continue
                fault.times -= 1
                self.strikes[(fault.kind, fault.api, fault.error)] += 1
                return fault
        return None

    async def replies(self, link):
        try:
            while True:
                frame = await read_frame(link.broker[0])
                if link.is_dead:
                    continue
                fault, request = link.struck.pop(struct.unpack_from(">i", frame)[0], (None, None))
                kind = fault.kind if fault else "pass"
                if kind == "lose_reply":
                    continue
                if kind == "cut_after":
                    return
                if kind == "delay_reply":
                    await asyncio.sleep(fault.seconds)
                if kind == "belie":
                    frame = request.refusal(fault.error, self.place)
                await write_frame(link.client[1], frame)
        except (OSError, asyncio.IncompleteReadError):
            # A broker that is gone is seen by the client of a silent connection only when it asks again.
            if link.is_dead:
                await asyncio.Event().wait()


async def read_frame(reader):
    length, = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


async def write_frame(writer, frame):
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()
