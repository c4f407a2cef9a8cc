"""``python -m bigr.demo``."""

from bigr.demo import main

if __name__ == "__main__":
    main()
