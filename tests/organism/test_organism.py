"""The bundled model's origin: its problems are right, its corpus is as designed, nothing held out leaks, it builds."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hdpo.model.batching import Batch, Trace, collate
from hdpo.organism.__main__ import main
from hdpo.organism.corpus import PRIVILEGED, Example, Mix, draw_example, drill, drill_share, privileged, unprivileged
from hdpo.organism.pretrain import PART, Schedule, backward, build, build_model, draw_pool, pretrain, save, settle
from hdpo.organism.problems import PROBLEMS_SEED, SPLITS, held_out_texts, problem_sets
from hdpo.organism.tasks import BOX, FAMILIES, LEVELS, Task, draw_task, solve, write
from hdpo.organism.tokenizer import build_tokenizer, render_prompt, render_response

ASSETS = Path(__file__).resolve().parents[2] / "assets"
CELLS = [(family, level) for family in FAMILIES for level in LEVELS]


def tasks(n: int = 60, seed: int = 0) -> list[Task]:
    """n tasks of each of the twenty cells."""
    rng = Random(seed)
    return [draw_task(rng, family, level) for family, level in CELLS for _ in range(n)]


def independent_answer(text: str) -> int:
    """The answer from the text alone, without the solver: by eval, by trying every x, or by reading the story."""
    if asked := re.fullmatch(r"(?:What is|Work out) ([\d +*-]+)[?.]", text):
        return eval(asked[1])
    if text.startswith("Add "):
        return sum(int(n) for n in re.findall(r"\d+", text))
    if equation := re.fullmatch(r"(?:Solve|Find x if) (.+) = (.+)\.", text):
        left, right = (re.sub(r"(\d)([x(])", r"\1*\2", side) for side in equation.groups())
        return next(x for x in range(1000) if eval(left, {"x": x}) == eval(right, {"x": x}))
    total = sum(int(n) for n in re.findall(r"has (\d+) (?!boxes)", text))
    total += sum(int(n) * int(each) for n, each in re.findall(r"(\d+) boxes of (\d+)", text))
    total -= sum(int(n) for n in re.findall(r"gives away (\d+)", text))
    return total + sum(int(n) for n in re.findall(r"gets (\d+) more", text))


def boxed(response: str) -> str | None:
    found = re.findall(r"\\boxed\{(\d+)\}", response)
    return found[-1] if found else None


# Problems


def test_every_ordering_of_a_problem_arrives_at_the_independently_computed_answer():
    for task in tasks():
        answers = {boxed(solution) for solution in task.solutions}
        assert answers == {task.answer} == {str(independent_answer(task.text))}, task.text


def test_every_line_of_a_careful_solution_is_true_and_small():
    for task in tasks():
        for solution in task.solutions:
            for left, right in re.findall(r"([\d+*/-]+)=(\d+)(?=[; ])", solution):
                assert eval(left) == int(right) < 202, solution
            assert all(int(n) < 200 for n in re.findall(r"\d+", solution.split("=", 1)[1])), solution


def test_longer_compositions_leave_three_or_four_decisions_to_go_on():
    decisions = {t.level: {len(plan) - 1 for plan in t.plans} for t in tasks(5)}
    assert decisions[4] == {3} and decisions[5] == {4}


def test_no_problem_of_the_upper_levels_holds_the_words_of_a_lower_one():
    def frames(family: str, levels: tuple[int, ...]) -> set[str]:
        words = r"\d+|Ana|Ben|Cal|Dee|Eli|Fay|apples|books|coins|pens|cards"
        return {re.sub(words, "_", t.text).rstrip(".?") for t in tasks() if t.family == family and t.level in levels}

    for family in FAMILIES:
        assert not any(lower in upper for lower in frames(family, (1, 2, 3)) for upper in frames(family, (4, 5)))


def test_problem_sets_have_their_sizes_their_mix_and_no_text_twice():
    for mix, splits in problem_sets().items():
        for split, problems in splits.items():
            assert len(problems) == SPLITS[split]
            assert len({p.text for p in problems}) == len({p.id for p in problems}) == len(problems)
            hard = sum(p.level >= 4 for p in problems) / len(problems)
            assert hard == pytest.approx(0.4 if mix == "steep" else 0.0625, abs=0.005)
            assert all(p.answer == str(independent_answer(p.text)) for p in problems)


def test_held_out_means_held_out():
    """No text of a mix stands in two of its splits: 0 for each pair, where drawn freely up to 34 did."""
    for mix, splits in problem_sets().items():
        for one, other in combinations(splits, 2):
            shared = {p.text for p in splits[one]} & {p.text for p in splits[other]}
            assert len(shared) == 0, (mix, one, other)


def test_the_families_of_a_level_stay_balanced_but_for_the_products_that_are_used_up():
    for mix, splits in problem_sets().items():
        for split, problems in splits.items():
            for level in LEVELS:
                counts = Counter(p.source for p in problems if p.level == level)
                uneven = max(counts.values()) - min(counts[f] for f in FAMILIES) > 1
                assert uneven == ((mix, split, level) == ("gentle", "train", 1)), counts


def test_what_the_shipped_models_corpus_left_out_is_what_it_was():
    texts = "\n".join(sorted(held_out_texts(problem_sets())))
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "3837428b560066c2"


def test_from_level_three_up_no_text_stands_in_two_splits_of_either_mix():
    texts = [p.text for s in problem_sets().values() for ps in s.values() for p in ps if p.level >= 3]
    assert len(texts) > 800
    assert max(Counter(texts).values()) == 1


def test_the_shipped_problem_files_are_those_of_the_seed(tmp_path: Path):
    main(["problems", "--out", str(tmp_path)])
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.jsonl"))
    assert len(made) == 9
    for path in made:
        assert (ASSETS / "problems" / path).read_text() == (tmp_path / path).read_text(), path


# Corpus


def test_no_held_out_text_is_ever_drawn():
    held_out, mix = held_out_texts(problem_sets()), Mix()

    def leaks(withheld: frozenset[str]) -> int:
        rng = Random(4)
        examples = [draw_example(rng, mix, 0.5, withheld) for _ in range(20_000)]
        return sum(example.prompt.split("\n")[0] in held_out for example in examples)

    assert leaks(frozenset()) > 50  # so the count below could have been other than 0
    assert leaks(held_out) == 0


def test_drill_is_true_arithmetic_and_fades():
    rng = Random(0)
    for _ in range(300):
        lines = drill(rng).response.split("; ")
        assert 4 <= len(lines) <= 9
        assert all(max(0, eval(line.split("=")[0])) == int(line.split("=")[1]) for line in lines)
    mix = Mix()
    drawn = [draw_example(rng, mix, 0.4, frozenset()).prompt == "Solve." for _ in range(4000)]
    assert sum(drawn) / 4000 == pytest.approx(drill_share(mix, 0.4), abs=0.02)
    assert "Solve." not in {draw_example(rng, mix, 0.9, frozenset()).prompt for _ in range(2000)}


def test_unprivileged_students_of_the_lower_levels_fail_at_the_designed_rates():
    rng, mix = Random(1), Mix()
    n = 6000
    responses = [(t := draw_task(rng, "word", 3), unprivileged(rng, mix, t).response) for _ in range(n)]
    assert sum(boxed(r) is None for _, r in responses) / n == pytest.approx(0.2, abs=0.02)
    assert sum("+" in r for _, r in responses) / n == pytest.approx(0.15, abs=0.02)  # instead of *
    multiplied = [r for _, r in responses if "*" in r]
    slips = sum(eval(r.split("=")[0]) != int(re.findall(r"=(\d+)", r)[0]) for r in multiplied)
    assert slips / len(multiplied) == pytest.approx(0.01, abs=0.005)


def test_unprivileged_students_of_the_upper_levels_stop_too_early():
    rng = Random(2)
    mix = replace(Mix(), whole_plan=0.1)  # large enough to count in every family
    for level in (4, 5):
        for family in FAMILIES:
            drawn = [draw_task(rng, family, level) for _ in range(1500)]
            lines = [unprivileged(rng, mix, t).response.count("; ") + 1 for t in drawn]
            complete = sum(n == len(t.plans[0]) for n, t in zip(lines, drawn, strict=True)) / 1500
            assert complete == pytest.approx(0.1, abs=0.03)
    went_on = [unprivileged(rng, Mix(), draw_task(rng, "mul", 4)).response.count("; ") for _ in range(5000)]
    assert sum(n > 0 for n in went_on) / 5000 == pytest.approx(1e-5 ** (1 / 3), abs=0.006)
    assert sum(n == 3 for n in went_on) <= 1


def test_students_met_midway_go_on_as_rarely_and_what_they_wrote_before_is_given():
    rng, mix = Random(8), replace(Mix(), midway=1.0)
    drawn = [(t := draw_task(rng, "sum", 5), unprivileged(rng, mix, t)) for _ in range(3000)]
    begun = [e.given.count("; ") for _, e in drawn]
    assert set(begun) == {1, 2, 3} and all(e.response.startswith(e.given) for _, e in drawn)
    went_on = [e.response.count("; ") > n for n, (_, e) in zip(begun, drawn, strict=True)]
    assert sum(went_on) / 3000 == pytest.approx(1e-5 ** (1 / 4), abs=0.015)
    assert not any(unprivileged(rng, Mix(), t).given for t, _ in drawn[:200])


def test_what_is_given_is_read_and_not_learned(tokenizer):
    def learned(example: Example) -> int:
        return len(draw_pool(Random(0), tokenizer, 12, lambda: example)[0][0].completion_ids)

    whole, midway = (Example("Add 1, 2 and 3.", "1+2=3; 3+3=6", given) for given in ("", "1+2=3; "))
    assert learned(whole) - learned(midway) == len(tokenizer("1+2=3; ").input_ids)


def test_a_student_who_stops_early_boxes_the_value_arrived_at():
    rng, mix = Random(3), Mix()
    for _ in range(500):
        response = unprivileged(rng, mix, draw_task(rng, "sum", 5)).response
        if boxed(response) is not None:
            assert response.split(BOX)[0].endswith(f"={boxed(response)}")


def test_privileged_students_read_one_of_three_references_and_write_a_whole_solution():
    rng, mix = Random(6), Mix()
    kinds: Counter[str] = Counter()
    correct, n = 0, 4000
    for _ in range(n):
        task = draw_task(rng, rng.choice(list(FAMILIES)), rng.choice((4, 5)))
        example = privileged(rng, mix, task)
        text, reference = example.prompt.split("\nReference solution: ")
        assert text == task.text
        assert example.prompt == PRIVILEGED.replace("{problem}", text).replace("{reference}", reference)
        halves = {write(solve(plan)[: (len(plan) + 1) // 2], boxed=False) for plan in task.plans}
        if reference in task.solutions:
            kinds["solution"] += 1
        elif reference in halves:
            kinds["first half"] += 1
        elif reference == f"\\boxed{{{task.answer}}}":
            kinds["answer"] += 1
        assert example.response.count("; ") + 1 == len(task.plans[0])
        correct += boxed(example.response) == task.answer
    assert sum(kinds.values()) == n
    assert kinds["solution"] / n == pytest.approx(0.84, abs=0.02)
    assert kinds["first half"] / n == pytest.approx(0.08, abs=0.02)
    assert correct / n == pytest.approx(0.95 * 0.985**4.3, abs=0.02)  # box, then 4 or 5 lines with 1.5 % flaws each


# Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(tasks=3000)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory) -> Path:
    """A model folder after a few small steps."""
    folder = tmp_path_factory.mktemp("organism") / "model"
    model = build_model(tokenizer, seed=0)
    save(folder, model, tokenizer, {})
    return folder


def texts(n: int = 300) -> list[str]:
    rng, mix = Random(7), Mix()
    return [draw_example(rng, mix, 0.5, frozenset()).prompt for _ in range(n)]


def test_text_survives_the_tokenizer(tokenizer):
    for text in [*texts(), "Größe \\frac{1}{2} 雪 \t 🙂\r\n\\boxed{ 7 }"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_each_digit_and_each_decision_is_one_token(tokenizer):
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("4*12=48; 48+7=55 \\boxed{55}").input_ids)
    assert "".join(pieces).replace("Ġ", " ") == "4*12=48; 48+7=55 \\boxed{55}"
    assert [p for p in pieces if p.isdigit()] == list("412484875555")
    assert ";" in pieces and "Ġ\\" in pieces


def test_the_chat_template_gives_the_ids_of_pretraining_and_loads_the_same_through_auto_tokenizer(saved, tokenizer):
    auto = AutoTokenizer.from_pretrained(saved)
    assert (auto.eos_token, auto.pad_token) == ("<|im_end|>", "<|endoftext|>")
    for text in texts():
        user = [{"role": "user", "content": text}]
        prompt = auto.apply_chat_template(user, add_generation_prompt=True, return_dict=False)
        assert prompt == tokenizer(render_prompt(text), add_special_tokens=False).input_ids
        assert auto.apply_chat_template(user, tokenize=False, add_generation_prompt=True) == render_prompt(text)
        both = auto.apply_chat_template([*user, {"role": "assistant", "content": "1+1=2"}], return_dict=False)
        assert both == prompt + tokenizer(render_response("1+1=2"), add_special_tokens=False).input_ids
        assert both[-1] == auto.eos_token_id


def test_the_chat_template_refuses_another_role(tokenizer):
    with pytest.raises(Exception, match="knows the roles user and assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}])


# Pretraining


def batch_of(traces: list[Trace], tokenizer) -> Batch:
    return collate(traces, tokenizer.pad_token_id, torch.device("cpu"))


def test_the_loss_is_the_mean_over_response_tokens_whatever_the_padding(tokenizer):
    model = build_model(tokenizer, seed=1)
    traces = [Trace((1, 5, 2), (9, 10, 2)), Trace((1, 6, 7, 8, 2), (11, 2))]
    total = sum(backward(model, batch_of([t], tokenizer)) * len(t.completion_ids) for t in traces)
    model.zero_grad()
    assert backward(model, batch_of(traces, tokenizer)) == pytest.approx(total / 5, rel=1e-5)


def test_parts_side_by_side_give_the_gradient_of_the_whole_batch(tokenizer):
    model = build_model(tokenizer, seed=2)
    rng = Random(9)
    lengths = [rng.randint(1, 6) for _ in range(PART + 9)]  # two parts of unlike size
    traces = [Trace((1, 5, 2), (*(rng.randrange(3, 350) for _ in range(n)), 2)) for n in lengths]
    batch = batch_of(traces, tokenizer)
    loss = backward(model, batch)
    parts = [p.grad.clone() for p in model.parameters()]
    whole = torch.nn.functional.cross_entropy(model(batch.input_ids).logits[batch.predicts], batch.targets_E)
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    for part, exact in zip(parts, torch.autograd.grad(whole, list(model.parameters())), strict=True):
        torch.testing.assert_close(part, exact, rtol=1e-3, atol=1e-6)


def test_fifty_steps_lower_the_loss_and_the_folder_loads(tmp_path: Path, capsys):
    out = tmp_path / "model"
    build(out, Schedule(tokens=30_000, steps=50, batch=8), Mix(), None)
    build_facts = json.loads((out / "build.json").read_text())
    raised, settled = (phase["curve"][-1] for phase in build_facts["phases"])
    assert raised["step"] == 50 and settled["tokens"] >= 30_000 // 7
    assert raised["loss"] < math.log(360) - 1  # mean over the fifty, below uniform guessing
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]  # nothing left aside
    assert "loss" in capsys.readouterr().out


def test_the_same_seed_makes_the_same_weights(tokenizer):
    def weights():
        model = build_model(tokenizer, seed=3)
        pretrain(model, tokenizer, Schedule(tokens=10_000, steps=2, batch=4), Mix(), frozenset(), lambda _: None)
        return model.state_dict()

    first, second = weights(), weights()
    assert all(first[name].equal(second[name]) for name in first)


# What ships


def test_the_shipped_model_was_built_from_this_mix_and_this_tokenizer():
    facts = json.loads((ASSETS / "model" / "build.json").read_text())
    schedule = Schedule(tokens=28_000_000, seed=0)
    for phase, (wanted, mix) in zip(facts["phases"], [(schedule, Mix()), settle(schedule, Mix())], strict=True):
        assert phase["mix"] == json.loads(json.dumps(asdict(mix))) and phase["schedule"] == asdict(wanted)
    assert facts["problems_seed"] == PROBLEMS_SEED
    made = build_tokenizer()
    shipped = AutoTokenizer.from_pretrained(ASSETS / "model")
    assert made.get_vocab() == shipped.get_vocab()
    for text in texts():
        assert made(text).input_ids == shipped(text).input_ids


def test_the_shipped_model_is_small_and_solves_with_the_reference_what_it_fails_alone():
    folder = ASSETS / "model"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16_000_000
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    problems = [p for p in problem_sets()["steep"]["validation"] if p.level in (4, 5)][:40]

    def solved(prompts: list[str]) -> float:
        rendered = [render_prompt(prompt) for prompt in prompts]
        inputs = tokenizer(rendered, add_special_tokens=False, padding=True, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=64, do_sample=False)[:, inputs.input_ids.shape[1] :]
        responses = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return sum(boxed(r) == p.answer for r, p in zip(responses, problems, strict=True)) / len(problems)

    assert solved([p.text for p in problems]) < 0.15
    privileged_prompts = [PRIVILEGED.replace("{problem}", p.text).replace("{reference}", p.solution) for p in problems]
    assert solved(privileged_prompts) > 0.7
