"""The subcommands of `echelon` that belong to the controller, one module each; they are loaded when they are called.

Modules here import nothing heavy at their top: `echelon jobs` pays for no Flask and no SQLAlchemy.
"""
