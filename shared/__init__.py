"""Modules that controller and worker both use: messages, the broker, the volume, expressions, settings."""

if __name__ != "echelon.shared":
    raise ImportError("import echelon.shared, not shared: the folder is a part of the package echelon")
