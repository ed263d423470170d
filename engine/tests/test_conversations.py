"""Several conversations at once, long prompts, and requests that nobody waits for any more."""

import threading
import time
import unittest

import openai
from support import PATIENCE, EngineTest, Streamed, at_once

WORDS = ("apple", "bridge", "candle", "dolphin", "engine", "forest", "guitar", "hammer", "island", "jacket")

STORY = "Write a long story about a lighthouse keeper. Tell everything in detail."


def long_prompt(words, name="0"):
    """A prompt of about so many tokens that shares no beginning with another name's."""
    return f"Text {name}. " + "The boat is blue and the sea is calm today. " * (words // 11) + "What colour is the boat?"



class Many(EngineTest):
    def test_ten_at_once_all_finish_with_their_own_answers(self):
        def conversation(word):
            return self.stream(f"Repeat this word three times and say nothing else: {word}", max_tokens=24)

        results = at_once([lambda word=word: conversation(word) for word in WORDS])
        for word, streamed in zip(WORDS, results):
            with self.subTest(word):
                self.assertIn(word, streamed.text.lower())
                others = [other for other in WORDS if other != word and other in streamed.text.lower()]
                self.assertEqual(others, [])
        self.engine.wait_until_idle()

    def test_none_waits_until_all_others_are_done(self):
        results = at_once([lambda word=word: self.stream(f"{STORY} Its hero is {word}.", max_tokens=32) for word in WORDS])
        last = max(results, key=lambda streamed: streamed.first)
        self.assertLess(last.first, max(streamed.end for streamed in results if streamed is not last))

    def test_an_answer_is_the_same_alone_and_among_others(self):
        prompt = "Count from 1 to 12 in digits, separated by commas."
        alone = self.stream(prompt, max_tokens=30).text
        together = at_once([lambda: self.stream(prompt, max_tokens=30).text for _ in range(3)])
        self.assertEqual(together, [alone] * 3)


class Crowd(EngineTest):
    """More than can be served at once, and more tokens than the cache holds."""

    small = True
    options = ("--context-tokens", "512", "--cache-tokens", "1024")

    def test_twenty_at_once_all_finish(self):
        results = at_once([lambda n=n: self.stream(f"Tell me about the number {n}.", max_tokens=8) for n in range(20)])
        for streamed in results:
            self.assertIn(streamed.finish_reason, ("stop", "length"))
            self.assertTrue(streamed.text)
        self.engine.wait_until_idle()

    def test_more_tokens_than_the_cache_holds(self):
        def conversation(name):
            return self.stream(long_prompt(250, name), max_tokens=60, stream_options={"include_usage": True})

        results = at_once([lambda n=n: conversation(f"{n}") for n in range(5)])
        self.assertGreater(sum(streamed.usage.total_tokens for streamed in results), 1024, "the test asks for too little")
        for streamed in results:
            self.assertIn(streamed.finish_reason, ("stop", "length"))
            self.assertTrue(streamed.text)

    def test_answers_that_grow_past_the_cache_together(self):
        """Each begins small and there is room for all; only their answers fill the cache."""
        fields = {"max_tokens": 300, "logit_bias": {"2": -100}, "stream_options": {"include_usage": True}}
        results = at_once([lambda n=n: self.stream(f"{STORY} Number {n}.", **fields) for n in range(4)])
        self.assertEqual([streamed.usage.completion_tokens for streamed in results], [300] * 4)


class Waiting(EngineTest):
    """How a long prompt is read: told, shared fairly, and given up when nobody waits for it."""

    small = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # How long forty tokens take, as busy as the machine is now: the four thousand that tests give up would take a hundred
        # times that. A quarter of it is soon, and never less than what a stuttering machine needs.
        body = {"model": cls.entry["model"], "messages": [{"role": "user", "content": STORY}], "max_tokens": 40}
        begin = time.monotonic()
        cls.client.chat.completions.create(**body, logit_bias={"2": -100})
        cls.soon = max(8, 25 * (time.monotonic() - begin))

    def assert_soon_idle(self):
        """Work that nobody waits for ends soon, which means long before it would if it were carried on."""
        self.assertLess(self.engine.wait_until_idle(), self.soon)

    def begin(self, prompt, **fields):
        """A stream with progress that has begun to read its prompt."""
        stream = self.client.chat.completions.create(
            **self.body(prompt, stream=True, extra_body={"return_progress": True}, **fields)
        )
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            if hasattr(chunk, "prompt_progress") and chunk.prompt_progress["processed"] > 0:
                return stream, chunks
        self.fail("no progress of the prompt")

    def test_progress(self):
        streamed = self.stream(
            long_prompt(1500, "progress"),
            max_tokens=2,
            extra_body={"return_progress": True},
            stream_options={"include_usage": True},
        )
        chunks = [chunk for chunk in streamed.chunks if hasattr(chunk, "prompt_progress")]
        self.assertTrue(all(chunk.choices == [] for chunk in chunks))
        steps = [chunk.prompt_progress for chunk in chunks]
        processed = [step["processed"] for step in steps]
        self.assertGreater(len(set(processed)), 2, "too few steps to be called progress")
        self.assertEqual(processed, sorted(processed))
        self.assertEqual(processed[-1], streamed.usage.prompt_tokens)
        self.assertEqual({step["total"] for step in steps}, {streamed.usage.prompt_tokens})
        self.assertTrue(all(step["cache"] <= step["processed"] for step in steps), steps)
        self.assertEqual(steps[-1]["cache"], streamed.usage.prompt_tokens_details.cached_tokens)
        times = [step["time_ms"] for step in steps]
        self.assertEqual(times, sorted(times))

    def test_no_progress_unless_asked(self):
        streamed = self.stream(long_prompt(600, "quiet"), max_tokens=1)
        self.assertFalse([chunk for chunk in streamed.chunks if hasattr(chunk, "prompt_progress")])

    def test_a_short_question_does_not_wait_for_a_long_prompt(self):
        begin = time.monotonic()
        stream, _ = self.begin(long_prompt(3000, "fairness"), max_tokens=2)
        result = []
        reader = threading.Thread(target=lambda: result.append(Streamed(stream)))
        reader.start()
        asked = time.monotonic()
        short = self.stream("Hello!", max_tokens=4)
        reader.join()
        (long,) = result
        self.assertLess(short.end, long.first, "the short question was answered after the long prompt had been read")
        self.assertLess(short.first - asked, 0.5 * (long.first - begin))

    def test_a_closed_stream_frees_the_engine(self):
        stream = self.client.chat.completions.create(**self.body(STORY, stream=True, max_tokens=4000, temperature=1, logit_bias={"2": -100}))
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
        self.assertEqual(self.engine.health()["active"], 1)
        stream.close()
        self.assert_soon_idle()
        self.assertTrue(self.ask("Hello!", max_tokens=4).choices[0].message.content)

    def test_a_closed_stream_frees_the_engine_while_its_prompt_is_read(self):
        stream, _ = self.begin(long_prompt(4000, "closed"))
        self.assertEqual(self.engine.health()["active"], 1)
        stream.close()
        self.assert_soon_idle()

    def test_a_whole_answer_that_nobody_waits_for(self):
        body = self.body(STORY, max_tokens=4000, temperature=1, logit_bias={"2": -100})
        with self.engine.client(timeout=openai.Timeout(PATIENCE, read=1)) as client:
            with self.assertRaises(openai.APITimeoutError):
                client.chat.completions.create(**body)
        self.assert_soon_idle()
        self.assertTrue(self.ask("Hello!", max_tokens=4).choices[0].message.content)

    def test_many_that_are_given_up_at_once(self):
        """Also those that still wait for their turn."""

        def give_up(n):
            body = self.body(f"{STORY} {n}", stream=True, max_tokens=4000, temperature=1, logit_bias={"2": -100})
            with self.engine.client(timeout=openai.Timeout(PATIENCE, read=1)) as client:
                try:
                    stream = client.chat.completions.create(**body)
                    for count, chunk in enumerate(stream):
                        if count == 2:
                            break
                    stream.close()
                except openai.APITimeoutError:
                    pass

        at_once([lambda n=n: give_up(n) for n in range(20)])
        self.assert_soon_idle()

    def test_the_cache_survives_an_answer_that_was_given_up(self):
        """A person who pressed Stop goes on from there."""
        messages = [{"role": "user", "content": long_prompt(600, "stopped")}]
        stream, _ = self.begin(messages, max_tokens=2000)
        text = next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content).choices[0].delta.content
        stream.close()
        self.engine.wait_until_idle()
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "Why?"}]
        usage = self.ask(messages, max_tokens=1).usage
        self.assertGreater(usage.prompt_tokens_details.cached_tokens, 0.8 * usage.prompt_tokens)


if __name__ == "__main__":
    unittest.main()
