"""What can run a task's command: as a process of this machine; for tests, not at all."""
