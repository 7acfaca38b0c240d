"""The loop of the engine, and what one turn of it calls: intake, dispatch, orders."""
