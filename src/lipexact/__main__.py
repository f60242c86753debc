"""``python -m lipexact``: the command line."""

from lipexact.cli.app import main

if __name__ == "__main__":
    main()
