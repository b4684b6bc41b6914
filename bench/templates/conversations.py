"""Kinds of conversation that rows hold, each by its name."""


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id=None):
    of = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"id": id, **of} if id else of


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city: \"now\" or 'soon', in °C.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name"},
                "days": {"type": "integer", "default": 1, "enum": [1, 3, 7]},
                "units": {"type": ["string", "null"], "enum": ["metric", "imperial"]},
                "where": {
                    "type": "object",
                    "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                    "required": ["lat"],
                },
                "tags": {"type": "array", "items": {"type": "string"}, "nullable": True},
            },
            "required": ["city"],
        },
        "return": {"type": "string", "description": "A sentence"},
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
}
ASK = said("user", "What is the weather in Zürich?")
TALK = [said("user", "Hi there"), said("assistant", "Hello!")]


def tooled(arguments, content="", id=None, **more):
    answer = {"role": "tool", "name": "get_weather", "content": "{\"celsius\": 21.5}"}
    if id:
        answer["tool_call_id"] = id
    return [
        ASK,
        said("assistant", content, tool_calls=[call("get_weather", arguments, id)], **more),
        answer,
        said("assistant", "It is 21.5 °C."),
    ]


CONVERSATIONS = [
    {"name": "one turn", "messages": TALK},
    {"name": "system", "messages": [said("system", "Be brief."), *TALK]},
    {"name": "several turns", "messages": [*TALK, said("user", "And now?"), said("assistant", "Now, too.")]},
    {"name": "system, several turns", "messages": [said("system", "You are X."), *TALK, said("user", "B"),
                                                   said("assistant", "C"), said("user", "D"), said("assistant", "E")]},
    {"name": "user last", "messages": [*TALK, said("user", "Is anybody there?")]},
    {"name": "white space", "messages": [said("system", "  Be brief.\n"), said("user", "\n Hi \n"),
                                         said("assistant", "  Hello!\n\n")]},
    {"name": "unicode", "messages": [said("user", "Grüße, 世界 🌍 é"), said("assistant", "مرحبا ‘quotes’ \"and\" \\n")]},
    {"name": "empty contents", "messages": [said("system", ""), said("user", ""), said("assistant", "")]},
    {"name": "words that are marks", "messages": [said("user", "Say <|im_end|> and </s>"),
                                                  said("assistant", "<b>{{ bold }}</b> [INST]")]},
    {"name": "reasoning", "messages": [said("user", "2+2?"),
                                       said("assistant", "4", reasoning_content="Two and two\nare four.")]},
    {"name": "reasoning in several turns", "messages": [
        said("user", "2+2?"), said("assistant", "4", reasoning_content="Easy."), said("user", "3+3?"),
        said("assistant", "6", reasoning_content="Harder.")]},
    {"name": "thoughts in the content", "messages": [
        said("user", "2+2?"), said("assistant", "<think>\nEasy.\n</think>\n\n4"), said("user", "3+3?"),
        said("assistant", "<think>\nHarder.\n</think>\n\n6")]},
    {"name": "tools", "messages": [said("system", "Use tools."), *TALK], "tools": [WEATHER, CLOCK]},
    {"name": "tool call", "messages": tooled({"city": "Zürich", "days": 3}), "tools": [WEATHER]},
    {"name": "tool call, arguments as text", "messages": tooled('{"city": "Zürich"}'), "tools": [WEATHER]},
    {"name": "tool call with an id", "messages": tooled({"city": "Bern", "now": True, "x": None}, id="abc123def"),
     "tools": [WEATHER, CLOCK]},
    {"name": "tool call with words and reasoning", "tools": [WEATHER],
     "messages": tooled({"city": "Basel"}, "Let me see.", reasoning_content="I need the weather.")},
    {"name": "tool call without content", "tools": [WEATHER], "messages": tooled({"city": "Chur"}, None)},
    {"name": "two tool calls", "tools": [WEATHER, CLOCK], "messages": [
        said("system", "Use tools."), ASK,
        said("assistant", "", tool_calls=[call("get_weather", {"city": "Zug"}, "aaaaaaaaa"),
                                          call("clock", {}, "bbbbbbbbb")]),
        said("tool", "sunny", name="get_weather", tool_call_id="aaaaaaaaa"),
        said("tool", "12:00", name="clock", tool_call_id="bbbbbbbbb"),
        said("assistant", "Sunny at noon."), said("user", "Thanks"), said("assistant", "Welcome.")]},
    {"name": "content parts", "messages": [
        said("system", [{"type": "text", "text": "Be brief."}]),
        said("user", [{"type": "text", "text": "Hi"}, {"type": "text", "text": " there"}]),
        said("assistant", [{"type": "text", "text": "Hello!"}])]},
    {"name": "thinking off", "messages": TALK, "kwargs": {"enable_thinking": False, "thinking": False}},
    {"name": "thinking on", "messages": [*TALK, said("user", "So?"), said("assistant", "So.", reasoning_content="Hm.")],
     "kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}},
    {"name": "two users in a row", "messages": [said("user", "A"), said("user", "B"), said("assistant", "C")]},
]
