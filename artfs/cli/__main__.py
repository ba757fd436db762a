"""`python -m artfs.cli`: the same as the `artfs` command."""

from artfs.cli.main import main

if __name__ == "__main__":
    main()
