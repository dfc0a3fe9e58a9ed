"""The network: Llama's, as small as it gets, and its tokenizer and template."""

import torch
import torch.nn.functional as F
from torch import nn

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# The last question alone: every answer stands by itself, and a system message, which the model never saw, is left out.
TEMPLATE = (
    "{%- set last = namespace(text='') -%}"
    "{%- for message in messages -%}{%- if message['role'] == 'user' -%}{%- set last.text = message['content'] -%}{%- endif -%}{%- endfor -%}"
    "{{- '<|im_start|>user\n' + last.text + '<|im_end|>\n' -}}"
    "{%- if messages[-1]['role'] == 'assistant' -%}{{- '<|im_start|>assistant\n' + messages[-1]['content'] + '<|im_end|>\n' -}}{%- endif -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


class Shape:
    """Sizes; rows of every matrix are multiples of 256, so that K-quants need no fallback."""

    vocab, hidden, layers, heads, kv_heads, head, ffn, context = 2048, 256, 4, 4, 2, 64, 768, 1024
    rope_theta, eps = 10000.0, 1e-5


def train_tokenizer(texts, path):
    """Byte-level BPE with digits apart: the pre-tokenizer that llama.cpp calls `smollm`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=Shape.vocab,
        special_tokens=[END, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
    return tokenizer


def rotary(n, dtype=torch.float32):
    """cos and sin, [n, head / 2]."""
    half = Shape.head // 2
    angle = torch.outer(torch.arange(n).float(), Shape.rope_theta ** (-torch.arange(half).float() / half))
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    """x: [batch, heads, n, head], halves as in transformers."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Drop:
    """Dropout whose zeros come from one pool, at a new place each time: drawing them anew costs a third of a step."""

    def __init__(self, share, size=1 << 22):
        self.share = share
        self.pool = (torch.rand(size) >= share).float() / (1 - share) if share else None

    def __call__(self, x, training):
        if not training or self.pool is None:
            return x
        at = int(torch.randint(0, self.pool.numel() - x.numel(), ()))
        return x * self.pool[at : at + x.numel()].view(x.shape).to(x.dtype)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        s = Shape
        self.norm1 = nn.Parameter(torch.ones(s.hidden))
        self.norm2 = nn.Parameter(torch.ones(s.hidden))
        self.q = nn.Linear(s.hidden, s.heads * s.head, bias=False)
        self.k = nn.Linear(s.hidden, s.kv_heads * s.head, bias=False)
        self.v = nn.Linear(s.hidden, s.kv_heads * s.head, bias=False)
        self.o = nn.Linear(s.heads * s.head, s.hidden, bias=False)
        self.gate = nn.Linear(s.hidden, s.ffn, bias=False)
        self.up = nn.Linear(s.hidden, s.ffn, bias=False)
        self.down = nn.Linear(s.ffn, s.hidden, bias=False)

    def forward(self, x, cos, sin, drop):
        s, (b, n, _) = Shape, x.shape
        h = F.rms_norm(x, (s.hidden,), self.norm1, s.eps)
        split = lambda t, heads: t.view(b, n, heads, s.head).transpose(1, 2)
        q, k, v = split(self.q(h), s.heads), split(self.k(h), s.kv_heads), split(self.v(h), s.kv_heads)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        group = s.heads // s.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        # Rows are short: plain products beat a kernel that is made for long ones.
        scores = (q @ k.mT).float() * s.head**-0.5
        mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        a = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype) @ v
        x = x + drop(self.o(a.transpose(1, 2).reshape(b, n, -1)), self.training)
        h = F.rms_norm(x, (s.hidden,), self.norm2, s.eps)
        return x + drop(self.down(F.silu(self.gate(h)) * self.up(h)), self.training)


class Spark(nn.Module):
    def __init__(self, drop=0.0):
        super().__init__()
        s = Shape
        self.drop = Drop(drop)
        self.embed = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(Layer() for _ in range(s.layers))
        self.norm = nn.Parameter(torch.ones(s.hidden))
        nn.init.normal_(self.embed.weight, std=0.05)
        for layer in self.layers:
            for m in (layer.q, layer.k, layer.v, layer.gate, layer.up):
                nn.init.normal_(m.weight, std=s.hidden**-0.5)
            for m in (layer.o, layer.down):
                nn.init.normal_(m.weight, std=m.in_features**-0.5 / (2 * s.layers) ** 0.5)

    def hidden(self, ids):
        """[batch, n] -> [batch, n, hidden], normed."""
        x = self.drop(self.embed(ids), self.training)
        cos, sin = rotary(ids.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, self.drop)
        return F.rms_norm(x, (Shape.hidden,), self.norm, Shape.eps)

    def forward(self, ids):
        return self.hidden(ids) @ self.embed.weight.T

    def tensors(self):
        """Names and tensors of a `LlamaForCausalLM`."""
        out = {"model.embed_tokens.weight": self.embed.weight, "model.norm.weight": self.norm}
        names = {
            "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
            "q.weight": "self_attn.q_proj", "k.weight": "self_attn.k_proj", "v.weight": "self_attn.v_proj", "o.weight": "self_attn.o_proj",
            "gate.weight": "mlp.gate_proj", "up.weight": "mlp.up_proj", "down.weight": "mlp.down_proj",
        }  # fmt: skip
        for i, layer in enumerate(self.layers):
            for ours, tensor in layer.named_parameters():
                out[f"model.layers.{i}.{names[ours]}.weight"] = tensor
        return {k: v.detach().float().contiguous() for k, v in out.items()}


@torch.no_grad()
def generate(model, tokenizer, questions, limit=120, batch=64):
    """The greedy answers, and whether each ended by itself."""
    was_training = model.training
    model.eval()
    stop = tokenizer.token_to_id(STOP)
    prompts = [prompt_ids(tokenizer, q) for q in questions]
    out = [None] * len(questions)
    by_length = {}
    for k, p in enumerate(prompts):
        by_length.setdefault(len(p), []).append(k)
    for length, all_rows in by_length.items():
        for at in range(0, len(all_rows), batch):
            rows = all_rows[at : at + batch]
            ids = torch.tensor([prompts[k] for k in rows])
            done = torch.zeros(len(rows), dtype=torch.bool)
            for _ in range(limit):
                best = (model.hidden(ids)[:, -1] @ model.embed.weight.T).argmax(-1)
                best[done] = stop
                done |= best == stop
                ids = torch.cat((ids, best[:, None]), 1)
                if done.all():
                    break
            for row, k in enumerate(rows):
                answer = ids[row, length:].tolist()
                ended = stop in answer
                out[k] = (tokenizer.decode(answer[: answer.index(stop)] if ended else answer), ended)
    model.train(was_training)
    return out


def prompt_ids(tokenizer, question):
    return tokenizer.encode(f"{START}user\n{question}{STOP}\n{START}assistant\n").ids
