"""What all rooms of the engine use: the board of a transaction, records, messages that go out."""
