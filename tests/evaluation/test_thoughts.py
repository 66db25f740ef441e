"""What an answer thinks first is not scored, and is counted."""

from types import SimpleNamespace

from ftkit.evaluation.bench.report import notes
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.evaluation.bench.task_rows import conversation_columns
from ftkit.evaluation.bench.units import GenerationRun, Subject, cut_at_stop
from ftkit.evaluation.held_out.before_after import questions
from ftkit.evaluation.judge.answer_files import read_answers
from ftkit.evaluation.results import mean_score, task_of, thoughts_text

REPLIES = [
    "<think>7\n\nno, 4</think>\n4\n\nNext?",
    "4",
    "<think>2 and 2\n\nis",
    "Hm.</think>5",
    "<think>a</think>\n\n4",
]
TASK = Task("sums", 1, "generation", "sums", ["exact_match"], stop=["\n\n"])


class Server:
    """An endpoint that keeps to `stop`."""

    concurrency = 4

    def __init__(self, replies):
        self.replies = dict(enumerate(replies))
        self.asked = []

    def answers(self, conversations, max_new_tokens, stop):
        places = [int(turns[-1]["content"]) for turns in conversations]
        self.asked.append((places, list(stop)))
        return [cut_at_stop(self.replies[place], stop) for place in places]


def test_thoughts_are_not_scored_and_no_stop_text_ends_them():
    server = Server(REPLIES)
    run = GenerationRun(TASK, [TaskItem(f"id{n}", [str(n)], target="4") for n in range(5)], Subject(endpoint=server))
    items = [item for unit in run.units for item in run.run(unit)]
    assert [(item.prediction, item.scores["exact_match"]) for item in items] == [
        ("4", 1),
        ("4", 1),
        ("", 0),
        ("5", 0),
        ("4", 1),
    ]
    thoughts = [item.extra.get("reasoning_content") for item in items]
    assert thoughts == ["7\n\nno, 4", None, "2 and 2\n\nis", "Hm.", "a"]
    assert server.asked == [([0, 1, 2, 3], ["\n\n"]), ([0, 2], []), ([4], ["\n\n"]), ([4], [])]
    task = task_of("sums", items, {"exact_match": mean_score([item.scores["exact_match"] for item in items])})
    text = "4 of 5 answers think first, and the thoughts are not scored; without an answer after it: 1"
    assert (thoughts_text(task), notes(task)) == (text, [text])


ROW = {
    "messages": [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "<think>easy</think>2"},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4", "reasoning_content": "Two and two."},
    ],
    "source": "f:1",
}


def test_held_out_answers_and_examples_are_wanted_without_thoughts():
    (item,) = questions([ROW["messages"]])
    assert (item.target, [example.answer for example in item.examples]) == ("4", ["2"])
    columns = conversation_columns({}, ROW)
    assert (columns["output"], columns["earlier"][-1]) == ("4", {"role": "assistant", "content": "2"})


def test_a_judge_sees_answers_without_thoughts(tmp_path, caplog):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "2 + 2?", "answer": "<think>hm</think>4", "reference": "<think>so</think>4"}\n')
    (answered,) = read_answers([str(path)])["mine"]
    assert (answered.answer, answered.reference) == ("4", "4")
    assert "1 answer thinks first; thoughts are not judged" in caplog.text


def test_a_whole_answer_has_no_note():
    item = SimpleNamespace(item_id="a", scores={"exact_match": 1.0}, extra={}, prediction="4")
    assert thoughts_text(task_of("sums", [item], {"exact_match": mean_score([1.0])})) == ""
