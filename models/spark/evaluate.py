"""Asks a finished model file the held-out questions on our own engine, and counts.

Usage: evaluate.py TEALIGHT MODEL.gguf [--out results.md]

Right means: the whole greedy answer is at least 0.85 similar to a known answer, and that answer is the one for the
question. A question is asked twice: bare, and with words before and behind, synonyms, lost words, a typo, and case as
in training. `far` are the questions that share less than half of their words with every one of 300,000 training
questions of their intent.
"""

import argparse
import collections
import difflib
import subprocess
from pathlib import Path

from corpus import Corpus, facts_hash, held_out, plain

TALK = "Small talk"
SIMILAR = 0.85


def ask(tealight, model, questions):
    """The answers to all questions, each of which stands alone by the model's template."""
    lines = "".join(q.replace("\n", " ") + "\n" for q in questions)
    command = [tealight, "chat", model, "--no-history", "-n", "120", "--device", "cpu", "-q", "--temp", "0"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    answers = done.stdout.splitlines()
    if len(answers) != len(questions):
        raise SystemExit(f"{len(questions)} questions, {len(answers)} lines of answers")
    return answers


def nearest(answer, texts):
    ratio = lambda t: difflib.SequenceMatcher(None, answer, t, autojunk=False).ratio()
    best = max(texts, key=lambda t: (common(t, answer), ratio(t) if common(t, answer) < 8 else 0))
    value = ratio(best)
    if value < SIMILAR:
        best = max(texts, key=ratio)
        value = ratio(best)
    return best, value


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def far_questions(questions, n=300_000):
    """Held-out questions unlike all that training made for the same intent."""
    corpus = Corpus(12345)
    seen = collections.defaultdict(set)
    for _ in range(n):
        text, _, intent = corpus.example(0.3)
        seen[intent].add(frozenset(plain(text)))
    far = set()
    for intent, question in questions:
        words = set(plain(question))
        if max((len(words & s) / max(1, len(words | s)) for s in seen[intent]), default=0.0) < 0.5:
            far.add(question)
    return far


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tealight")
    parser.add_argument("model")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    corpus, noise = Corpus(5), Corpus(99)
    held = held_out()
    everyday = [("everyday:" + answer, q) for _, answer, q in corpus.everyday]
    group_of = {i: "small talk" if f["group"] == TALK else "tealight" for f in corpus.table for i in f["intents"]}
    group_of["out_of_scope"], group_of["not_understood"] = "out of scope", "not understood"
    asked = [(i, q, "bare", q) for i, q in held] + [(i, q, "noisy", noise.noisy(q)) for i, q in held]
    asked += [(i, q, "bare", q) for i, q in everyday]
    # The grammar's own sentences with new noise: what was learned of what was taught.
    fresh = Corpus(777)
    taught = [fresh.example() for _ in range(200)]
    asked += [("everyday:" + a if i == "everyday" else i, q, "taught", q) for q, a, i in taught]
    answers = ask(args.tealight, args.model, [a[3] for a in asked])
    texts = sorted(set(corpus.answer.values()) | {a for _, a, _ in corpus.everyday})
    far = far_questions(held)
    right, per_intent, confused, examples = collections.Counter(), collections.defaultdict(list), collections.Counter(), []
    garbled = claims = refused = wrong = 0
    id_of = {f["text"]: f["id"] for f in corpus.table}
    for (intent, original, kind, question), answer in zip(asked, answers):
        is_everyday = intent.startswith("everyday:")
        wanted = intent.removeprefix("everyday:") if is_everyday else corpus.answer[intent]
        group = "everyday" if is_everyday else group_of[intent]
        best, value = nearest(answer, texts)
        ok = best == wanted and value >= SIMILAR
        keys = [("taught", "all")] if kind == "taught" else [(kind, group)]
        if kind == "bare" and group == "tealight":
            keys.append(("bare", "tealight, far" if original in far else "tealight, near"))
        for key in keys:
            right[key + (ok,)] += 1
        if kind != "taught" and not is_everyday:
            per_intent[intent].append(ok)
        if kind == "bare" and not ok:
            got = id_of.get(best, "everyday") if value >= SIMILAR else "garbled"
            confused[f"{'everyday' if is_everyday else intent} -> {got}"] += 1
            if not is_everyday:
                examples.append(f"| {question} | {got} |")
            garbled += got == "garbled"
            wrong += 1
            refused += got in ("out_of_scope", "not_understood")
            claims += intent == "out_of_scope" and got not in ("out_of_scope", "not_understood", "garbled")
    lines = [f"Model file {Path(args.model).name}, {Path(args.model).stat().st_size / 1e6:.2f} MB, facts {facts_hash(corpus.table)}.", ""]
    lines += ["| questions | right | of |", "|---|---|---|"]
    for kind, group in sorted({k[:2] for k in right}):
        n = right[kind, group, True] + right[kind, group, False]
        lines.append(f"| {group}, {kind} | {100 * right[kind, group, True] / n:.1f} % | {n} |")
    n_out = right["bare", "out of scope", True] + right["bare", "out of scope", False]
    lines += ["", f"Of the {wrong} wrong bare answers {refused} refuse and {garbled} are no known answer. False claims on out-of-scope questions: {claims} of {n_out}.", ""]
    lines += ["The ten most frequent confusions (bare): " + ", ".join(f"{k} ({n})" for k, n in confused.most_common(10)) + ".", ""]
    lines += ["Per intent (bare and noisy): " + ", ".join(f"{i} {sum(v)}/{len(v)}" for i, v in per_intent.items()) + ".", ""]
    text = "\n".join(lines)
    print(text)
    if args.out:
        args.out.write_text(text + "\n| wrong (bare) | taken for |\n|---|---|\n" + "\n".join(examples) + "\n")


if __name__ == "__main__":
    main()
