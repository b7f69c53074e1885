"""`python -m minineo` is the command line."""

from minineo.cli import main

raise SystemExit(main())
