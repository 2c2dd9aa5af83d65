"""Who draws the rollouts: one protocol, transformers and vLLM behind it, and the keyed draws of both."""
