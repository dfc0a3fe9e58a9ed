"""Questions of the built-in model: grammar, frames, noise. No question is stored; they are made while training.

Files: grammar.txt and scope.txt (productions), lexicon.txt (frames, synonyms, prefixes), everyday.tsv (questions with
answers of their own), heldout.txt (never made: `Corpus` refuses a question that contains one).
"""

import hashlib
import random
import re
import string
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Words with one of these are names of files, flags and types: noise leaves them alone.
FIXED = re.compile(r"[-_/.<>$\d\"]|^gguf$|^-")


def facts():
    """The table: a list of facts, each with its intents and the text that the model says."""
    table = tomllib.loads((HERE / "facts.toml").read_text())["fact"]
    for fact in table:
        fact.setdefault("intents", [fact["id"]])
        fact["text"] = f"{fact['label']}: {fact['answer']}" if fact["label"] else fact["answer"]
    return table


def facts_hash(table):
    """What the model file carries: the first 16 hex digits of SHA-256 over ids and texts, a line each."""
    text = "".join(f"{f['id']}\t{f['text']}\n" for f in table)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sections(path):
    """The lines below each `@name` of a file."""
    out, lines = {}, None
    for line in (HERE / path).read_text().splitlines():
        if line.startswith("@"):
            lines = out.setdefault(line[1:].strip(), [])
        elif line.strip() and not line.startswith("#"):
            lines.append(line.rstrip("\n"))
    return out


def items(lines):
    """The items of lines that separate them by ` | `."""
    return [item.strip() for line in lines for item in re.split(r"\s*\|\s*", line) if item.strip()]


def everyday():
    """Questions that have an answer of their own: (wordings, answer, held-out wording)."""
    path = HERE / "everyday.tsv"
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [(row[0].split(" | "), row[2], row[1]) for row in rows]


def plain(text):
    """Words alone, for comparison."""
    return re.sub(r"[^a-z0-9 ]+", " ", text.lower()).split()


class Grammar:
    """Productions, compiled to nested tuples: ("seq", parts), ("any", parts) or text."""

    def __init__(self, slots):
        self.slots = slots

    def parse(self, text):
        node, end = self._sequence(text, 0, "")
        assert end == len(text), f"unbalanced brackets: {text}"
        return node

    def _sequence(self, text, at, close):
        parts, start = [], at
        stops = close + "|" if close else ""
        while at < len(text) and text[at] not in stops:
            c = text[at]
            if c in "([{":
                parts.append(text[start:at])
                if c == "{":
                    end = text.index("}", at)
                    parts.append(("slot", text[at + 1 : end]))
                    at = end + 1
                else:
                    end_char = ")" if c == "(" else "]"
                    options, at = [], at + 1
                    while True:
                        option, at = self._sequence(text, at, end_char)
                        options.append(option)
                        if text[at] == end_char:
                            break
                        at += 1
                    at += 1
                    if c == "[":
                        options = [""] * len(options) + options
                    parts.append(("any", options))
                start = at
            else:
                at += 1
        parts.append(text[start:at])
        parts = [p for p in parts if p != ""]
        return (parts[0] if len(parts) == 1 else ("seq", parts) if parts else ""), at

    def sample(self, node, rng):
        if isinstance(node, str):
            return node
        kind, value = node
        if kind == "any":
            return self.sample(rng.choice(value), rng)
        if kind == "slot":
            return self.sample(rng.choice(self.slots[value]), rng)
        return "".join(self.sample(part, rng) for part in value)


class Corpus:
    """Makes questions and their answers."""

    # Shares of the mix: what is left goes to the intents, each as often as any other.
    OUT_OF_SCOPE, NOT_UNDERSTOOD, EVERYDAY = 0.14, 0.02, 0.05

    def __init__(self, seed=0, everyday_share=None):
        self.rng = random.Random(seed)
        lexicon, scope = sections("lexicon.txt"), sections("scope.txt")
        slots = {k: items(v) for k, v in scope.items() if k != "out_of_scope"}
        self.grammar = Grammar(slots)
        self.frames = {k: items(lexicon[f"frames_{k}"]) for k in ("do", "np", "st")}
        # Items of these two begin or end with blanks on purpose, so they are not stripped as others are.
        self.prefixes = [p.strip() + " " for p in items(lexicon["prefix"])]
        self.suffixes = [s.strip() for s in items(lexicon["suffix"])]
        self.stop = set(items(lexicon["stop"]))
        self.synonyms, self.pairs = {}, {}
        for line in lexicon["synonyms"]:
            words = items([line])
            for word in words:
                where = self.pairs if " " in word else self.synonyms
                where.setdefault(word, []).extend(w for w in words if w != word)
        self.table = facts()
        self.answer = {i: f["text"] for f in self.table for i in f["intents"]}
        productions = sections("grammar.txt") | {"out_of_scope": scope["out_of_scope"]}
        self.productions = {intent: [self._production(line) for line in lines] for intent, lines in productions.items()}
        unknown = (set(self.productions) | {"not_understood"}) ^ set(self.answer)
        assert not unknown, f"intents without an answer, or answers without an intent: {unknown}"
        self.intents = [i for i in self.productions if i != "out_of_scope"]
        self.everyday = everyday()
        self.everyday_share = self.EVERYDAY if everyday_share is None else everyday_share
        held = [plain(q) for lines in sections("heldout.txt").values() for q in lines]
        held += [plain(q) for _, _, q in self.everyday]
        self.held_short = {tuple(h) for h in held if len(h) < 3}
        self.held_long = {tuple(h) for h in held if len(h) >= 3}
        self.held_lengths = sorted({len(h) for h in self.held_long})

    def _production(self, line):
        for mark in ("do", "np", "st"):
            if line.startswith(mark + ": "):
                return mark, self.grammar.parse(line[len(mark) + 2 :].strip())
        return None, self.grammar.parse(line.strip())

    def sentence(self, intent):
        """A sentence of the grammar, without noise."""
        rng = self.rng
        mark, node = rng.choice(self.productions[intent])
        text = " ".join(self.grammar.sample(node, rng).split())
        if mark:
            frame = rng.choice(self.frames[mark])
            text = re.sub(r"\b(X|NP|S)\b", lambda _: text, frame, count=1)
        return text.replace(" ,", ",").replace(" ?", "?")

    def gibberish(self):
        rng = self.rng
        kind = rng.random()
        letters = string.ascii_lowercase
        if kind < 0.15:
            return "".join(rng.choice("?!.,;:#*+-()&%$") for _ in range(rng.randint(1, 5)))
        if kind < 0.3:
            return rng.choice(letters) * rng.randint(2, 9)
        if kind < 0.4:
            return " ".join(str(rng.randint(0, 9999)) for _ in range(rng.randint(1, 3)))
        syllables = lambda: "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(["", rng.choice("lnrst")]) for _ in range(rng.randint(1, 3)))
        noise = lambda: "".join(rng.choice(letters) for _ in range(rng.randint(2, 8)))
        word = syllables if kind < 0.7 else noise
        return " ".join(word() for _ in range(rng.randint(1, 4)))

    def noisy(self, text, strength=1.0):
        """What people do to a sentence: other words, lost words, typos, case, words before and behind."""
        rng = self.rng
        if rng.random() < 0.5 * strength:
            for pair, others in self.pairs.items():
                if pair in text and rng.random() < 0.3:
                    text = text.replace(pair, rng.choice(others), 1)
            words = []
            for word in text.split():
                bare = word.rstrip("?,.!")
                if bare in self.synonyms and rng.random() < 0.35:
                    word = rng.choice(self.synonyms[bare]) + word[len(bare) :]
                words.append(word)
            text = " ".join(words)
        words = text.split()
        if len(words) > 3 and rng.random() < 0.35 * strength:
            small = [k for k, w in enumerate(words) if w in self.stop]
            for k in sorted(rng.sample(small, min(len(small), rng.choice((1, 1, 2, 3)))), reverse=True):
                del words[k]
        if len(words) > 4 and rng.random() < 0.12 * strength:
            del words[rng.randrange(len(words))]
        for _ in range(2):
            if words and rng.random() < 0.1 * strength:
                k = rng.randrange(len(words))
                word = words[k]
                if len(word) > 3 and not FIXED.search(word):
                    at = rng.randrange(len(word) - 1)
                    kind = rng.random()
                    if kind < 0.35:
                        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
                    elif kind < 0.65:
                        word = word[:at] + word[at + 1 :]
                    elif kind < 0.85:
                        word = word[:at] + word[at] + word[at:]
                    else:
                        word = word[:at] + rng.choice(string.ascii_lowercase) + word[at + 1 :]
                    words[k] = word
        text = " ".join(words)
        if rng.random() < 0.22 * strength:
            text = rng.choice(self.prefixes) + text
        if rng.random() < 0.4 * strength:
            suffix = rng.choice(self.suffixes)
            text = text.rstrip("?") + ("" if suffix[0] in "?.!,:" else " ") + suffix
        case = rng.random()
        if case > 0.97:
            text = " ".join(w if FIXED.search(w) else w.upper() for w in text.split())
        elif case > 0.62:
            text = text[:1].upper() + text[1:]
            text = re.sub(r"\bi\b", "I", text)
        return text

    def is_held_out(self, text):
        words = plain(text)
        if tuple(words) in self.held_short:
            return True
        for n in self.held_lengths:
            for k in range(len(words) - n + 1):
                if tuple(words[k : k + n]) in self.held_long:
                    return True
        return False

    def example(self, strength=1.0):
        """(question, answer, intent); the intent of an everyday question is `everyday`."""
        while True:
            kind = self.rng.random()
            if kind < self.OUT_OF_SCOPE:
                intent = "out_of_scope"
                text = self.sentence(intent)
            elif kind < self.OUT_OF_SCOPE + self.NOT_UNDERSTOOD:
                return self.gibberish(), self.answer["not_understood"], "not_understood"
            elif self.everyday and kind < self.OUT_OF_SCOPE + self.NOT_UNDERSTOOD + self.everyday_share:
                wordings, answer, _ = self.rng.choice(self.everyday)
                text = self.noisy(self.rng.choice(wordings), strength)
                if not self.is_held_out(text):
                    return text, answer, "everyday"
                continue
            else:
                intent = self.rng.choice(self.intents)
                text = self.sentence(intent)
            text = self.noisy(text, strength)
            if text.strip() and not self.is_held_out(text):
                return text, self.answer[intent], intent


def held_out():
    """(intent, question) of heldout.txt."""
    return [(intent, q) for intent, lines in sections("heldout.txt").items() for q in lines]


if __name__ == "__main__":
    import time

    corpus = Corpus(1)
    for intent, lines in corpus.productions.items():
        print(f"{intent:20} {len(lines)} productions")
    for _ in range(60):
        text, answer, intent = corpus.example()
        print(f"{intent:18} {text}")
    start, n = time.time(), 20000
    for _ in range(n):
        corpus.example()
    print(f"{n / (time.time() - start):.0f} questions/s; hash {facts_hash(corpus.table)}")
