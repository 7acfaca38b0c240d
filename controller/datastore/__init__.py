"""The store of jobs: a port, and its adapter for SQLite and PostgreSQL on SQLAlchemy Core."""
