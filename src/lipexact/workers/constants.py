"""Limits and waiting times of tasks and workers."""

from __future__ import annotations

# Workers that may die of one task, before it is given up.
MAX_DEATHS = 3
# Times that a task may be lost for other reasons, such as a scheduler that was restarted.
MAX_LOSSES = 10
# Contexts that a worker keeps: of the searches of this many pools at once.
MAX_CONTEXTS = 4
# A local process whose tasks are shorter is given the next one ahead of time, so that it does not
# wait for the caller; with longer tasks, those that wait would be lost with it when it dies.
SHORT_TASK_SECONDS = 0.1
# Workers of an executor that does not say how many it has.
UNKNOWN_WORKER_COUNT = 8
# Time until an executor is asked again how many workers it has.
RECOUNT_SECONDS = 10.0
# Silence after which the pool checks whether an executor's client is still connected.
SILENCE_SECONDS = 5.0
# Time that closing a pool waits for its thread.
CLOSE_SECONDS = 10.0
# Time between two looks of a local process at whether its caller is still there.
CALLER_CHECK_SECONDS = 1.0
