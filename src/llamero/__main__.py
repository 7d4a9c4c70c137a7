"""`python -m llamero`: the command line."""

import sys

from llamero.interfaces.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
