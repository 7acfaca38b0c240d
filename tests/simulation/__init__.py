"""A deterministic simulation of a cluster: real core, engine, statements and worker protocol in a made-up world."""
