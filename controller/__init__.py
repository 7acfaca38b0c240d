"""The controller: takes jobs over REST and moves them from stage to stage."""

if __name__ != "echelon.controller":
    raise ImportError("import echelon.controller, not controller: the folder is a part of the package echelon")
