"""``python -m mediaserver_client`` is ``mediaserver-captions``."""

import sys

from mediaserver_client.cli import main

sys.exit(main())
