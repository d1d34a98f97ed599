"""``python -m ckpt_doctor``."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # "python -m" looks for modules in the current directory first, where an untrusted checkpoint may lie.
    if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):  # noqa: PTH109, PTH120
        del sys.path[0]

    from ckpt_doctor.cli import main

    main()
