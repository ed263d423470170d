"""What a wrong request gets: an OpenAI error that names the field, and an engine that goes on."""

import unittest

import openai
from support import EngineTest

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


class Errors(EngineTest):
    small = True

    def tearDown(self):
        super().tearDown()
        self.assertEqual(self.engine.health(), {"status": "ok", "active": 0, "waiting": 0})

    def refused(self, param, **fields):
        """A request with these fields must be refused with 400, naming this field (or a place inside of it)."""
        for stream in (False, True):
            with self.assertRaises(openai.BadRequestError, msg=f"{fields}") as caught:
                self.client.chat.completions.create(**{**self.body("Hello", max_tokens=1), "stream": stream, **fields})
            error = caught.exception
            self.assertEqual(error.type, "invalid_request_error")
            self.assertTrue(error.body["message"])
            self.assertRegex(error.param or "", rf"^{param}\b")

    def test_values_out_of_range(self):
        for field, values in {
            "temperature": (-0.1, 2.1, 1e300, "warm", [], True),
            "top_p": (-1, 1.5, "much"),
            "presence_penalty": (-3, 3),
            "frequency_penalty": (-3, 3),
            "max_tokens": (-1, 1.5, "many", 10**30),
            "max_completion_tokens": (-1, "many"),
            "seed": ("lucky", 0.5),
            "n": (2, 0),
            "stop": (["a", "b", "c", "d", "e"], 5, [1]),
            "logit_bias": ({"x": 1}, {"1": 200}, [1]),
            "response_format": ({"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}, {"type": "xml"}, "json"),
            "tools": ("weather", [{"type": "weather"}], [{"type": "function"}]),
            "stream_options": ("all",),
        }.items():
            for value in values:
                with self.subTest(field=field, value=value):
                    self.refused(field, extra_body={field: value})

    def test_a_tool_choice_that_is_impossible(self):
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
        for choice in ("always", {"type": "function", "function": {"name": "absent"}}, 5):
            with self.subTest(choice=choice):
                self.refused("tool_choice", extra_body={"tools": [tool], "tool_choice": choice})

    def test_messages(self):
        for messages in (
            [],
            "Hello",
            None,
            [5],
            [{"content": "Hello"}],
            [{"role": "user"}],
            [{"role": "user", "content": 5}],
            [{"role": "wizard", "content": "Hello"}],
            [{"role": "user", "content": [IMAGE]}],
            [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}],
            [{"role": "user", "content": [{"type": "text"}]}],
            [{"role": "assistant", "tool_calls": "weather"}, {"role": "user", "content": "Hello"}],
        ):
            with self.subTest(messages=messages):
                self.refused("messages", extra_body={"messages": messages})

    def test_an_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(**{**self.body("Hello"), "model": "gpt-4"})
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_a_prompt_that_is_too_long(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.ask("lighthouse " * 9000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        message = caught.exception.body["message"].replace(",", "")
        self.assertIn("8192", message)
        numbers = [int(word) for word in "".join(c if c.isdigit() else " " for c in message).split()]
        self.assertTrue(any(9000 <= number <= 60_000 for number in numbers), message)

    def test_long_runs_without_a_space(self):
        """Tokenisers with regular expressions have fallen over these."""
        for text in ("a" * 300_000, "!" * 300_000, "\n" * 300_000, "界" * 100_000, "1" * 300_000, " " * 1_000_000):
            with self.subTest(text[0]):
                status, body = self.engine.request("POST", "/v1/chat/completions", self.body(text, max_tokens=1))
                self.assertEqual((status, body["error"]["code"]), (400, "context_length_exceeded"))

    def test_bodies_that_are_no_json(self):
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
            b'{"messages":[{"role":"user","content":"\\ud800"}]}',
            b'{"temperature":NaN}',
            b"[" * 100_000,
            b'{"messages":' * 100_000,
        ):
            with self.subTest(body[:40]):
                status, answer = self.engine.request("POST", "/v1/chat/completions", body)
                self.assertEqual((status, answer["error"]["type"]), (400, "invalid_request_error"))

    def test_a_huge_body(self):
        body = b'{"messages":[{"role":"user","content":"' + b"a" * (64 << 20) + b'"}]}'
        try:
            status, answer = self.engine.request("POST", "/v1/chat/completions", body)
        except (ConnectionResetError, BrokenPipeError):
            return  # Refused before it was read; that the engine goes on is looked at after each test.
        self.assertIn(status, (400, 413))
        self.assertTrue(answer["error"]["message"])

    def test_fields_that_are_not_known_are_passed_over(self):
        answer = self.ask("Hello", max_tokens=1, user="someone", extra_body={"absent": {"a": [1]}, "store": False})
        self.assertEqual(answer.usage.completion_tokens, 1)

    def test_null_is_the_same_as_absent(self):
        fields = ("temperature", "top_p", "stop", "seed", "tools", "tool_choice", "response_format", "n", "logit_bias", "stream")
        answer = self.ask("Hello", extra_body={**dict.fromkeys(fields), "max_tokens": 1})
        self.assertEqual(answer.usage.completion_tokens, 1)


if __name__ == "__main__":
    unittest.main()
