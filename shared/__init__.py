"""What controller and worker have in common: the contract between them and the floor both stand on."""

if __name__ != "echelon.shared":
    raise ImportError("import echelon.shared, not shared: the folder is a part of the package echelon")
