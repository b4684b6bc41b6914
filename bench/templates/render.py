"""What Jinja2, set up as transformers sets it up, makes of every template of a folder, for the example `templates` of remat-data.

    python bench/templates/render.py FOLDER > cases.jsonl

Needs the package `jinja2` alone. One JSON object a line: the template, its source, the conversation, the special tokens,
and the text with what `{% generation %}` marked in it, or the error. Invariant: the day is 26 July 2024.
"""

import datetime
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

sys.path.insert(0, str(Path(__file__).resolve().parent))
from conversations import CONVERSATIONS

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


class Tracker(jinja2.ext.Extension):
    """`{% generation %}` as a call block that notes where its text stands in what was yielded so far."""

    tags = {"generation"}

    def __init__(self, environment):
        super().__init__(environment)
        environment.extend(track=self.track)
        self.blocks = self.indices = None

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _note(self, context, caller):
        text = caller()
        if self.blocks is not None:
            start = len("".join(self.blocks))
            self.indices.append((start, start + len(text)))
        return text

    @contextmanager
    def track(self, blocks, indices):
        self.blocks, self.indices = blocks, indices
        try:
            yield
        finally:
            self.blocks = self.indices = None


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime(2024, 7, 26).strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Tracker, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def prepared(messages):
    """Messages as transformers hands them on: without nulls, reasoning under the names that templates use."""
    reasoning_keys = ["reasoning_content", "thinking", "reasoning"]
    out = []
    for message in messages:
        kept = {key: value for key, value in message.items() if value is not None}
        reasoning = next((kept[key] for key in reasoning_keys if key in kept), None)
        if reasoning is not None:
            had_thinking = "thinking" in kept
            kept.pop("reasoning_content", None)
            if not had_thinking:
                kept = {"thinking": reasoning, **kept}
            kept["reasoning_content"] = reasoning
        out.append(kept)
    return out


def render(env, template, conversation, add_generation_prompt):
    variables = {
        "messages": prepared(conversation["messages"]),
        "tools": conversation.get("tools") or None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **SPECIAL,
        **conversation.get("kwargs", {}),
    }
    blocks, marks = [], []
    try:
        with env.track(blocks, marks):
            for block in template.generate(**variables):
                blocks.append(block)
        return {"text": "".join(blocks), "marks": marks}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_bytes().decode("utf-8")
        env = environment()
        try:
            template = env.from_string(source)
        except Exception as error:
            print(json.dumps({"template": path.stem, "source": source, "broken": str(error)}))
            continue
        for conversation in CONVERSATIONS:
            for prompt in (False, True):
                case = {"template": path.stem, "source": source, "conversation": conversation, "prompt": prompt}
                case["special"] = SPECIAL
                print(json.dumps({**case, **render(env, template, conversation, prompt)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
