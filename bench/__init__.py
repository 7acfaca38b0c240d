"""The benchmark: Echelon, the machine's own limit and other engines with the same work. `python -m bench`."""
