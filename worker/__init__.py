"""The worker: runs tasks, one attempt per slot, and reports how they ended."""
