"""The meter: what a linear classifier over words and letters learns from the corpus, in half a minute.

Its share of right answers on the held-out questions says whether the grammar has enough wordings, before hours are
spent on training. Usage: meter.py [--n 150000] [--wrong]
"""

import argparse
import random
import time
import zlib
from collections import Counter

import torch

from corpus import Corpus, held_out

BUCKETS = 1 << 18


def features(text):
    """Hashes of words, pairs of words, and letters in a row."""
    words = "".join(c if c.isalnum() or c in "-_/." else " " for c in text.lower()).split()
    found = [f"w{w}" for w in words] + [f"p{a} {b}" for a, b in zip(["^"] + words, words + ["$"])]
    for word in words:
        padded = f"<{word}>"
        found += [f"c{padded[k : k + n]}" for n in (3, 4, 5) for k in range(len(padded) - n + 1)]
    return [zlib.crc32(f.encode()) % BUCKETS for f in found] or [0]


def bags(texts):
    rows = [features(t) for t in texts]
    offsets = torch.tensor([0] + [len(r) for r in rows[:-1]]).cumsum(0)
    return torch.tensor([f for r in rows for f in r]), offsets


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=150_000)
    parser.add_argument("--wrong", action="store_true", help="list the held-out questions that go wrong")
    args = parser.parse_args()
    torch.manual_seed(0)
    corpus = Corpus(7, everyday_share=0.0)
    names = sorted(set(corpus.answer.values()))
    label = {a: k for k, a in enumerate(names)}
    model = torch.nn.EmbeddingBag(BUCKETS, len(names), mode="mean", sparse=True)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=1.0)
    start, batch = time.time(), 256
    for _ in range(args.n // batch):
        examples = [corpus.example() for _ in range(batch)]
        logits = model(*bags([e[0] for e in examples])) * 8
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label[e[1]] for e in examples]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"trained on {args.n} questions in {time.time() - start:.0f} s, last loss {loss.item():.2f}")
    held = held_out()
    noise = Corpus(99)
    for kind in ("bare", "noisy"):
        questions = [q if kind == "bare" else noise.noisy(q) for _, q in held]
        with torch.no_grad():
            found = model(*bags(questions)).argmax(1).tolist()
        right = Counter()
        for (intent, _), question, k in zip(held, questions, found):
            group = "out of scope" if intent == "out_of_scope" else "in scope"
            ok = names[k] == corpus.answer[intent]
            right[group, ok] += 1
            if args.wrong and not ok and kind == "bare":
                print(f"  {intent:16} {question!r} -> {names[k][:40]!r}")
        for group in ("in scope", "out of scope"):
            n = right[group, True] + right[group, False]
            print(f"{kind:6} {group:13} {100 * right[group, True] / n:.1f} % of {n}")


if __name__ == "__main__":
    random.seed(0)
    main()
