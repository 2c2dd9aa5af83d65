"""HDPO: Hybrid Distillation Policy Optimization (arXiv 2603.23871), `L = L_GRPO + λ · L_JSD`.

The algorithm is a handful of pure functions, read in this order:

    advantages.advantages      rewards of a group → advantages
    losses.clipped_surrogate   the GRPO term, per token
    losses.jsd_topk            the distillation term, per token
    objective.hdpo_gradient    both terms, each over its one denominator, onto the adapter
    loop.hdpo_step             Algorithm 1: sample, grade, find the cliffs, peek, keep R=1, update

Axes: `P` prompts, `G` rollouts per prompt (the paper's K), `B` = P·G sequences, `L` padded length, `T` completion
tokens, `N` completion positions of a micro-batch laid flat, `V` vocabulary, `K` top-k. Symbols: x prompt, y* ground
truth, x ⊕ y* the privileged prompt, ȳ a privileged rollout, λ the weight of the distillation term.
Importing `hdpo`, or its config, records, runs, jobs, problems or stats, imports neither torch nor transformers.
"""

__version__ = "0.1.0"
