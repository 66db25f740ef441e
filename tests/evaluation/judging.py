"""What the tests of the judge share: answers, a judge that is a function, files of answers, and a command."""

import json

from ftkit.evaluation.judge.judge import judge as judge_all
from ftkit.inference.completion import Reply
from ftkit.inference.judging import Answered


def rows(*answers: str) -> list[Answered]:
    return [Answered(f"question {number}", answer) for number, answer in enumerate(answers)]


def asking(reply):
    """An `ask` that answers by a function of the request's text, and keeps the requests in `asking.asked`."""

    def ask(questions):
        for index, question in enumerate(questions):
            ask.asked.append(question)
            found = reply(question.prompt)
            yield index, found if isinstance(found, Reply) else Reply(found)

    ask.asked = []
    return ask


def judge(questions, ask, path) -> list:
    return judge_all(questions, ask, path).judgements


def write_answers(path, answers: list[str], key: str = "prediction") -> str:
    return write_rows(path, [{"prompt": f"question {n}", key: answer} for n, answer in enumerate(answers)])


def write_rows(path, rows: list[dict]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def judge_on_nothing(tmp_path) -> list[str]:
    """A command that asks a server that is not there."""
    answers = write_answers(tmp_path / "mine.jsonl", ["x"])
    return [answers, "--endpoint", "http://127.0.0.1:9/v1", "--model_name_or_path", "m", "--num_retries", "0"]
