"""The broker: a port and one adapter per product."""
