"""`python -m hdpo`."""

import sys

from hdpo.cli.main import main

sys.exit(main())
