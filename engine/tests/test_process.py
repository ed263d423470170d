"""The engine as a process: how it starts, whom it lets in, and that it ends."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import openai
from support import PATIENCE, Engine, EngineTest, engine_program, small_weights, wait_for_end

# A supervisor that starts the engine, hands its token over, tells its process id and every line of its stdout, and waits.
PARENT = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.pid, flush=True)
child.stdin.write(b"token\\n")
child.stdin.flush()
for line in child.stdout:
    print(line.decode(), end="", flush=True)
"""


class Start(unittest.TestCase):
    def test_tells_its_port_then_its_progress_then_that_it_is_ready(self):
        entry, file = small_weights()
        engine = Engine(file, "--context-tokens", "1024", model_name=entry["model"])
        self.addCleanup(engine.kill)
        self.assertEqual(list(engine.events[0]), ["listening"])
        fractions = [event["loading"] for event in engine.events[1:-1]]
        self.assertTrue(fractions, "no progress of loading")
        self.assertEqual(fractions, sorted(fractions))
        self.assertTrue(all(0 <= fraction <= 1 for fraction in fractions), fractions)
        self.assertEqual(engine.events[-1], {"ready": {"model": entry["model"], "context_tokens": 1024}})

    def test_names_the_model_after_its_file_where_no_name_is_given(self):
        _, file = small_weights()
        engine = Engine(file, "--context-tokens", "512")
        self.addCleanup(engine.kill)
        self.assertTrue(engine.ready["model"])
        self.assertNotIn("/", engine.ready["model"])
        self.assertEqual([model.id for model in engine.client().models.list()], [engine.ready["model"]])

    def test_says_that_it_is_loading_until_it_is_ready(self):
        _, file = small_weights()
        engine = Engine(file, until="listening")
        self.addCleanup(engine.kill)
        statuses = {engine.request("GET", "/health")[0]}
        engine.wait_for("ready")
        self.assertLessEqual(statuses, {200, 503})
        self.assertEqual(engine.request("GET", "/health")[0], 200)


class Damage(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def fails(self, file, code):
        """Starts the engine on this file: it must say this code, a sentence without a path's folders, and exit with 1."""
        engine = Engine(file, until=None)
        self.addCleanup(engine.kill)
        failed = engine.wait_for("failed")
        self.assertEqual(engine.exit_code(), 1, engine.report())
        self.assertEqual(failed["code"], code)
        self.assertRegex(failed["message"], r"^\S.+\.$")
        self.assertNotIn(str(self.folder), failed["message"], "a page would show where somebody keeps their files")
        self.assertEqual(list(engine.events[-1]), ["failed"], "a line came after the failure")

    def test_a_missing_model(self):
        self.fails(self.folder / "absent.gguf", "model_missing")

    def test_a_truncated_model(self):
        _, whole = small_weights()
        for part in (0.5, 0.999):
            with self.subTest(part=part):
                file = self.folder / "truncated.gguf"
                shutil.copyfile(whole, file)
                os.truncate(file, int(whole.stat().st_size * part))
                self.fails(file, "model_damaged")

    def test_a_model_cut_off_within_its_header(self):
        _, whole = small_weights()
        file = self.folder / "header.gguf"
        with whole.open("rb") as source:
            file.write_bytes(source.read(100_000))
        self.fails(file, "model_damaged")

    def test_a_header_with_absurd_counts(self):
        _, whole = small_weights()
        file = self.folder / "counts.gguf"
        with whole.open("rb") as source:
            head = bytearray(source.read(1_000_000))
        head[8:24] = b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 2  # the numbers of tensors and of metadata entries
        file.write_bytes(head)
        self.fails(file, "model_damaged")

    def test_files_that_are_no_models(self):
        for name, content in {"empty": b"", "text": b"not a model\n" * 1000, "magic": b"GGUF"}.items():
            with self.subTest(name):
                file = self.folder / f"{name}.gguf"
                file.write_bytes(content)
                self.fails(file, "model_damaged")


class End(unittest.TestCase):
    def parent(self, until):
        """Starts a parent that starts the engine, waits for this line, and returns the parent, the engine's descriptor, and
        the line's value."""
        _, file = small_weights()
        command = [sys.executable, "-c", PARENT, engine_program(), "--model-file", file, "--context-tokens", "2048"]
        parent = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.addCleanup(parent.stdout.close)
        self.addCleanup(parent.wait)
        self.addCleanup(parent.kill)
        descriptor = os.pidfd_open(int(parent.stdout.readline()))
        self.addCleanup(os.close, descriptor)
        events = {}
        for line in parent.stdout:
            events.update(json.loads(line))
            if until in events:
                return parent, descriptor, events
        self.fail(f"the engine ended before {until!r}: {events}")

    def killed(self, parent, descriptor):
        self.assertFalse(wait_for_end(descriptor, 0), "the engine has ended too early")
        parent.kill()
        self.assertTrue(wait_for_end(descriptor, PATIENCE), "the engine outlives its parent")

    def test_it_is_gone_when_its_parent_was_killed(self):
        parent, descriptor, _ = self.parent("ready")
        self.killed(parent, descriptor)

    def test_it_is_gone_when_its_parent_was_killed_while_it_was_loading(self):
        parent, descriptor, _ = self.parent("listening")
        self.killed(parent, descriptor)

    def test_it_is_gone_when_its_parent_was_killed_while_it_was_generating(self):
        parent, descriptor, events = self.parent("ready")
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{events['listening']['port']}/v1", api_key="token", max_retries=0)
        self.addCleanup(client.close)
        stream = client.chat.completions.create(
            model=events["ready"]["model"],
            messages=[{"role": "user", "content": "Write a long story."}],
            max_tokens=2000,
            stream=True,
        )
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        self.killed(parent, descriptor)

    def test_it_ends_when_its_stdin_ends(self):
        _, file = small_weights()
        Engine(file).stop()

    def test_it_ends_when_its_stdin_ends_without_a_token(self):
        _, file = small_weights()
        done = subprocess.run(
            [engine_program(), "--model-file", file],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertNotIn(b'"ready"', done.stdout)


class Door(EngineTest):
    small = True

    def test_the_wrong_token(self):
        with self.assertRaises(openai.AuthenticationError) as caught:
            self.engine.client(api_key="wrong").models.list()
        self.assertTrue(caught.exception.body["message"])
        with self.assertRaises(openai.AuthenticationError):
            self.engine.client(api_key="wrong").chat.completions.create(**self.body("Hello"))

    def test_no_token_at_any_path(self):
        for headers in ({"Authorization": None}, {"Authorization": "Bearer "}, {"Authorization": self.engine.token}):
            for method, path in (("GET", "/health"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/")):
                with self.subTest(path=path, headers=list(headers.values())):
                    status, body = self.engine.request(method, path, headers=headers)
                    self.assertEqual(status, 401)
                    self.assertTrue(body["error"]["message"])

    def test_another_host(self):
        for host in ("evil.example", f"evil.example:{self.engine.port}", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1"):
            with self.subTest(host):
                status, body = self.engine.request("GET", "/v1/models", headers={"Host": host})
                self.assertIn(status, (400, 403, 421))
                self.assertTrue(body["error"]["message"])
        for host in (f"127.0.0.1:{self.engine.port}", f"localhost:{self.engine.port}"):
            with self.subTest(host):
                self.assertEqual(self.engine.request("GET", "/v1/models", headers={"Host": host})[0], 200)

    def test_it_listens_on_the_loopback_address_only(self):
        """By the kernel's table of this process's sockets."""
        pid = self.engine.process.pid
        inodes = set()
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            link = os.readlink(entry)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
        listening = []
        for table in ("tcp", "tcp6"):
            if (path := Path(f"/proc/{pid}/net/{table}")).exists():
                for line in path.read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and fields[9] in inodes:
                        listening.append(fields[1])
        self.assertEqual(listening, [f"0100007F:{self.engine.port:04X}"])

    def test_its_token_is_not_where_other_processes_see_it(self):
        token = self.engine.token.encode()
        pid = self.engine.process.pid
        self.assertNotIn(token, Path(f"/proc/{pid}/cmdline").read_bytes())
        self.assertNotIn(token, Path(f"/proc/{pid}/environ").read_bytes())
        self.engine.log.seek(0)
        self.assertNotIn(token, self.engine.log.read())

    def test_what_is_not_there(self):
        for method, path in (("GET", "/"), ("GET", "/v1/absent"), ("POST", "/v1/embeddings")):
            status, body = self.engine.request(method, path)
            self.assertEqual(status, 404)
            self.assertTrue(body["error"]["message"])
        self.assertEqual(self.engine.request("GET", "/v1/chat/completions")[0], 405)

    def test_health_and_the_list_of_models(self):
        self.assertEqual(self.engine.health(), {"status": "ok", "active": 0, "waiting": 0})
        (model,) = self.client.models.list()
        self.assertEqual((model.id, model.object, model.owned_by), (self.entry["model"], "model", "verbatim"))
        self.assertIsInstance(model.created, int)
        self.assertEqual(model.context_length, 8192)
        self.assertGreater(model.meta["n_params"], 10**8)
        self.assertGreater(model.meta["n_ctx_train"], 1000)
        # The weights without the header.
        self.assertAlmostEqual(model.meta["size"] / self.entry["bytes"], 1, delta=0.1)


if __name__ == "__main__":
    unittest.main()
