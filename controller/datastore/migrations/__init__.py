"""How an older database becomes the present one: Alembic's scripts, in order. They never import `tables`."""
