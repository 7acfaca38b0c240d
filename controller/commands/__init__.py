"""The subcommands of `echelon` that belong to the controller, one module each, loaded when called.

A new command is a module here and its line in setup.cfg under `echelon.commands`. Modules here import nothing heavy at
their top: `echelon jobs` must not load Flask or SQLAlchemy.
"""
