"""One module a part, each with `run(options) -> Report`."""
