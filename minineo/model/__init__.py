"""The model: layers put together by a configuration, as pure functions of a flat dictionary of parameters."""
