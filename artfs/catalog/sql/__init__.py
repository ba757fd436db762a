"""The embedded catalog: SQLAlchemy Core over SQLite. The only files, with schema and migrations, that import it."""
