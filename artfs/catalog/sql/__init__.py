"""The catalog in a database: SQLAlchemy Core over SQLite or PostgreSQL. Only these files, schema and migrations import it."""
