"""The benchmark: what the engine reaches, beside the machine's own limit and other engines. `python -m bench`."""
