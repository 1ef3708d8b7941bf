"""``python -m striate``."""

from striate.cli.main import main

main()
