"""``python -m facerec``."""

from facerec.cli.main import main

if __name__ == "__main__":
    main()
