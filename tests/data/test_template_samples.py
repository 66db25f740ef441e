"""templates/README.md shows what the templates render now."""

import re

import pytest

from ftkit.config.assets import asset_root, list_assets
from ftkit.data.rows.tools import with_tools
from ftkit.data.templates.templates import install_template, prepare_messages, render_training
from ftkit.data.tokens.receipt_text import TRAINED_MARKS

WITH_INPUT = "Name the odd one out.\n\n### Input:\ncrow, cod, robin"
SAMPLES = {
    "One turn": [("user", "Name a bird."), ("assistant", "Crow.")],
    "With an input": [("user", WITH_INPUT), ("assistant", "Cod.")],
    "Several turns and a system turn": [
        ("system", "Answer in one word."),
        ("user", "Name a bird."),
        ("assistant", "Crow."),
        ("user", "And a fish?"),
        ("assistant", "Cod."),
    ],
    "With a thought": [("user", "Is a cod a bird?"), ("assistant", "<think>It has gills.</think>No.")],
    "With a tool": [
        ("user", "How heavy is a cod?"),
        ("assistant", '<tool_call>{"name": "weigh", "arguments": {"fish": "cod"}}</tool_call>'),
        ("tool", "12 kg"),
        ("assistant", "12 kg."),
    ],
}
WEIGH = {"name": "weigh", "parameters": {"type": "object", "properties": {"fish": {"type": "string"}}}}
TITLES = {  # samples with a thought and a tool stand where the template has a place for them
    (name, title)
    for name in list_assets("templates")
    for title in SAMPLES
    if title not in ("With a thought", "With a tool") or name in ("chatml", "llama3")
}


def rendered_sample(tokenizer, name, title):
    """The sample as the README shows it: rendered for a tokenizer with the family's tokens, answers marked."""
    tokenizer.add_tokens(["\n\n"])  # so that Llama 3's empty line stays one
    info = install_template(tokenizer, name, add_tokens=True)
    messages = [{"role": role, "content": content} for role, content in SAMPLES[title]]
    if title == "With a tool":
        messages = with_tools(messages, [{"type": "function", "function": WEIGH}])
    messages, _ = prepare_messages(messages, tokenizer, info)
    text, spans = render_training(messages, tokenizer, info)
    for start, end in reversed(spans):
        text = text[:start] + TRAINED_MARKS[0] + text[start:end] + TRAINED_MARKS[1] + text[end:]
    return text


def readme_samples():
    """{(template, title): sample} of the README."""
    text = (asset_root("templates") / "README.md").read_text(encoding="utf-8")
    found = {}
    for name, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        for title, sample in re.findall(r"^\*\*(.+?)\*\*\n\n```text\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL):
            found[name, title] = sample
    return found


def test_every_template_is_shown_in_every_sample():
    assert set(readme_samples()) == TITLES


@pytest.mark.parametrize(("name", "title"), sorted(TITLES))
def test_the_readme_shows_what_is_rendered(bpe, name, title):
    assert readme_samples()[name, title] == rendered_sample(bpe, name, title)
