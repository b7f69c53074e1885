"""GPT-Neo that a person can read, run, trust and teach from."""
