"""The imperative shell: each file is one use-case object or one loop around the core."""
