"""`python -m hourglass_client.cli`, the same as `hourglass`."""

import sys

from hourglass_client.cli.main import main

sys.exit(main())
