#!/usr/bin/env python3
"""Collects the fonts and texts that posters and prompts are made from, from Debian packages:

    fonts.py OUT

`posters/fonts.py` and `prompts/distractors.py` name the packages and their licences.
"""

import sys
from pathlib import Path

from posters import fonts
from prompts import distractors

if __name__ == "__main__":
    fonts.gather(Path(sys.argv[1]), (distractors.gather,))
