"""Leases, outages and clocks, part by part."""
