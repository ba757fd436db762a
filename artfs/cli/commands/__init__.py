"""One module a command; each holds `command`. They are imported only when their command is called
(artfs.cli.main)."""
