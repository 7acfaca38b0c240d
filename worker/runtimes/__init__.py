"""Runtimes run a task's command: as a process of this machine or, for tests, as a fake."""
