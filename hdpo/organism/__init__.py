"""How the bundled model and its problems are made: a *model organism* of the cliff.

A tiny Qwen2-architecture model is raised on the work of students who are fluent on the lower levels, careless now
and then, and who stop too early on the upper ones, while it has read worked solutions of every level. So its prompts
fall into the three regimes (cliff, mixed, solved) by construction. `python -m hdpo.organism build` makes the model,
`python -m hdpo.organism problems` the problem sets. Nothing here is needed to train or to sample.
"""
