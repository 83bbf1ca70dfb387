"""``python -m mmqsa``: the command line, in this process or in a copy of a waiting one."""

import os
import sys
from pathlib import Path

from mmqsa import worker

code = None
if folder := os.environ.pop(worker.FOLDER, None):
    code = worker.hand_over(Path(folder), sys.argv[1:])
if code is None:
    from mmqsa.cli import main

    main()
raise SystemExit(code)
