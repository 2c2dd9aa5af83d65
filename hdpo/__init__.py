"""HDPO: Hybrid Distillation Policy Optimization (arXiv 2603.23871), `L = L_GRPO + λ · L_JSD`.

Where to begin: `hdpo.method`, the paper from top to bottom; `hdpo.method.step` is Algorithm 1 on one screen. Then who
draws (`sampling`), the model (`model`), problems and prompts (`data`), verdicts (`grading`), intervals (`evidence`), run
folders (`record`), jobs (`work`) and the terminal (`cli`). A wing uses what stands below it, never what stands above.

Axes: `P` prompts, `G` rollouts per prompt (the paper's K), `B` = P·G sequences, `L` padded length, `T` completion
tokens, `N` completion positions of a micro-batch laid flat, `V` vocabulary, `K` top-k. Symbols: x prompt, y* ground
truth, x ⊕ y* the privileged prompt, ȳ a privileged rollout, λ the weight of the distillation term.
Importing `hdpo`, config, records, run folders, jobs, problems or stats imports neither torch nor transformers.
"""

__version__ = "0.1.0"

SEMANTICS = 1
"""What a run computes from its settings. Raised only when `tests/method/golden.json` changes: the same settings then give
other numbers, and runs of before and after are not compared."""
