"""The model that trains: what its name means, its weights and adapter, and how batches go through it."""
