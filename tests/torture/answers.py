"""Whether a router answers: the decisions that it writes, against the requests that were sent. What else they say is the checker's."""
import time

import checker

PATIENCE_S = 3


class Answers:
    def __init__(self, router, traffic):
        self.tail, self.traffic = checker.Tail(router, "routing.decisions"), traffic

    def count(self):
        return len({record["request_id"] for _, record in self.tail.catch_up()})

    def complete(self):
        """Every request that was sent is answered, or is so within moments."""
        deadline, wanted = time.time() + PATIENCE_S, len(self.traffic.requests)
        while self.count() < wanted:
            if time.time() > deadline:
                return False
            time.sleep(0.05)
        return True

    def close(self):
        self.tail.close()
