"""The controller: takes jobs over REST and moves them from stage to stage."""
