#!/usr/bin/env python3
"""Measures the engine beside llama-cpp-python's server, on the same weights, threads and prompts, in the same run.

One server runs at a time, in turns (engine, other, engine, other, …), so that a machine that is slow for a while is slow for
both. Asserts nothing: it prints a table of minimum, median and maximum. Needs only Python; scripts/bench-engine.sh brings the other server.

    python3 benches/engine.py --engine PATH --model FILE --peer PYTHON     both, a few minutes
    python3 benches/engine.py --quick --engine PATH --model FILE           our engine alone, a minute
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CONTEXT_TOKENS = 4096

# The longest wait for one answer, in seconds; a figure that takes longer is left out and said to be missing.
PATIENCE = 300

SENTENCES = (
    "The {colour} boat left the harbour before dawn and came back with an empty net.",
    "In the shed behind the mill the {colour} sails were dried, mended and folded.",
    "Nobody had seen the keeper of the {colour} lighthouse since the last Sunday of October.",
    "A letter with a {colour} seal lay on the table, and it had not been opened.",
    "They counted the {colour} barrels twice and wrote the number into the book.",
)
COLOURS = ("red", "blue", "green", "white", "black", "yellow", "grey")

# name, unit, whether more is better
FIGURES = {
    "load": ("from start to ready", "s", False),
    "resident": ("resident after loading", "MiB", False),
    "short": ("first token, short prompt", "s", False),
    "long": ("first token, long prompt (first turn)", "s", False),
    "prefill": ("prompt read", "tokens/s", True),
    "second": ("first token, second turn", "s", False),
    "third": ("first token, third turn, another conversation in between", "s", False),
    "generation": ("generation, one conversation", "tokens/s", True),
    "four": ("generation, four at once, together", "tokens/s", True),
    "four_first": ("slowest first token of four at once", "s", False),
    "peak": ("peak memory", "MiB", False),
}


class Load:
    """How much is asked for. The busy machine gets less: two spinning threads may do less than a token a second there."""

    def __init__(self, busy, quick):
        self.short_prompts = 2 if quick else 3
        self.long_sentences = 24 if busy or quick else 88
        self.generated = 32 if busy else 128
        self.generated_of_four = 16 if busy else 64


# ── servers ──


class Server:
    """A server process and what is asked of it. `load` is the time from its start until it answers, in seconds."""

    name = ""

    def __init__(self):
        self.process = None
        self.port = 0
        self.token = "none"
        self.load = 0.0

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def memory(self, field):
        """VmRSS or VmHWM of the process in MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"no {field}")

    def ask(self, messages, max_tokens, stream=True):
        """One completion; times in seconds from the request on, tokens as the server counts them."""
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": stream}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        begin = time.monotonic()
        connection.request(
            "POST",
            "/v1/chat/completions",
            body=json.dumps(body),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{self.name} answered {answer.status}: {answer.read()[:300]}")
        try:
            return self._read_stream(answer, begin) if stream else json.load(answer)
        finally:
            connection.close()

    @staticmethod
    def _read_stream(answer, begin):
        first, finish, text, timings = None, None, [], None
        for line in answer:
            line = line.strip()
            if not line.startswith(b"data: ") or line == b"data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise RuntimeError(chunk["error"])
            timings = chunk.get("timings") or timings
            for choice in chunk["choices"]:
                if choice["delta"].get("content"):
                    first = first or time.monotonic()
                    text.append(choice["delta"]["content"])
                finish = choice["finish_reason"] or finish
        end = time.monotonic()
        return {
            "first": (first or end) - begin,
            "end": end - begin,
            "finish": finish,
            "text": "".join(text),
            "timings": timings,
        }

    def prompt_tokens(self, messages):
        return self.ask(messages, 1, stream=False)["usage"]["prompt_tokens"]


class Ours(Server):
    """The engine, started as its supervisor does."""

    name = "engine"

    def __init__(self, options, threads):
        super().__init__()
        self.token = secrets.token_hex(16)
        command = [options.engine, "--model-file", options.model, "--context-tokens", str(CONTEXT_TOKENS)]
        command += ["--cache-tokens", str(options.cache_tokens)]
        if threads != "auto":
            command += ["--threads", threads, "--batch-threads", options.batch_threads or threads]
        command += options.engine_option
        begin = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=options.log,
        )
        self.process.stdin.write(f"{self.token}\n".encode())
        self.process.stdin.flush()
        for line in self.process.stdout:
            event = json.loads(line)
            if "listening" in event:
                self.port = event["listening"]["port"]
            if "failed" in event:
                raise RuntimeError(event["failed"])
            if "ready" in event:
                self.load = time.monotonic() - begin
                return
        raise RuntimeError("the engine ended before it was ready")


class Peer(Server):
    """llama-cpp-python's server. One request at a time; the others wait for its lock."""

    name = "llama-cpp-python"

    def __init__(self, options, threads):
        super().__init__()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [options.peer, "-m", "llama_cpp.server", "--model", options.model]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--n_ctx", str(CONTEXT_TOKENS)]
        # Without the last one, a new request would end the one that is being answered.
        command += ["--n_threads", threads, "--n_threads_batch", options.batch_threads or threads, "--interrupt_requests", "false"]
        begin = time.monotonic()
        self.process = subprocess.Popen(command, stdout=options.log, stderr=options.log)
        while not self._answers():
            if self.process.poll() is not None:
                raise RuntimeError("llama-cpp-python's server did not start")
            if time.monotonic() - begin > PATIENCE:
                raise RuntimeError("llama-cpp-python's server does not answer")
            time.sleep(0.02)  # It says nowhere that it is ready.
        self.load = time.monotonic() - begin

    def _answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextlib.contextmanager
def burner():
    """A process that keeps one core busy for as long as this one lives."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1000000): pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# ── measuring ──


def system(nonce):
    """A system message that no earlier prompt begins like, so that no cache can help."""
    return {"role": "system", "content": f"Note {nonce}. You are a helpful assistant."}


def user(text):
    return {"role": "user", "content": text}


def story(nonce):
    return [system(nonce), user("Write a very long story about a lighthouse keeper and his daughter. Tell every detail.")]


def long_text(sentences):
    return " ".join(SENTENCES[n % len(SENTENCES)].format(colour=COLOURS[n % len(COLOURS)]) for n in range(sentences))


class Figures(dict):
    """Values by figure: every value that was measured, in the order of measuring."""

    def add(self, figure, value):
        self.setdefault(figure, []).append(value)


def measure(server, load, nonce, figures, notes):
    """Asks one freshly started server for everything, and adds the figures. `nonce` is the same for both servers of a round."""
    figures.add("load", server.load)
    figures.add("resident", server.memory("VmRSS"))

    # The first answer of a process pays for what is made once: not counted.
    server.ask([system(f"{nonce} w"), user("Hello!")], 2)
    for n in range(load.short_prompts):
        figures.add("short", server.ask([system(f"{nonce} s{n}"), user("Name one fish.")], 2)["first"])

    text = f"{long_text(load.long_sentences)}\n\nWhat is this text about? Answer in one sentence."
    messages = [system(f"{nonce} l"), user(text)]
    first = server.ask(messages, 16)
    figures.add("long", first["first"])
    messages += [{"role": "assistant", "content": first["text"]}, user("And what happened in October?")]
    second = server.ask(messages, 16)
    figures.add("second", second["first"])

    one = server.ask(story(f"{nonce} g"), load.generated)
    if one["finish"] == "length":
        figures.add("generation", (load.generated - 1) / (one["end"] - one["first"]))
    else:
        notes.add(f"{server.name}: a story ended by itself, its speed is left out")

    messages += [{"role": "assistant", "content": second["text"]}, user("Thank you. Which colour had the seal?")]
    figures.add("third", server.ask(messages, 4)["first"])
    # How many tokens the long prompt has is asked last, when its beginning is in the cache.
    tokens = server.prompt_tokens(messages[:2])
    figures.add("prefill", tokens / first["first"])
    notes.add(f"long prompt: {tokens} tokens for {server.name}")

    answers = [None] * 4

    def run(n):
        answers[n] = server.ask(story(f"{nonce} f{n}"), load.generated_of_four)

    begin = time.monotonic()
    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begin
    if all(answer and answer["finish"] == "length" for answer in answers):
        figures.add("four", 4 * load.generated_of_four / seconds)
        figures.add("four_first", max(answer["first"] for answer in answers))
    else:
        notes.add(f"{server.name}: not all of four at once gave {load.generated_of_four} tokens, that figure is left out")
    figures.add("peak", server.memory("VmHWM"))


def run_setting(options, threads, busy, rounds, notes):
    """All rounds of one setting; figures by server name."""
    kinds = [Ours] if options.quick or not options.peer else [Ours, Peer]
    results = {kind.name: Figures() for kind in kinds}
    with burner() if busy else contextlib.nullcontext():
        for number in range(rounds):
            for kind in kinds:
                begin = time.monotonic()
                server = None
                try:
                    server = kind(options, threads)
                    measure(server, Load(busy, options.quick), f"{options.run} {number}", results[kind.name], notes)
                except (OSError, RuntimeError) as error:
                    notes.add(f"{kind.name}, {threads} threads{', busy' if busy else ''}: {error!r}; the rest of a round is missing")
                finally:
                    if server:
                        server.stop()
                tell(f"{threads} threads, {'one core busy' if busy else 'idle'}, round {number + 1} of {rounds}: "
                     f"{kind.name} took {time.monotonic() - begin:.0f} s")
    return results


# ── telling ──


def tell(text):
    print(text, file=sys.stderr, flush=True)


def number(value):
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values):
    """Minimum, median and maximum."""
    if not values:
        return "–"
    return " / ".join(number(value) for value in (min(values), statistics.median(values), max(values)))


def processor():
    """The level of the x86-64 instruction set, or the machine's architecture."""
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":")[1].split())
            break
    for level, needed in (("x86-64-v4", "avx512f"), ("x86-64-v3", "avx2"), ("x86-64-v2", "sse4_2")):
        if needed in flags:
            return level
    return os.uname().machine


def print_facts(options, load_before):
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores, {processor()}, "
          f"{pages / 2**30:.0f} GiB of memory, load average before the run {load_before:.2f}; "
          f"{Path(options.model).name}, context {CONTEXT_TOKENS} tokens.")
    print()


def print_table(threads, busy, results):
    print(f"### {threads} thread{'' if threads == '1' else 's'}, {'one core kept busy by another process' if busy else 'idle machine'}")
    print()
    names = list(results)
    print(f"| min / median / max | unit | {' | '.join(names)} |{' ratio of medians |' if len(names) == 2 else ''}")
    print(f"|---|---|{'---|' * len(names)}{'---|' if len(names) == 2 else ''}")
    for figure, (title, unit, more_is_better) in FIGURES.items():
        values = [results[name].get(figure, []) for name in names]
        row = f"| {title} | {unit} | {' | '.join(spread(one) for one in values)} |"
        if len(names) == 2:
            row += f" {ratio(values, more_is_better)} |"
        print(row)
    print()


def ratio(values, more_is_better):
    """Above 1, the engine is better."""
    if not all(values):
        return "–"
    ours, theirs = (statistics.median(one) for one in values)
    return f"{ours / theirs:.2f}" if more_is_better else f"{theirs / ours:.2f}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--engine", required=True, help="the program verbatim-engine")
    parser.add_argument("--model", required=True, help="the weights, a GGUF file")
    parser.add_argument("--peer", help="the Python that has llama-cpp-python[server]; without it our engine alone is measured")
    parser.add_argument("--threads", default="2", help="thread counts, for example 1,2; with --quick also auto (default: 2)")
    parser.add_argument("--batch-threads", help="threads for reading prompts, where they differ")
    parser.add_argument("--busy", default="no,yes", help="no, yes, or both: whether one core is kept busy (default: no,yes)")
    parser.add_argument("--rounds", type=int, help="how often each server is started and measured (default: 3; quick: 1)")
    parser.add_argument("--cache-tokens", type=int, default=CONTEXT_TOKENS, help="the engine's cache (default: as much as the other's)")
    parser.add_argument("--engine-option", action="append", default=[], help="one more argument for the engine; may be repeated")
    parser.add_argument("--quick", action="store_true", help="our engine alone, shorter prompts")
    options = parser.parse_args()
    options.run = secrets.token_hex(3)
    options.rounds = options.rounds or (1 if options.quick else 3)
    for word in options.busy.split(","):
        if word not in ("no", "yes"):
            parser.error("--busy takes no, yes, or no,yes")
    if "auto" in options.threads.split(",") and options.peer and not options.quick:
        parser.error("--threads auto is the engine's own choice: it can't be compared")
    return options


def main():
    options = arguments()
    notes = set()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryFile() as log:
        options.log = log
        tables = []
        for busy in options.busy.split(","):
            for threads in options.threads.split(","):
                results = run_setting(options, threads, busy == "yes", options.rounds, notes)
                tables.append((threads, busy == "yes", results))
        log.seek(0)
        logged = log.read().decode(errors="replace")
    print_facts(options, load_before)
    for table in tables:
        print_table(*table)
    if any(len(results) == 2 for *_, results in tables):
        print("A ratio above 1 says that the engine is better. llama-cpp-python answers one request at a time: of four at once, three wait.")
        print("Its memory includes Python; on the busy machine, prompts and answers are shorter for both.")
    for note in sorted(notes):
        print(f"- {note}")
    if any("Error" in note for note in notes):
        tell(logged[-3000:])


if __name__ == "__main__":
    main()
