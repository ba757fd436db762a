"""A catalog in one file: SQLite."""
