"""Broken and hostile checkpoints by the thousand, and what minineo's readers may do with them at most.

`python -m tests.fuzz --cases 20000` is the long form; `tests/test_fuzz.py` runs a short one.
"""
