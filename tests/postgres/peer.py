"""A Python process that shares circuit state, for the tests to drive.

Each line of the input is a request, a JSON object with the key `op`; each gets one line of JSON as its answer, which
is an object with the key `error` if anything went wrong. The methods of `Peer` are the requests; their arguments are
the other keys. The end of the input ends the process at once, whatever it waits for.

The storage comes from the environment, as the library reads it (RC_DB_DSN and so on).
"""

import collections
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from datetime import timedelta
from fractions import Fraction

from bulkman import BulkheadCircuitOpenError, BulkheadConfig, BulkheadThreading
from resilient_circuit import CircuitProtectorPolicy
from resilient_circuit.exceptions import ProtectedCallError
from resilient_circuit.storage import create_storage

real_time = time.time


class TaskFailed(Exception):
    """What a task raises that is asked to fail."""


def task(outcome):
    if outcome != "success":
        raise TaskFailed(outcome)


class Bulkhead:
    """bulkman's bulkhead, whose breaker reads the storage only when it is made."""

    def __init__(self, storage, config):
        self.bulkhead = BulkheadThreading(
            BulkheadConfig(circuit_breaker_enabled=True, **config), circuit_storage=storage
        )

    def call(self, outcome):
        try:
            result = self.bulkhead.execute(task, outcome).result()
        except BulkheadCircuitOpenError:
            return "circuit open"
        return "success" if result.success else "failed"

    def breaker(self):
        return self.bulkhead._circuit_breaker

    def close(self):
        self.bulkhead.shutdown()


class Policy:
    """resilient-circuit's own policy, which also reads the storage from time to time."""

    def __init__(self, storage, config):
        refresh, success_limit = config["refresh"], config["success_limit"]
        self.policy = CircuitProtectorPolicy(
            resource_key=config["name"],
            storage=storage,
            cooldown=timedelta(seconds=config["cooldown"]),
            failure_limit=Fraction(*config["failure_limit"]),
            success_limit=Fraction(*success_limit) if success_limit else None,
            admission_refresh_interval=None if refresh is None else timedelta(seconds=refresh),
        )

    def call(self, outcome):
        try:
            self.policy(task)(outcome)
        except ProtectedCallError:
            return "circuit open"
        except TaskFailed:
            return "failed"
        return "success"

    def breaker(self):
        return self.policy

    def close(self):
        pass


class Peer:
    def __init__(self):
        self.circuit = None
        self.records = collections.deque(maxlen=1000)

    # The circuit.

    def bulkhead(self, namespace, **config):
        return self.open(Bulkhead, namespace, config)

    def policy(self, namespace, **config):
        return self.open(Policy, namespace, config)

    def open(self, kind, namespace, config):
        """A `namespace` of null leaves the choice to the library."""
        self.close()
        self.made_of = kind, namespace, config
        self.circuit = kind(create_storage(namespace), config)
        return self.state()

    def rebuild(self):
        return self.open(*self.made_of)

    def close(self):
        if self.circuit:
            self.circuit.close()
        self.circuit = None

    def call(self, outcome):
        return {"outcome": self.circuit.call(outcome), **self.state()}

    def state(self):
        breaker = self.circuit.breaker()
        status = breaker._status
        return {
            "state": breaker.status.value,
            "failure_count": getattr(status, "failure_count", None),
            "open_until": getattr(status, "open_until_timestamp", None),
            "execution_log": list(breaker.execution_log._items),
            "backend": breaker.storage.backend_name,
        }

    # The storage below it.

    def get(self, namespace, name):
        return {"stored": create_storage(namespace).get_state(name)}

    def set(self, namespace, name, state, failure_count, open_until, execution_log):
        applied = create_storage(namespace).set_state(
            name, state, failure_count, open_until, execution_log=execution_log
        )
        return {"applied": applied}

    def update(self, namespace, name, state, failure_count, open_until, execution_log):
        """An administrator's reset: it does not look at what is stored."""
        new = {
            "state": state,
            "failure_count": failure_count,
            "open_until": open_until,
            "execution_log": execution_log,
        }
        return {"stored": create_storage(namespace).update_state(name, lambda _: new)}

    def increment(self, namespace, name, times):
        """Adds to `failure_count`, one atomic update each time."""

        def more(stored):
            stored = stored or {"state": "CLOSED", "failure_count": 0, "open_until": 0}
            stored["failure_count"] += 1
            return stored

        storage = create_storage(namespace)
        for _ in range(times):
            stored = storage.update_state(name, more)
        return {"stored": stored}

    def delete(self, namespace, name):
        return {"existed": create_storage(namespace).delete_state(name)}

    # The table.

    def tool(self, arguments):
        """The library's own tool: `pg-setup --yes`, `pg-check`."""
        done = subprocess.run(
            [sys.executable, "-m", "resilient_circuit.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return {"status": done.returncode, "output": done.stdout}

    # The process.

    def clock(self, ahead):
        """Sets this process's wall clock, as the libraries see it, that many seconds before the real one."""
        time.time = lambda: real_time() + ahead
        return {"now": time.time()}

    def log(self):
        """What the libraries have logged since the last time."""
        records = [f"{record.levelname} {record.getMessage()}" for record in self.records]
        self.records.clear()
        return {"log": records}

    def exit(self):
        self.close()
        return {}


class Keep(logging.Handler):
    """Keeps records instead of printing them."""

    def __init__(self, records):
        super().__init__()
        self.records = records

    def emit(self, record):
        self.records.append(record)


def read_requests(requests):
    for line in sys.stdin:
        requests.put(line)
    # Not an ordinary exit: that would wait for threads which may wait for a server.
    os._exit(0)


def main():
    # Nothing else gets between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = Peer()
    logging.basicConfig(level=logging.INFO, handlers=[Keep(peer.records)])
    logging.captureWarnings(True)
    requests = queue.SimpleQueue()
    threading.Thread(target=read_requests, args=(requests,), daemon=True).start()
    op = None
    while op != "exit":
        try:
            request = json.loads(requests.get())
            op = request.pop("op")
            answer = getattr(peer, op)(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
    os._exit(0)


main()
