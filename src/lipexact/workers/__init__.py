"""Tasks for workers: processes of this machine, or whatever an executor has.

An executor is anything with the interface of :class:`concurrent.futures.Executor`, for one machine
or a cluster: it knows workers, queues and networks. This package adds what such an interface lacks:

* What all tasks share, their context, is sent to each worker once. A task names it; a worker that
  has not got it says so, and the task goes out again with it.
* A task is a function of what it is sent. One that is lost, with its worker or with the executor's
  scheduler, goes out again, and its outcome counts once.
* A worker that dies is told apart from a task that fails. Local processes are executors of one
  worker each, so it is known which task was being done; a task that ends several of them is given
  up, and the others go on.

``pool`` is the caller's side, ``worker`` the side of the workers.
"""

from __future__ import annotations

from lipexact.workers.pool import TaskOutcome, WorkerPool, worker_count

__all__ = ["TaskOutcome", "WorkerPool", "worker_count"]
