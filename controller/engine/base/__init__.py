"""The parts that all rooms of the engine use: the unit of work, records, outgoing messages."""
