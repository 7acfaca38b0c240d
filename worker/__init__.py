"""The worker: runs tasks, one attempt per slot, and reports how they ended."""

if __name__ != "echelon.worker":
    raise ImportError("import echelon.worker, not worker: the folder is a part of the package echelon")
