"""`python -m bnaudit`."""

from bnaudit.cli import main

if __name__ == "__main__":
    main()
