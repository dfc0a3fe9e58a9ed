"""Asks a bigger model simple questions on our own engine; what it says is then read, and what is true goes into everyday.tsv.

Usage: ask_everyday.py TEALIGHT MODEL.gguf < questions.txt > answers.tsv

MODEL was SmolLM2-135M-Instruct (Apache-2.0), Q4_1. A line of the result: question, seeds of three that agree with the
first in their first ten words, the first answer. Answers that did not end in time are left out.
"""

import subprocess
import sys

LIMIT = 44


def ask(tealight, model, question, seed):
    command = [tealight, "run", model, f"Answer in one short and simple sentence. {question}", "--temp", "0.2"]
    command += ["--seed", str(seed), "-n", str(LIMIT), "-c", "512", "--device", "cpu", "-t", "1"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    text = " ".join(done.stdout.split())
    # The command says when an answer reached its limit; an answer that ended has a full stop.
    return text if text.endswith((".", "!", "?")) and len(text.split()) < LIMIT - 6 else None


def main():
    tealight, model = sys.argv[1:3]
    for question in (line.strip() for line in sys.stdin):
        answers = [ask(tealight, model, question, seed) for seed in (1, 2, 3)]
        if answers[0]:
            start = lambda a: (a or "").split()[:10]
            print(question, sum(start(a) == start(answers[0]) for a in answers), answers[0], sep="\t", flush=True)


if __name__ == "__main__":
    main()
