"""A catalog on a server: PostgreSQL, through psycopg (the extra `artfs[server]`), which no other file imports."""
