"""Tool calls by the published client."""

import json
import unittest

from support import EngineTest

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the present weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name"}},
            "required": ["city"],
        },
    },
}

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Calculates the value of an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}

TOOLS = [WEATHER, CALCULATOR]

QUESTION = "What is the weather in Paris right now?"

RESULT = '{"temperature_celsius": 17, "sky": "cloudy"}'


class Tools(EngineTest):
    def call(self, prompt, name, **fields):
        """Asks streamed and not; both must hold the same one call of this tool. Returns its arguments."""
        choice = self.ask(prompt, tools=TOOLS, **fields).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls", choice)
        (call,) = choice.message.tool_calls
        self.assertEqual((call.type, call.function.name), ("function", name))
        self.assertTrue(call.id)
        streamed = self.stream(prompt, tools=TOOLS, **fields)
        self.assertEqual(streamed.finish_reason, "tool_calls")
        self.assertEqual(streamed.text, choice.message.content or "")
        (other,) = streamed.tool_calls
        self.assertEqual(
            (other["type"], other["name"], other["arguments"]), ("function", name, call.function.arguments)
        )
        self.assertTrue(other["id"])
        for text in (choice.message.content or "", streamed.text):
            self.assertNotIn("tool_call", text)
            self.assertNotIn('"arguments"', text)
        arguments = json.loads(call.function.arguments)
        self.assertIsInstance(arguments, dict)
        return arguments

    def test_a_call(self):
        arguments = self.call(QUESTION, "get_weather")
        self.assertIn("Paris", arguments["city"])

    def test_the_tool_that_fits(self):
        arguments = self.call("Use the calculator: how much is 1234 * 5678?", "calculate")
        self.assertIn("1234", arguments["expression"])

    def test_call_ids_differ(self):
        ids = {self.ask(QUESTION, tools=TOOLS).choices[0].message.tool_calls[0].id for _ in range(2)}
        self.assertEqual(len(ids), 2)

    def test_usage_and_the_end_of_a_streamed_call(self):
        streamed = self.stream(QUESTION, tools=TOOLS, stream_options={"include_usage": True})
        self.assertGreater(streamed.usage.completion_tokens, 5)
        self.assertEqual([chunk.choices for chunk in streamed.chunks][-1], [])

    def test_no_call_where_none_is_allowed(self):
        for fields in ({"tools": TOOLS, "tool_choice": "none"}, {}):
            answer = self.ask(QUESTION, **fields).choices[0]
            self.assertIsNone(answer.message.tool_calls)
            self.assertIn(answer.finish_reason, ("stop", "length"))
            self.assertTrue(answer.message.content.strip())
            self.assertEqual(self.stream(QUESTION, **fields).tool_calls, [])

    def test_a_call_where_one_is_demanded(self):
        self.call("Good morning! Nice to meet you.", "get_weather", tool_choice={"type": "function", "function": {"name": "get_weather"}})
        self.call("Tell me a joke.", "calculate", tool_choice={"type": "function", "function": {"name": "calculate"}})
        choice = self.ask("Good morning!", tools=TOOLS, tool_choice="required").choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertIn(choice.message.tool_calls[0].function.name, ("get_weather", "calculate"))
        json.loads(choice.message.tool_calls[0].function.arguments)

    def test_a_demanded_call_is_a_call_also_by_chance(self):
        for seed in range(3):
            choice = self.ask(
                "Good morning!", tools=TOOLS, tool_choice="required", temperature=1.5, seed=seed, max_tokens=150
            ).choices[0]
            if choice.finish_reason != "length":
                self.assertEqual(choice.finish_reason, "tool_calls")
                self.assertIsInstance(json.loads(choice.message.tool_calls[0].function.arguments), dict)

    def test_a_chat_beside_tools_is_no_call(self):
        choice = self.ask("Thank you!", tools=TOOLS).choices[0]
        self.assertIsNone(choice.message.tool_calls)
        self.assertEqual(choice.finish_reason, "stop")
        self.assertIn("welcome", choice.message.content.lower())

    def test_json_in_an_answer_is_no_call(self):
        """JSON that a person asked for stays text, also where tools are offered."""
        prompt = 'Repeat exactly this JSON and nothing else: {"boat": "Heron", "colour": "blue"}'
        whole = self.ask(prompt, tools=TOOLS).choices[0]
        self.assertIsNone(whole.message.tool_calls)
        self.assertIn('"Heron"', whole.message.content)
        self.assertEqual(self.stream(prompt, tools=TOOLS).text, whole.message.content)

    def test_a_result_is_used(self):
        for content in (None, "", "Let me look."):
            messages = [
                {"role": "user", "content": QUESTION},
                {
                    "role": "assistant",
                    "content": content,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": RESULT},
            ]
            with self.subTest(content=content):
                choice = self.ask(messages, tools=TOOLS, max_tokens=24).choices[0]
                self.assertIn("17", choice.message.content or "", choice)

    def test_the_own_call_and_its_result_in_a_round(self):
        """The answer's message goes back as it came, which is what programs do."""
        messages = [{"role": "user", "content": QUESTION}]
        message = self.ask(messages, tools=TOOLS).choices[0].message
        messages += [
            message.to_dict(),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": RESULT},
        ]
        answer = self.ask(messages, tools=TOOLS)
        self.assertIn("17", answer.choices[0].message.content or "", answer.choices[0])
        # The call was the model's own text: it comes from the cache.
        self.assertGreater(answer.usage.prompt_tokens_details.cached_tokens, 100)

    def test_text_before_a_call(self):
        """Whatever the model says before a call is content, in both forms of the answer."""
        # A small model does this only after an example.
        example = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
        prompt = [
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"role": "assistant", "content": "Let me look that up.", "tool_calls": [example]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain, 9 degrees"},
            {"role": "assistant", "content": "It rains in Oslo, at 9 degrees."},
            {"role": "user", "content": "What is the weather in Rome?"},
        ]
        choice = self.ask(prompt, tools=TOOLS, max_tokens=64).choices[0]
        streamed = self.stream(prompt, tools=TOOLS, max_tokens=64)
        self.assertIn("Let me look", choice.message.content or "", choice)
        self.assertEqual(streamed.text, choice.message.content)
        self.assertEqual(choice.finish_reason, "tool_calls", choice)
        self.assertIn("Rome", json.loads(choice.message.tool_calls[0].function.arguments)["city"])
        self.assertEqual(streamed.tool_calls[0]["arguments"], choice.message.tool_calls[0].function.arguments)


if __name__ == "__main__":
    unittest.main()
