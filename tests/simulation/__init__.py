"""A deterministic simulation of a whole cluster: real core, engine, statements and worker protocol; the rest is made up."""
