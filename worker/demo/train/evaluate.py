#!/usr/bin/env python3
"""Measures a model on the held-out lists; `evaluate.py --help` tells how."""

import sys

from judging.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
