"""What the engine's tests share: starting the engine as its supervisor does, talking to it, and finding the weights.

Environment: VERBATIM_ENGINE names the program (default: verbatim-engine in the release directory of CARGO_TARGET_DIR or of
the repository's target), VERBATIM_MODELS_DIR the directory of the weights (default: the user's cache directory).
"""

import http.client
import json
import os
import queue
import secrets
import select
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import openai

ROOT = Path(__file__).resolve().parents[2]

# Seconds after which a test that waits for something gives up. Far above what is needed: machines are busy at times.
PATIENCE = 120


def engine_program():
    """The engine's program file; an error that says what to do where there is none."""
    named = os.environ.get("VERBATIM_ENGINE")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or "target")
    program = Path(named) if named else (ROOT / target) / "release" / "verbatim-engine"
    if not program.is_file():
        raise AssertionError(
            f"The engine is missing: {program}. Type: cargo build --locked --release -p verbatim-engine"
            " (or name another one with VERBATIM_ENGINE)."
        )
    return program


def models_directory():
    """Where the weights are kept."""
    named = os.environ.get("VERBATIM_MODELS_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "verbatim" / "models"


def weights(name):
    """The catalogue's entry `name` and its file; an error that says what to do where the file is not whole."""
    catalogue = json.loads((ROOT / "engine" / "models.json").read_text(encoding="utf-8"))
    entry = next(model for model in catalogue if model["name"] == name)
    file = models_directory() / entry["file"]
    if not file.is_file() or file.stat().st_size != entry["bytes"]:
        raise AssertionError(
            f"The weights of {entry['model']} are missing or not whole: {entry['file']} in {models_directory()}."
            " Type: make setup (or name the directory that holds them with VERBATIM_MODELS_DIR)."
        )
    return entry, file


def small_weights():
    """The small model, whose prompts are read fast, for tests in which no answer must be sensible; else the default one."""
    try:
        return weights("small")
    except AssertionError:
        return weights("default")


class Engine:
    """A running engine, started the way the supervisor starts it: the token on its stdin, what it reports on its stdout."""

    def __init__(self, model_file, *options, model_name=None, until="ready"):
        """Starts it and waits for the line `until`: `listening`, `ready`, or none."""
        command = [engine_program(), "--model-file", model_file, *options]
        self.token = secrets.token_hex(16)
        self.log = tempfile.TemporaryFile()
        self.events = []
        self._lines = queue.Queue()
        if model_name:
            command += ["--model-name", model_name]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.process.stdin.write(f"{self.token}\n".encode())
            self.process.stdin.flush()
            if until:
                self.port = self.wait_for("listening")["port"]
            if until == "ready":
                self.ready = self.wait_for("ready")
        except BaseException:
            self.kill()
            raise

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, kind):
        """Waits for the line of this kind on the engine's stdout and returns its value; all lines stay in `events`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind!r} line within {PATIENCE} s; {self.report()}") from None
            if line is None:
                self._lines.put(None)
                raise AssertionError(f"the engine's stdout ended without a {kind!r} line; {self.report()}")
            event = json.loads(line)
            self.events.append(event)
            if kind in event:
                return event[kind]

    def report(self):
        """What the engine said, for the message of a failure."""
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")[-4000:]
        return f"events {self.events}, exit code {self.process.poll()}, log:\n{log}"

    def exit_code(self, seconds=PATIENCE):
        """Waits until the engine has ended."""
        code = self.process.wait(timeout=seconds)
        self._release()
        return code

    def stop(self, seconds=PATIENCE):
        """Ends the engine by closing its stdin; an error where it does not end by that within so many seconds."""
        self.process.stdin.close()
        try:
            self.exit_code(seconds)
            self.log.close()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the engine went on after its stdin had ended") from None

    def kill(self):
        """Ends the engine at once, if it has not ended yet."""
        self.process.kill()
        self.process.wait()
        self._release()
        self.log.close()

    def _release(self):
        self._reader.join()
        if not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        self.process.stdout.close()

    def client(self, **options):
        """The published client. It never tries again by itself, so that every failure is seen."""
        settings = {"api_key": self.token, "max_retries": 0, "timeout": PATIENCE, **options}
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", **settings)

    def request(self, method, path, body=None, headers=None):
        """One bare request, for what the client can't send: status and body, as JSON where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
            sent = {name: value for name, value in sent.items() if value is not None}
            try:
                connection.request(method, path, body=body, headers=sent)
            except (BrokenPipeError, ConnectionResetError):
                pass  # A server may answer before it has read a body that is too large.
            answer = connection.getresponse()
            content = answer.read()
            try:
                return answer.status, json.loads(content)
            except ValueError:
                return answer.status, content
        finally:
            connection.close()

    def health(self):
        """The answer of /health: `status`, and how many conversations are `active` and `waiting`."""
        status, body = self.request("GET", "/health")
        if status != 200:
            raise AssertionError(f"/health answered {status}: {body}")
        return body

    def wait_until_idle(self, seconds=PATIENCE):
        """Waits until no conversation is served or waits any more; returns how many seconds that took."""
        begin = time.monotonic()
        while (now := self.health())["active"] or now["waiting"]:
            if time.monotonic() - begin > seconds:
                raise AssertionError(f"still busy after {seconds} s: {now}")
            # Asking all the time would take the processor from what is waited for.
            time.sleep(0.02)
        return time.monotonic() - begin


def wait_for_end(pid_descriptor, seconds):
    """Whether the process of this descriptor (os.pidfd_open) ends within so many seconds; it need not be a child."""
    return bool(select.select([pid_descriptor], [], [], seconds)[0])


class EngineTest(unittest.TestCase):
    """Tests that share one engine per class."""

    # Which weights: the default model, or the small one where an answer need not make sense.
    small = False
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.entry, cls.file = small_weights() if cls.small else weights("default")
        cls.engine = Engine(cls.file, *cls.options, model_name=cls.entry["model"])
        cls.addClassCleanup(cls.engine.kill)
        cls.client = cls.engine.client()
        cls.addClassCleanup(cls.client.close)

    def setUp(self):
        # For scripts/total.mjs, which names the slowest tests.
        if durations := os.environ.get("VERBATIM_TEST_DURATIONS"):
            self.addCleanup(self.note_duration, durations, time.monotonic())

    def note_duration(self, file, begin):
        with open(file, "a") as durations:
            print(f"{time.monotonic() - begin:.1f} {self.id()}", file=durations)

    def tearDown(self):
        if self.engine.process.poll() is not None:
            self.fail(f"the engine has ended; {self.engine.report()}")

    def body(self, prompt, **fields):
        """A request's fields: one user message (or the messages given), temperature 0, few tokens."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return {"model": self.entry["model"], "messages": messages, "temperature": 0, "max_tokens": 48, **fields}

    def ask(self, prompt, **fields):
        """One completion, not streamed."""
        return self.client.chat.completions.create(**self.body(prompt, **fields))

    def stream(self, prompt, **fields):
        """One completion, streamed and read to its end."""
        return Streamed(self.client.chat.completions.create(**self.body(prompt, stream=True, **fields)))


class Streamed:
    """A stream of chunks that has been read to its end, put together."""

    def __init__(self, stream):
        self.chunks = []
        self.deltas = []
        self.tool_calls = []
        self.finish_reason = None
        self.usage = None
        # Moments on the monotonic clock: of the first text or call, and of the end.
        self.first = None
        for chunk in stream:
            self._take(chunk)
        self.end = time.monotonic()

    def _take(self, chunk):
        self.chunks.append(chunk)
        if chunk.usage:
            self.usage = chunk.usage
        for choice in chunk.choices:
            delta = choice.delta
            if delta.content or delta.tool_calls:
                self.first = self.first or time.monotonic()
            if delta.content:
                self.deltas.append(delta.content)
            for part in delta.tool_calls or []:
                self._take_call(part)
            if choice.finish_reason:
                if self.finish_reason:
                    raise AssertionError("two chunks have a finish_reason")
                self.finish_reason = choice.finish_reason

    def _take_call(self, part):
        if part.index == len(self.tool_calls):
            self.tool_calls.append({"id": part.id, "type": part.type, "name": part.function.name, "arguments": ""})
        elif part.index != len(self.tool_calls) - 1:
            raise AssertionError(f"call {part.index} comes after {len(self.tool_calls)} calls")
        self.tool_calls[part.index]["arguments"] += part.function.arguments or ""

    @property
    def text(self):
        """The whole text."""
        return "".join(self.deltas)


def at_once(works):
    """Runs these functions at the same time, a thread each, and returns their results in order; the first error is raised."""
    results = [None] * len(works)
    errors = []

    def run(place, work):
        try:
            results[place] = work()
        except BaseException as error:  # noqa: BLE001 - handed on below
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
