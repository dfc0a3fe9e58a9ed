"""Trains the built-in model on text that corpus.py makes while it runs; writes a folder that `tealight quantize` reads.

Usage: train.py --out FOLDER --minutes 80 [--resume]. Rates follow the clock: constant for the first 60 % of the
minutes, then falling to 2 %, so a busy machine gets fewer steps and still ends with a decay. A file `decay` in the
folder begins the decay at once (it then takes half of the time so far, at most what is left).
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from corpus import Corpus, facts_hash, held_out
from model import END, START, STOP, TEMPLATE, Shape, Spark, generate, prompt_ids, train_tokenizer


class Muon:
    """Momentum whose matrices are made orthogonal before each step (Keller Jordan, 2024), by matrices of equal shape."""

    def __init__(self, matrices, momentum=0.95, decay=0.03):
        self.momentum, self.decay = momentum, decay
        self.groups = {}
        for m in matrices:
            self.groups.setdefault(tuple(m.shape), []).append(m)
        self.buffers = {shape: torch.zeros(len(ms), *shape) for shape, ms in self.groups.items()}

    @torch.no_grad()
    def step(self, rate):
        for shape, matrices in self.groups.items():
            gradient = torch.stack([m.grad for m in matrices])
            buffer = self.buffers[shape]
            buffer.mul_(self.momentum).add_(gradient)
            update = orthogonal(gradient.add(buffer, alpha=self.momentum))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for m, u in zip(matrices, update):
                m.mul_(1 - rate * self.decay).add_(u, alpha=-rate * scale)


def orthogonal(g):
    """Newton-Schulz: [k, a, b] with all singular values near 1."""
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


class Batches:
    """Rows of ids, targets and weights; rows of similar length stand together."""

    def __init__(self, tokenizer, seed, batch, question_weight):
        self.corpus, self.tokenizer, self.batch, self.question_weight = Corpus(seed), tokenizer, batch, question_weight
        self.rng = random.Random(seed + 1)
        self.answers = {a: tokenizer.encode(a).ids + [tokenizer.token_to_id(STOP)] for a in self.corpus.answer.values()}
        self.waiting = []

    def row(self):
        question, answer, intent = self.corpus.example()
        # A few words fall apart as rare ones do, so that parts of words mean something.
        self.tokenizer.model.dropout = 0.1 if self.rng.random() < 0.3 else None
        prompt = prompt_ids(self.tokenizer, question)
        self.tokenizer.model.dropout = None
        ids = self.answers.get(answer)
        if ids is None:
            ids = self.answers[answer] = self.tokenizer.encode(answer).ids + [self.tokenizer.token_to_id(STOP)]
        if self.rng.random() < 0.8:
            # What is hard is the choice of the answer, which its first words decide.
            ids = ids[: self.rng.randint(3, 8)]
        # The question begins behind "<|im_start|>user\n" and ends before the six tokens of the turn of the answer.
        return prompt, ids

    def __next__(self):
        if not self.waiting:
            rows = sorted((self.row() for _ in range(self.batch * 8)), key=lambda r: len(r[0]) + len(r[1]))
            self.waiting = [rows[k : k + self.batch] for k in range(0, len(rows), self.batch)]
            self.rng.shuffle(self.waiting)
        rows = self.waiting.pop()
        n = max(len(p) + len(a) for p, a in rows) - 1
        ids, targets = torch.zeros(len(rows), n, dtype=torch.long), torch.zeros(len(rows), n, dtype=torch.long)
        weights = torch.zeros(len(rows), n)
        for k, (prompt, answer) in enumerate(rows):
            both = prompt + answer
            ids[k, : len(both) - 1] = torch.tensor(both[:-1])
            targets[k, : len(both) - 1] = torch.tensor(both[1:])
            weights[k, len(prompt) - 1 : len(both) - 1] = 1.0
            weights[k, 3 : len(prompt) - 6] = self.question_weight
        return ids, targets, weights


def rate_at(fraction, step):
    """Share of the full rate."""
    warm = min(1.0, (step + 1) / 40)
    return warm * (1.0 if fraction < 0.6 else max(0.02, 1 - 0.98 * (fraction - 0.6) / 0.4))


def quick_score(model, tokenizer, table, questions):
    """Share of held-out questions whose first tokens are those of the right answer: (in scope, out of scope)."""
    right = {True: [], False: []}
    for (intent, _), (text, _) in zip(questions, generate(model, tokenizer, [q for _, q in questions], limit=5, batch=128)):
        best = max(table, key=lambda f: common(f["text"], text))
        right[intent == "out_of_scope"].append(intent in best["intents"])
    share = lambda v: 100 * sum(v) / max(1, len(v))
    return share(right[False]), share(right[True])


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def export(model, tokenizer, folder, table):
    """A folder as transformers writes it."""
    from safetensors.torch import save_file

    s = Shape
    save_file(model.tensors(), str(folder / "model.safetensors"), metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": s.hidden, "intermediate_size": s.ffn,
        "num_hidden_layers": s.layers, "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head,
        "max_position_embeddings": s.context, "rms_norm_eps": s.eps, "rope_theta": s.rope_theta, "vocab_size": s.vocab,
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "torch_dtype": "float32",
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    }  # fmt: skip
    added = {str(k): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for k, t in enumerate((END, START, STOP))}
    tokenizer_config = {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": False, "clean_up_tokenization_spaces": False,
        "bos_token": START, "eos_token": STOP, "unk_token": END, "pad_token": STOP, "model_max_length": s.context,
        "chat_template": TEMPLATE, "added_tokens_decoder": added,
    }  # fmt: skip
    # Greedy and without penalties: the answers are recited, and a penalty would corrupt the commands in them.
    generation = {"do_sample": False, "temperature": 0.0, "repetition_penalty": 1.0, "bos_token_id": 1, "eos_token_id": 2}
    for name, value in (("config", config), ("tokenizer_config", tokenizer_config), ("generation_config", generation)):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1))
    (folder / "facts-hash.txt").write_text(facts_hash(table))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--rate-embedding", type=float, default=5e-4)
    parser.add_argument("--drop", type=float, default=0.1)
    parser.add_argument("--question-weight", type=float, default=0.1)
    parser.add_argument("--bag", type=int, default=400_000, help="questions of the first stage (bag.py); 0: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="do not use bfloat16 for the products")
    parser.add_argument("--steps", type=int, default=10**9, help="at most, for timing")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(args.seed)
    table, questions = corpus.table, held_out()
    sample = [corpus.example()[0] for _ in range(60_000)] + [a for _, a, _ in corpus.everyday] * 20
    if args.resume:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(sample + [f["text"] for f in table] * 40 + ["user\n", "assistant\n"] * 2000, args.out / "tokenizer.json")
    model = Spark(args.drop)
    if not args.resume and args.bag:
        import bag

        texts = set(corpus.answer.values()) | {a for _, a, _ in corpus.everyday}
        bag.begin_with(model, bag.train(corpus, tokenizer, texts, args.bag, questions), texts, tokenizer)
    matrices = [p for layer in model.layers for p in layer.parameters() if p.ndim == 2]
    others = [model.embed.weight, model.norm] + [p for layer in model.layers for p in layer.parameters() if p.ndim == 1]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=args.rate_embedding, betas=(0.9, 0.98), weight_decay=0.01)
    state = {"step": 0, "seconds": 0.0, "tokens": 0, "examples": 0, "decay_from": None, "minutes": args.minutes}
    checkpoint = args.out / "checkpoint.pt"
    if args.resume and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        adam.load_state_dict(saved["adam"])
        for shape, name in ((s, "x".join(map(str, s))) for s in muon.buffers):
            muon.buffers[shape].copy_(saved["muon"][name])
        state = saved["state"] | {"minutes": args.minutes}
    batches = Batches(tokenizer, args.seed + 1000 + state["step"], args.batch, args.question_weight)
    n_parameter = sum(p.numel() for p in model.parameters())
    print(f"{n_parameter} parameters, {args.batch} examples a step, {args.minutes} minutes, facts {facts_hash(table)}", flush=True)
    curve = (args.out / "curve.tsv").open("a")
    last, before, first_step, said, losses = time.time(), state["seconds"], state["step"], 0.0, []
    next_look = state["seconds"] + 300
    looked_at = questions[::3]

    def save(name):
        buffers = {"x".join(map(str, s)): b for s, b in muon.buffers.items()}
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": buffers, "state": state}, args.out / name)

    while True:
        now = time.time()
        state["seconds"] += now - last
        last = now
        budget = 60 * args.minutes
        if state["decay_from"] is None and (args.out / "decay").exists():
            state["decay_from"] = state["seconds"]
        if state["decay_from"] is None:
            fraction = state["seconds"] / budget
        else:
            length = min(0.5 * state["decay_from"], max(60.0, budget - state["decay_from"]))
            fraction = 0.6 + 0.4 * (state["seconds"] - state["decay_from"]) / length
        if fraction >= 1 or state["step"] - first_step >= args.steps:
            break
        share = rate_at(fraction, state["step"])
        if share < 1 and state["step"] > 40 and not state.get("decays"):
            # Training can go on from here as if there had been no decay: rename it to checkpoint.pt and --resume.
            save("before-decay.pt")
            state["decays"] = True
        ids, targets, weights = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
            hidden = model.hidden(ids)
            # Rows that count alone: padding has no weight.
            counted = weights.view(-1) > 0
            logits = hidden.view(-1, Shape.hidden)[counted] @ model.embed.weight.T
        each = F.cross_entropy(logits.float(), targets.view(-1)[counted], reduction="none")
        weight = weights.view(-1)[counted]
        loss = (each * weight).sum() / weight.sum()
        adam.zero_grad(set_to_none=False)
        for m in matrices:
            m.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = args.rate_embedding * share
        adam.step()
        muon.step(args.rate * share)
        answer = weight == 1.0
        losses.append(each[answer].mean().item())
        state["step"] += 1
        state["tokens"] += int((ids > 0).sum())
        state["examples"] += len(ids)
        if state["step"] % 50 == 0:
            mean = sum(losses) / len(losses)
            losses = []
            speed = (state["seconds"] - before) / 50
            before = state["seconds"]
            print(f"step {state['step']} {state['seconds']:.0f} s, {1000 * speed:.0f} ms a step, rate {share:.2f}, loss {mean:.3f}", flush=True)
            curve.write(f"loss\t{state['step']}\t{state['seconds']:.0f}\t{state['examples']}\t{state['tokens']}\t{mean:.4f}\n")
        if state["seconds"] > next_look:
            next_look = state["seconds"] + 600
            inside, outside = quick_score(model, tokenizer, table, looked_at)
            print(f"held out: {inside:.1f} % in scope, {outside:.1f} % out of scope", flush=True)
            curve.write(f"held-out\t{state['step']}\t{state['seconds']:.0f}\t{state['examples']}\t{state['tokens']}\t{inside:.1f}\t{outside:.1f}\n")
            curve.flush()
            save("checkpoint.pt")
            export(model, tokenizer, args.out, table)
    inside, outside = quick_score(model, tokenizer, table, questions)
    print(f"end: step {state['step']}, {state['examples']} examples, {state['tokens']} tokens, {state['seconds']:.0f} s", flush=True)
    print(f"held out: {inside:.1f} % in scope, {outside:.1f} % out of scope", flush=True)
    curve.write(f"held-out\t{state['step']}\t{state['seconds']:.0f}\t{state['examples']}\t{state['tokens']}\t{inside:.1f}\t{outside:.1f}\n")
    export(model, tokenizer, args.out, table)


if __name__ == "__main__":
    main()
