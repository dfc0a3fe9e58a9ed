"""The beginning of the network's training: a bag of tokens that chooses the answer.

A transformer of this size learns to recite in minutes, and needs long to find out which words decide; a mean of token
vectors finds that out a hundred times cheaper, and generalises better. So embeddings and the values of the first layer
are trained as such a mean first. The first layer's attention begins nearly uniform, which makes it that mean.
"""

import time

import torch
import torch.nn.functional as F

from model import Shape, prompt_ids


def examples(corpus, tokenizer, label, n):
    """Ids, row of each id, and labels of n questions; parts of words stand for some words, as later in training."""
    ids, rows, labels = [], [], []
    while len(labels) < n:
        question, answer, _ = corpus.example()
        tokenizer.model.dropout = 0.1 if corpus.rng.random() < 0.3 else None
        prompt = prompt_ids(tokenizer, question)
        # A token in ten is missed, so that no answer hangs on one alone.
        kept = [t for t in prompt if corpus.rng.random() > 0.1] or prompt
        ids += kept
        rows += [len(labels)] * len(kept)
        labels.append(label[answer])
    tokenizer.model.dropout = None
    return torch.tensor(ids), torch.tensor(rows), torch.tensor(labels)


class Bag:
    def __init__(self, n_label):
        s = Shape
        self.width = s.kv_heads * s.head
        self.embed = (torch.randn(s.vocab, s.hidden) * 0.05).requires_grad_()
        self.value = (torch.randn(self.width, s.hidden) * s.hidden**-0.5).requires_grad_()
        self.choose = (torch.randn(n_label, self.width) * self.width**-0.5).requires_grad_()
        self.scale = torch.tensor(10.0, requires_grad=True)

    def logits(self, ids, rows, n):
        """[n, labels]: one matrix product over the vocabulary, then sums."""
        values = F.rms_norm(self.embed, (Shape.hidden,), eps=Shape.eps) @ self.value.T
        sums = torch.zeros(n, self.width).index_add_(0, rows, values[ids])
        counts = torch.zeros(n).index_add_(0, rows, torch.ones(len(rows)))
        return self.scale * (sums / counts[:, None]) @ self.choose.T


def train(corpus, tokenizer, texts, n_examples, questions, batch=1024, rate=3e-3):
    """Trains a bag; prints its share of right answers on the held-out questions."""
    label = {a: k for k, a in enumerate(sorted(texts))}
    bag = Bag(len(label))
    steps = n_examples // batch
    optimizer = torch.optim.AdamW([bag.embed, bag.value, bag.choose, bag.scale], lr=rate, betas=(0.9, 0.98), weight_decay=0.02)
    start = time.time()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
        ids, rows, labels = examples(corpus, tokenizer, label, batch)
        loss = F.cross_entropy(bag.logits(ids, rows, batch), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"bag: step {step + 1} of {steps}, {time.time() - start:.0f} s, loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        prompts = [prompt_ids(tokenizer, q) for _, q in questions]
        ids, rows = torch.tensor([t for p in prompts for t in p]), torch.tensor([k for k, p in enumerate(prompts) for _ in p])
        best = bag.logits(ids, rows, len(prompts)).argmax(1).tolist()
    right = {True: [], False: []}
    for (intent, _), k in zip(questions, best):
        right[intent == "out_of_scope"].append(k == label[corpus.answer[intent]])
    for outside, name in ((False, "in scope"), (True, "out of scope")):
        print(f"bag: {100 * sum(right[outside]) / len(right[outside]):.1f} % {name}", flush=True)
    return bag


@torch.no_grad()
def begin_with(model, bag, texts, tokenizer):
    """Copies a bag into a network: its choice among answers becomes one among their first tokens."""
    s, first = Shape, model.layers[0]
    # The head is the embedding: its rows keep the usual length there.
    model.embed.weight.copy_(bag.embed * (0.05 / bag.embed.pow(2).mean().sqrt()))
    first.v.weight.copy_(bag.value)
    first.q.weight.mul_(0.05)
    for layer in model.layers:
        layer.down.weight.mul_(0.3)
        layer.o.weight.mul_(0.3)
    tokens = torch.tensor([tokenizer.encode(a).ids[0] for a in sorted(texts)])
    heads = F.normalize(model.embed.weight[tokens] - model.embed.weight.mean(0), dim=1)
    # [hidden, values]: logits of the answers, each in the direction of its first token. The mean over answers says
    # nothing about the choice.
    map_ = heads.T @ (bag.scale * (bag.choose - bag.choose.mean(0)))
    # Each value head is read by a group of query heads, which together write it once.
    group = s.heads // s.kv_heads
    for head in range(s.heads):
        kv = head // group
        first.o.weight[:, head * s.head : (head + 1) * s.head] = map_[:, kv * s.head : (kv + 1) * s.head] / group * 0.3
