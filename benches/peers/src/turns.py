"""Python's bulkman on the same work: `python -c SCRIPT KIND WORKERS WORKER_CORES CALLER_CORES`.

Reads a number of calls from its input, makes them, and answers with the nanoseconds, until the input ends.
"""

import os
import sys
import threading
import time

from bulkman import BulkheadConfig, BulkheadFullError, BulkheadThreading


def move_to(cores):
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def task():
    return 7


def timed(turn):
    def timed_turn(bulkhead, calls):
        began = time.perf_counter_ns()
        turn(bulkhead, calls)
        return time.perf_counter_ns() - began

    return timed_turn


@timed
def one_by_one(bulkhead, calls):
    for _ in range(calls):
        assert bulkhead.execute(task).result().result == 7


def now_and_then(bulkhead, calls):
    took = 0
    for _ in range(calls):
        time.sleep(0.0005)
        took += one_by_one(bulkhead, 1)
    return took


@timed
def batch(bulkhead, calls):
    futures = [bulkhead.execute(task) for _ in range(calls)]
    for future in futures:
        assert future.result().result == 7


@timed
def refused(bulkhead, calls):
    for _ in range(calls):
        try:
            bulkhead.execute(task)
        except BulkheadFullError:
            continue
        raise AssertionError("a full bulkhead refuses")


def occupy(bulkhead, workers):
    """One task on each worker. The executor starts its threads at their first tasks, where the caller is."""
    release, started = threading.Event(), threading.Barrier(workers + 1)

    def busy():
        started.wait()
        release.wait()

    for _ in range(workers):
        bulkhead.execute(busy)
    started.wait()
    return release


def main():
    kind, workers, worker_cores, caller_cores = sys.argv[1:]
    is_refused = kind == "refused"
    bulkhead = BulkheadThreading(
        BulkheadConfig(
            name="peer",
            max_concurrent_calls=int(workers),
            max_queue_size=0 if is_refused else 100_000,
        )
    )
    move_to(worker_cores)
    release = occupy(bulkhead, int(workers))
    move_to(caller_cores)
    if not is_refused:
        release.set()
    turns = {"one_by_one": one_by_one, "batch": batch, "now_and_then": now_and_then, "refused": refused}
    turn = turns[kind]
    try:
        for line in sys.stdin:
            print(turn(bulkhead, int(line)), flush=True)
    finally:
        # Python waits for its threads in the end.
        release.set()


main()
