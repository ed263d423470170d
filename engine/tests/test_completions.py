"""Completions by the published client: text, stop, limits, sampling, usage, the prefix cache."""

import json
import unittest

from support import EngineTest

COUNT = "Write the names of the numbers from one to twelve, separated by commas. Write nothing else."

ESSAY = (
    "You keep the notes of a small sailing club. The club has four boats: the Heron, the Petrel, the Tern and the Plover. The"
    " Heron is blue and needs a new mainsail, the Petrel is red and was repaired in May, the Tern is white and belongs to the"
    " youth group, the Plover is green and leaks at the stern. Dues are paid in March. The harbour closes on the last Sunday"
    " of October, the boats are then brought to the shed behind the mill. Keys hang beside the door of the clubhouse. Whoever"
    " takes a boat out writes the time and the names into the book, also when it is only for an hour."
)


class Text(EngineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # What the tests of stop and limits cut from: they hold whatever this model answers, if it is long enough.
        cls.whole = cls.client.chat.completions.create(
            model=cls.entry["model"], messages=[{"role": "user", "content": COUNT}], temperature=0, max_tokens=40
        )
        cls.text = cls.whole.choices[0].message.content
        if len(cls.text) < 27:
            raise AssertionError(f"the model's answer is too short to test with: {cls.text!r}")

    def count(self, **fields):
        """The counting answer, streamed and not; both must be equal. Returns the text and the reason of its end."""
        whole = self.ask(COUNT, **{"max_tokens": 40, **fields}).choices[0]
        streamed = self.stream(COUNT, **{"max_tokens": 40, **fields})
        self.assertEqual(streamed.text, whole.message.content)
        self.assertEqual(streamed.finish_reason, whole.finish_reason)
        return whole.message.content, whole.finish_reason

    def test_the_shape_of_an_answer(self):
        answer = self.whole
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, self.entry["model"])
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertIsInstance(answer.created, int)
        (choice,) = answer.choices
        self.assertEqual((choice.index, choice.message.role), (0, "assistant"))
        self.assertIsNone(choice.message.tool_calls)
        self.assertIn("1, 2, 3", self.text.replace(",", ", ").replace("  ", " "))

    def test_the_shape_of_a_stream(self):
        streamed = self.stream(COUNT, max_tokens=8)
        self.assertEqual({chunk.object for chunk in streamed.chunks}, {"chat.completion.chunk"})
        self.assertEqual(len({chunk.id for chunk in streamed.chunks}), 1)
        self.assertEqual({chunk.model for chunk in streamed.chunks}, {self.entry["model"]})
        self.assertEqual(streamed.chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual([chunk.choices[0].index for chunk in streamed.chunks if chunk.choices], [0] * len(streamed.chunks))
        self.assertIsNotNone(streamed.chunks[-1].choices[0].finish_reason)
        self.assertIsNone(streamed.usage, "usage without having been asked for")
        self.assertGreater(len(streamed.deltas), 3, "the text came in too few pieces to be called streamed")

    def test_the_bytes_of_a_stream(self):
        status, content = self.engine.request("POST", "/v1/chat/completions", self.body(COUNT, max_tokens=4, stream=True))
        self.assertEqual(status, 200)
        events = [event for event in content.decode().split("\n\n") if event and not event.startswith(":")]
        self.assertTrue(all(event.startswith("data: ") and "\n" not in event for event in events), events)
        self.assertEqual(events[-1], "data: [DONE]")

    def test_streamed_and_whole_are_equal(self):
        self.assertEqual(self.count(), (self.text, self.whole.choices[0].finish_reason))

    def test_an_answer_that_ends_by_itself(self):
        streamed = self.stream("What is the capital of France? Answer with the name of the city only.")
        self.assertEqual(streamed.finish_reason, "stop")
        self.assertIn("Paris", streamed.text)
        self.assertNotIn("<|", streamed.text)

    def test_usage(self):
        usage = self.whole.usage
        self.assertGreater(usage.prompt_tokens, 10)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        streamed = self.stream(COUNT, max_tokens=40, stream_options={"include_usage": True})
        last = streamed.chunks[-1]
        self.assertEqual(last.choices, [])
        self.assertEqual(
            (last.usage.prompt_tokens, last.usage.completion_tokens), (usage.prompt_tokens, usage.completion_tokens)
        )
        self.assertTrue(all(chunk.usage is None for chunk in streamed.chunks[:-1]))

    def test_timings(self):
        streamed = self.stream(COUNT, max_tokens=8, stream_options={"include_usage": True})
        for timings, usage in (
            (self.whole.timings, self.whole.usage),
            ([chunk for chunk in streamed.chunks if hasattr(chunk, "timings")][-1].timings, streamed.usage),
        ):
            self.assertEqual(timings["prompt_n"] + timings["cache_n"], usage.prompt_tokens)
            self.assertEqual(timings["cache_n"], usage.prompt_tokens_details.cached_tokens)
            self.assertEqual(timings["predicted_n"], usage.completion_tokens)
            self.assertGreater(timings["prompt_ms"], 0)
            self.assertGreater(timings["predicted_ms"], 0)

    def test_the_token_limit(self):
        for field in ("max_tokens", "max_completion_tokens"):
            with self.subTest(field):
                body = self.body(COUNT)
                del body["max_tokens"]
                answer = self.client.chat.completions.create(**body, **{field: 7})
                self.assertEqual(answer.choices[0].finish_reason, "length")
                self.assertEqual(answer.usage.completion_tokens, 7)
                self.assertTrue(self.text.startswith(answer.choices[0].message.content))

    def test_a_stop_string_at_any_place(self):
        """Cut out of the answer at every place, so that it begins and ends within tokens too."""
        for begin in (4, 14, 19):
            stop = self.text[begin : begin + 5]
            with self.subTest(stop):
                self.assertEqual(self.count(stop=stop), (self.text[: self.text.index(stop)], "stop"))

    def test_the_first_of_several_stop_strings(self):
        stops = [self.text[20:26], "absent", self.text[10:13], "\n\n\n"]
        self.assertEqual(self.count(stop=stops), (self.text[: self.text.index(stops[2])], "stop"))

    def test_a_stop_string_that_only_begins(self):
        """What was held back because it might become a stop string is still sent."""
        for stop in (self.text[6:9] + "#", self.text[-3:] + "#"):
            with self.subTest(stop):
                self.assertEqual(self.count(stop=[stop]), (self.text, self.whole.choices[0].finish_reason))

    def test_the_seed(self):
        # The first request fills the prefix cache: a prompt read in one piece and a prompt taken from the cache may differ in
        # the last bits of their numbers.
        prompt = "Invent a name for a planet and describe it in one sentence."
        self.ask(prompt, max_tokens=1)
        texts = [
            self.ask(prompt, temperature=1, seed=seed, max_tokens=24).choices[0].message.content for seed in (7, 7, 8, 9, 10)
        ]
        self.assertEqual(texts[0], texts[1])
        self.assertGreater(len(set(texts)), 2, "other seeds give the same text")

    def test_without_a_seed_answers_differ(self):
        prompt = "Invent a name for a planet and describe it in one sentence."
        texts = {self.ask(prompt, temperature=1.5, max_tokens=16).choices[0].message.content for _ in range(3)}
        self.assertGreater(len(texts), 1)

    def test_sampling_from_one_candidate_is_the_same_as_temperature_0(self):
        for fields in ({"top_p": 0.000001}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1}}):
            with self.subTest(fields):
                answer = self.ask(COUNT, temperature=1, max_tokens=12, **fields)
                self.assertTrue(self.text.startswith(answer.choices[0].message.content), answer.choices[0].message.content)

    def test_logit_bias_and_penalties(self):
        plain = self.ask("Write the digit 1 and nothing else.", max_tokens=4).choices[0].message.content
        self.assertIn("1", plain)
        # 16 is the token of the digit 1 in this model's vocabulary.
        biased = self.ask("Write the digit 1 and nothing else.", max_tokens=4, logit_bias={"16": -100})
        self.assertNotIn("1", biased.choices[0].message.content)
        repeated = "Write the word cat thirty times: cat cat cat cat"
        free = self.ask(repeated, max_tokens=24).choices[0].message.content
        penalised = self.ask(repeated, max_tokens=24, frequency_penalty=2, presence_penalty=2).choices[0].message.content
        self.assertLess(penalised.lower().count("cat"), free.lower().count("cat"))

    def test_characters_are_never_torn(self):
        for prompt in (
            "Write this again: 🦊 fox, 🧿 eye, 🐙 octopus, 🪁 kite",
            "Translate into Chinese: The old harbour is closed on Sunday.",
        ):
            with self.subTest(prompt):
                whole = self.ask(prompt).choices[0].message.content
                self.assertGreater(sum(ord(character) > 0x2E80 for character in whole), 3, whole)
                streamed = self.stream(prompt)
                self.assertEqual(streamed.text, whole)
                for delta in streamed.deltas:
                    delta.encode("utf-8", errors="strict")
                    self.assertNotIn("\N{REPLACEMENT CHARACTER}", delta)
                # A limit may end the answer within a character, which is then left out.
                for limit in (1, 2, 3, 5, 6):
                    cut = self.stream(prompt, max_tokens=limit).text
                    self.assertTrue(whole.startswith(cut), (limit, cut))

    def test_system_and_developer_messages(self):
        user = {"role": "user", "content": "What is my name?"}
        text = "The person you talk to is called Gustav."
        system, developer = (self.ask([{"role": role, "content": text}, user]) for role in ("system", "developer"))
        self.assertIn("Gustav", system.choices[0].message.content)
        self.assertEqual(developer.choices[0].message.content, system.choices[0].message.content)
        self.assertEqual(developer.usage.prompt_tokens, system.usage.prompt_tokens)

    def test_content_in_parts(self):
        parts = [{"type": "text", "text": COUNT[:30]}, {"type": "text", "text": COUNT[30:]}]
        one = self.ask([{"role": "user", "content": [{"type": "text", "text": COUNT}]}], max_tokens=40)
        self.assertEqual(one.choices[0].message.content, self.text)
        self.assertEqual(one.usage.prompt_tokens, self.whole.usage.prompt_tokens)
        two = self.ask([{"role": "user", "content": parts}], max_tokens=40)
        self.assertAlmostEqual(two.usage.prompt_tokens, self.whole.usage.prompt_tokens, delta=2)
        self.assertIn("3", two.choices[0].message.content)

    def test_what_a_person_writes_is_never_the_chat_format_itself(self):
        """The marks of the chat template inside a message are text: nobody ends a turn or begins another by typing them."""
        marks = self.ask("<|im_end|><|im_end|><|im_end|><|im_end|>", max_tokens=1).usage.prompt_tokens
        letters = self.ask("a", max_tokens=1).usage.prompt_tokens
        self.assertGreater(marks - letters, 10, "each mark was read as one token")

    def test_the_name_may_be_absent_or_empty(self):
        for model in ({}, {"model": ""}):
            body = {**self.body(COUNT, max_tokens=2), **model}
            if not model:
                del body["model"]
            status, answer = self.engine.request("POST", "/v1/chat/completions", body)
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["model"], self.entry["model"])

    def test_unusual_characters_in_a_message(self):
        for text in ("a\0b", "\u202e\ufeff\u200d", "\U0010ffff", "\r\n\t\x07", " "):
            with self.subTest(repr(text)):
                self.assertEqual(self.engine.request("POST", "/v1/chat/completions", self.body(text, max_tokens=2))[0], 200)

    def test_json_mode(self):
        prompt = "Describe a cat named Tom who is three years old, as a JSON object with the keys name and age."
        answer = self.ask(prompt, max_tokens=80, response_format={"type": "json_object"}).choices[0]
        self.assertEqual(answer.finish_reason, "stop")
        self.assertIsInstance(json.loads(answer.message.content), dict)
        # Without a word about JSON too, and also by chance.
        streamed = self.stream("Hello!", max_tokens=120, temperature=1, seed=3, response_format={"type": "json_object"})
        self.assertTrue(streamed.text.lstrip().startswith("{"), streamed.text)
        if streamed.finish_reason == "stop":
            self.assertIsInstance(json.loads(streamed.text), dict)
        plain = self.ask(COUNT, max_tokens=4, response_format={"type": "text"}).choices[0].message.content
        self.assertTrue(self.text.startswith(plain))


class Cache(EngineTest):
    def turn(self, messages, text):
        """Adds a question and its answer to a conversation; returns the usage."""
        messages.append({"role": "user", "content": text})
        answer = self.ask(messages, max_tokens=12)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        return answer.usage

    def assert_cached(self, usage, before):
        """Most of the turn before must have come from the cache."""
        known = before.prompt_tokens + before.completion_tokens
        self.assertGreater(usage.prompt_tokens_details.cached_tokens, 0.8 * known, (before, usage))
        self.assertLess(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens)

    def test_conversations_keep_their_prefix_while_others_talk(self):
        one = [{"role": "system", "content": "Be short. " + ESSAY}]
        two = [{"role": "system", "content": "Answer like a sailor. " + ESSAY}]
        first_of_one = self.turn(one, "Which boat leaks?")
        self.assertLess(first_of_one.prompt_tokens_details.cached_tokens, 0.3 * first_of_one.prompt_tokens)
        first_of_two = self.turn(two, "Which boat is red?")
        second_of_one = self.turn(one, "And which one is white?")
        second_of_two = self.turn(two, "Who uses the white one?")
        third_of_one = self.turn(one, "Thank you.")
        self.assert_cached(second_of_one, first_of_one)
        self.assert_cached(second_of_two, first_of_two)
        self.assert_cached(third_of_one, second_of_one)

    def test_the_answer_does_not_depend_on_the_cache(self):
        """A conversation that is changed in its middle, as by an edited message, is answered by what it says now."""
        question = {"role": "user", "content": "What is my name? Answer with the name only."}
        names = []
        for name in ("Priya", "Gustav", "Priya"):
            messages = [
                {"role": "system", "content": "Answer with as few words as possible."},
                {"role": "user", "content": f"My name is {name} and I like chess."},
                {"role": "assistant", "content": "Hello!"},
                question,
            ]
            names.append(self.ask(messages, max_tokens=8).choices[0].message.content)
        self.assertIn("Priya", names[0])
        self.assertIn("Gustav", names[1])
        self.assertNotIn("Priya", names[1])
        self.assertEqual(names[2], names[0])


class Room(EngineTest):
    """A small context, to reach its end."""

    small = True
    options = ("--context-tokens", "512", "--cache-tokens", "512")

    def test_an_answer_that_fills_the_context_ends_with_length(self):
        # At this temperature and with a bias the model hardly ends by itself: 2 is the token that ends a turn in SmolLM2.
        prompt = "Repeat after me, for ever: " + "one two three four " * 90
        streamed = self.stream(
            prompt, max_tokens=4000, temperature=1, seed=1, logit_bias={"2": -100}, stream_options={"include_usage": True}
        )
        self.assertEqual(streamed.finish_reason, "length")
        self.assertLessEqual(streamed.usage.total_tokens, 512)
        self.assertGreater(streamed.usage.total_tokens, 500)

    def test_after_a_full_context_the_next_is_answered(self):
        for _ in range(2):
            self.assertGreater(self.ask("Hello " * 300, max_tokens=400).usage.completion_tokens, 0)


if __name__ == "__main__":
    unittest.main()
