"""The reference layers: pure functions of arrays, one page each, written to be read."""
