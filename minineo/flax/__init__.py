"""GPT-Neo as `transformers` 4 had it for Flax: nested parameters, static caches, functions that JAX compiles."""
