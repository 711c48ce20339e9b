"""`python -m headrace` is the console script; the supervisor starts its processes this way."""

from headrace.cli import main

if __name__ == "__main__":
    main()
