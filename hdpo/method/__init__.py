"""The paper, from top to bottom: "HDPO: Hybrid Distillation Policy Optimization", Ken Ding, arXiv 2603.23871.

`L_HDPO(θ) = L_GRPO(θ) + λ · L_JSD(θ)` (Sec. 3.2). What each line of the paper is here:

    Algorithm 1, whole                             step.hdpo_step
      1  K rollouts a prompt, scored               groups.Collector.collect
      2  L_GRPO: clipped ratio, token mean          losses.clipped_surrogate, objective.grpo_gradient
         advantage r_i − mean of the others         advantages.advantages
      3  C = {x : Σ_k R(x, y_k) = 0}               groups.distillable, records.Group.kind
      4  ȳ ~ π_T(· | x ⊕ y*)                       step.peek, groups.Collector.privileged_ids
      5  T = {(x, ȳ) : R(x, ȳ) = 1}                groups.accepted
      6  L_JSD over T, one token count              losses.jsd_topk, objective.add_distillation
      7  θ ← θ − α ∇(L_GRPO + λ L_JSD)             step.descend
    the denominators: tokens of all rollouts of the step, of T    step.count_tokens, objective.Scale
    JSD_k and its tail                             losses.jsd_topk (full: losses.jsd_full)
    drifting and frozen teacher                    objective.teacher_weights
    Sec. 2.3, the three regimes                    records.GroupKind, groups.signal_accounting
    Sec. 3, realizability gap KL(P_T ‖ P_S)        gap.token_gaps
    Lemma 1, and the bound of the range            losses.lemma1_bound, losses.range_bound
    Proposition 1 (ii), the model mismatch         gap.token_gaps, column `mismatch`
    Sec. 4, pass@k                                 evaluate.measure, evaluate.estimates
    App. C, warm-up                                step.learning_rate

One update a batch of rollouts: the ratio is 1, so the clip never acts (its gradient is that of REINFORCE with a baseline).

Around it: `run` (the loop, checkpoints, probes), `by_hand` (both gradients of one batch, and one plain step along them),
`identity` (what a run measures with), `rehearsal` (the worst batch first, on a GPU).
"""
