"""Modelfiles read as Ollama reads them: commands and their values, and the template's language."""

import json
import re


def read_modelfile(text: str) -> dict[str, list[str]]:
    """Values by command, triple or single quotes taken off, as ollama's parser/parser.go does: no escapes."""
    found: dict[str, list[str]] = {}
    command = re.compile(r'#[^\n]*\n|([A-Z]+(?: stop)?) (?:"""(.*?)"""|"([^\n]*?)"|([^\n]*))\n', re.DOTALL)
    position = 0
    while position < len(text):
        match = command.match(text, position)
        assert match, text[position:]
        position = match.end()
        if match[1]:
            found.setdefault(match[1], []).append(next(group for group in match.groups()[1:] if group is not None))
    return found


class GoTemplate:
    """An interpreter of the part of Go's text/template that Modelfiles of ours use; anything else is a KeyError."""

    FUNCTIONS = {
        "eq": lambda a, b: a == b,
        "ne": lambda a, b: a != b,
        "and": lambda a, b: a and b,
        "not": lambda a: not a,
        "len": len,
        "slice": lambda items, start: items[start:],
    }

    def __init__(self, text: str):
        self.parts = re.split(r"\{\{\s*((?:\"(?:\\.|[^\"])*\"|[^}\"]|\}(?!\}))*?)\s*\}\}", text)

    def render(self, messages: list[dict]) -> str:
        self.root, self.output = {"Messages": messages}, []
        end, _ = self._run(0, self.root, {}, True)
        assert end == len(self.parts)
        return "".join(self.output)

    def _run(self, place: int, dot: dict, variables: dict, is_live: bool) -> tuple[int, str]:
        """Run from a part until the block ends; return where, and the statement that ended it."""
        while place < len(self.parts):
            part, is_code = self.parts[place], place % 2
            place += 1
            if not is_code:
                self.output.append(part if is_live else "")
            elif part == "end" or part.startswith("else"):
                return place, part
            elif part.startswith("if "):
                place = self._if(place, part, dot, variables, is_live)
            elif part.startswith("range "):
                place = self._range(place, part, variables, is_live)
            elif ":=" in part:
                name, expression = part.split(" := ")
                variables[name] = self._value(expression, dot, variables) if is_live else None
            elif is_live:
                self.output.append(str(self._value(part, dot, variables)))
        return place, ""

    def _if(self, place: int, part: str, dot: dict, variables: dict, is_live: bool) -> int:
        is_open = is_live
        while True:
            expression = part.removeprefix("else ").removeprefix("if ")
            chosen = is_open and (part == "else" or bool(self._value(expression, dot, variables)))
            is_open = is_open and not chosen
            place, part = self._run(place, dot, variables, chosen)
            if part == "end":
                return place

    def _range(self, place: int, part: str, variables: dict, is_live: bool) -> int:
        index_name = re.fullmatch(r"range (\$\w+), \$_ := \.Messages", part)[1]
        messages = self.root["Messages"] if is_live else []
        for index, message in enumerate(messages):
            dot = {"Role": message["role"], "Content": message["content"]}
            end, _ = self._run(place, dot, {**variables, index_name: index}, True)
        return end if messages else self._run(place, {}, variables, False)[0]

    def _value(self, expression: str, dot: dict, variables: dict):
        words = re.findall(r'"(?:\\.|[^"])*"|[()]|[^\s()]+', expression)
        value, rest = self._call(words, dot, variables)
        assert not rest
        return value

    def _call(self, words: list[str], dot: dict, variables: dict):
        if words[0] not in self.FUNCTIONS:
            return self._operand(words, dot, variables)
        function, words, arguments = self.FUNCTIONS[words[0]], words[1:], []
        while words and words[0] != ")":
            value, words = self._operand(words, dot, variables)
            arguments.append(value)
        return function(*arguments), words

    def _operand(self, words: list[str], dot: dict, variables: dict):
        word, rest = words[0], words[1:]
        if word == "(":
            value, rest = self._call(rest, dot, variables)
            return value, rest[1:]
        if word.startswith('"'):
            return json.loads(re.sub(r"\\U0000(....)", r"\\u\1", word)), rest
        if word == "$.Messages":
            return self.root["Messages"], rest
        if word.startswith("$"):
            return variables[word], rest
        return (dot[word[1:]] if word.startswith(".") else int(word)), rest
