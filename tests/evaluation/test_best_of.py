"""One of several samples: by majority, by a score, with what it cost; and what each number of samples is worth."""

import json
import random
import shutil

import pytest

from ftkit.cli import dispatch
from ftkit.commands.bench import table
from ftkit.config.errors import UserError
from ftkit.evaluation import best_of
from ftkit.evaluation.bench.bench import Chosen, run_benchmark
from ftkit.evaluation.bench.report import curve_chart, write_bench_report
from ftkit.evaluation.bench.sampled import Samples
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.evaluation.bench.units import Subject
from ftkit.evaluation.best_of import Chooser, load_scorer
from ftkit.evaluation.results import Results, read_results
from ftkit.inference import judging, reward_model
from ftkit.inference.completion import Reply
from ftkit.inference.endpoint import Endpoint

ASK = [{"role": "user", "content": "2 + 2?"}]


@pytest.mark.parametrize(
    ("answers", "vote_on", "place", "weights"),
    [
        (["5", "4", "4."], "text", 1, [1, 2, 2]),
        (["It is 5.", "2 + 2 = 4", "So 4.0"], "number", 1, [1, 2, 2]),
        (["a", "b", "b", "a"], "text", 0, [2, 2, 2, 2]),  # as many votes: what was said first
        (["", "", "4"], "text", 2, [0, 0, 1]),  # who says nothing has no vote
        (["<think>5</think>4", "5", "<think>never ends", "<think>x</think>\n4"], "text", 0, [2, 1, 0, 2]),
        (["", ""], "text", 0, [0, 0]),
    ],
)
def test_a_majority_of_what_the_samples_say(answers, vote_on, place, weights):
    (choice,) = Chooser("majority", vote_on=vote_on).choose([ASK], [answers])
    assert (choice.place, choice.weights, choice.num_tokens) == (place, weights, 0)


def test_the_best_by_a_reward_model_with_its_cost(monkeypatch):
    seen = []

    class Model:
        """Longer is better; a token is a letter of the answer."""

        def token_ids(self, conversations):
            seen.extend(conversations)
            return [list(range(len(turns[-1]["content"]))) for turns in conversations]

        def scores_of_ids(self, ids):
            return [float(len(one)) for one in ids]

    monkeypatch.setattr(reward_model, "load_reward_model", lambda folder: Model())
    chooser = Chooser("best", load_scorer("runs/reward"))
    (choice,) = chooser.choose([ASK], [["<think>long thoughts</think>ab", "abcd", "", "abcd"]])
    assert (choice.place, choice.weights, choice.num_tokens) == (
        1,
        [2.0, 4.0, None, 4.0],
        6,
    )  # equal ones are read once
    assert seen == [[*ASK, {"role": "assistant", "content": text}] for text in ("ab", "abcd")]
    assert chooser.choose([ASK], [["", ""]])[0].place == 0


def test_the_best_by_a_judge_and_a_judge_without_scores(monkeypatch):
    def asked(replies):
        monkeypatch.setattr(judging, "ask_all", lambda endpoint, conversations: enumerate(replies))
        return Chooser("best", load_scorer(judge="m@http://127.0.0.1:1/v1")).choose([ASK], [["4", "5"]])

    (choice,) = asked([Reply("20", input_tokens=7, output_tokens=1), Reply("90", input_tokens=7, output_tokens=1)])
    assert (choice.place, choice.weights, choice.num_tokens) == (1, [0.2, 0.9], 16)
    assert asked([Reply("none"), Reply("1")])[0].weights == [None, 0.01]
    with pytest.raises(UserError, match="the judge gave none of the samples a score"):
        asked([Reply("no"), Reply(failure="gone")])
    with pytest.raises(UserError, match="--judge m: write MODEL@URL, such as llama3.2@http"):
        load_scorer(judge="m")


def test_a_judge_in_a_folder_is_loaded_once_and_asked_greedily(monkeypatch, tiny_folder, tmp_path):
    from transformers import AutoTokenizer

    from ftkit.data.templates.templates import read_template
    from ftkit.inference.engine import Engine

    loaded, load, replies, asked = [], Engine.load, Engine.replies, []

    def load_and_count(*args, **kwargs):
        loaded.append(args)
        return load(*args, **kwargs)

    def scored(self, prompts_ids, sampling, *args, **kwargs):
        assert len(replies(self, prompts_ids, sampling, *args, **kwargs)) == len(prompts_ids)  # it is asked for real
        assert (sampling.temperature, sampling.max_new_tokens) == (0.0, 16)
        asked.extend(prompts_ids)
        return [Reply(str(40 + 10 * place), input_tokens=5, output_tokens=1) for place in range(len(prompts_ids))]

    folder = shutil.copytree(tiny_folder, tmp_path / "judge")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = read_template("plain")
    tokenizer.save_pretrained(folder)
    monkeypatch.setattr(Engine, "load", load_and_count)
    monkeypatch.setattr(Engine, "replies", scored)
    scorer = load_scorer(judge=str(folder))
    assert not loaded
    assert scorer([ASK, ASK], ["4", "5"]) == ([0.4, 0.5], 12)
    assert scorer([ASK, ASK], ["4 " * 600, "5"]) == ([None, 0.4], 6)  # the first is longer than the context
    assert len(loaded) == 1 and len(asked) == 3


TASK = Task("sums", 1, "generation", "sums", ["exact_match"], stop=["\n"], max_new_tokens=9)
ITEMS = [TaskItem(f"id{n}", [f"{n}"], target=str(n % 3)) for n in range(12)]


class Server(Endpoint):
    """Answers right, or one too many, by the seed; two tokens each."""

    def replies(self, conversations, seeds=None):
        self.kept.append((self.temperature, self.max_tokens, self.stop, list(seeds or [])))
        return [
            self.reply(turns, seed)
            for turns, seed in zip(conversations, seeds or [0] * len(conversations), strict=True)
        ]

    def reply(self, turns, seed):
        answer = int(turns[-1]["content"]) % 3 + (random.Random(f"{seed}{turns}").random() < 0.4)
        return Reply(f"{self.thinks}{answer}\nmore", input_tokens=5, output_tokens=2)

    kept, thinks = [], ""


@pytest.fixture
def server():
    Server.kept, Server.thinks = [], ""
    return Server("http://127.0.0.1:1/v1", "m", concurrency=3)


def measured(server, folder, **given):
    samples = Samples(4, 0.7, **given)
    subject = Subject(endpoint=server, samples=samples)
    return run_benchmark(subject, [Chosen("sums", TASK, ITEMS, 0)], Results({"name": "m"}, {}), folder)


def test_samples_are_scored_by_the_majority_and_their_curve(server, tmp_path):
    results = measured(server, tmp_path, chooser=Chooser("majority"), seed=1)
    task = results.tasks["sums"]
    curve = task.samples
    assert curve.sizes == [1, 2, 4] and set(curve.ways) == {"any", "majority"}
    assert curve.tokens == [2, 4, 8]
    items = [json.loads(line) for line in (tmp_path / "items/sums.jsonl").read_text().splitlines()]
    scores = [item["extra"]["samples"]["scores"] for item in items]
    assert all(len(one) == 4 for one in scores) and 0 < sum(map(sum, scores)) < 48
    assert curve.ways["any"][0].value == curve.ways["majority"][0].value == pytest.approx(sum(map(sum, scores)) / 48)
    assert curve.ways["any"][2].value == pytest.approx(sum(any(one) for one in scores) / 12)
    assert curve.ways["any"][0].low < curve.ways["any"][0].value < curve.ways["any"][0].high
    assert task.scores["exact_match"].value == sum(item["scores"]["exact_match"] for item in items) / 12
    assert len({seed for *_, seeds in server.kept for seed in seeds}) == 48  # no two samples of one seed
    assert {entry[:3] for entry in server.kept if entry[3]} == {(0.7, 9, ("\n",))}
    lines = table(results).split("\n")
    assert lines[1:3] == ["sums: exact match of one in so many samples", lines[2]]
    assert lines[2].split("  ")[0] == "samples" and "what most say" in lines[2] and len(lines) == 6
    assert read_results(tmp_path / "results.json").tasks["sums"] == task
    page = write_bench_report(tmp_path / "results.json").read_text()
    assert "tokens per item" in page and "what most say, 4 samples" in page
    assert "| samples | the best of them | what most say | tokens per item |" in (tmp_path / "report.md").read_text()
    assert [line.name for line in curve_chart(task).lines] == ["the best of them", "what most say"]


def test_without_a_choice_the_scores_are_the_mean_of_all_samples(server, tmp_path):
    task = measured(server, tmp_path).tasks["sums"]
    assert task.scores["exact_match"].value == pytest.approx(task.samples.ways["any"][0].value)


def test_the_best_of_samples_has_a_curve_of_its_own(server, tmp_path):
    def scorer(conversations, answers):
        return [-float(text) for text in answers], 10 * len(answers)  # the smaller number, which is the right one

    task = measured(server, tmp_path, chooser=Chooser("best", scorer)).tasks["sums"]
    best, any_right = task.samples.ways["best"], task.samples.ways["any"]
    assert [one.value for one in best] == pytest.approx([one.value for one in any_right])
    assert task.scores["exact_match"].value == best[-1].value
    assert task.samples.tokens[0] > 2  # what the scorer read is counted


def test_no_stop_text_is_sent_to_a_model_that_thinks(server, tmp_path):
    Server.thinks = "<think>hm\nhm</think>\n"
    task = measured(server, tmp_path, chooser=Chooser("majority")).tasks["sums"]
    assert {entry[2] for entry in server.kept} == {()}
    assert task.num_thoughts == 12 and task.samples.ways["any"][2].value > 0.5


def test_a_run_that_was_killed_goes_on_with_the_same_samples(server, tmp_path):
    whole = measured(server, tmp_path / "whole", chooser=Chooser("majority"))
    (tmp_path / "killed/items").mkdir(parents=True)
    shutil.copy(tmp_path / "whole/bench.json", tmp_path / "killed")
    lines = (tmp_path / "whole/items/sums.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed/items/sums.part0.jsonl").write_text("".join(lines[:3]))
    server.kept.clear()
    assert measured(server, tmp_path / "killed", chooser=Chooser("majority")) == whole
    assert (tmp_path / "killed/items/sums.jsonl").read_text() == "".join(lines)
    assert sum(len(seeds) for *_, seeds in server.kept) == 4 * 9


def test_a_task_that_is_no_text_to_answer_is_refused(server, tmp_path):
    choice = Task("pick", 1, "multiple_choice", "", ["acc"])
    with pytest.raises(UserError, match="task pick is no text to answer, and --num_samples is about answers"):
        run_benchmark(
            Subject(endpoint=server, samples=Samples(4, 0.7)),
            [Chosen("pick", choice, ITEMS, 0)],
            Results({}, {}),
            tmp_path,
        )


REFUSED = [
    (["--choose", "majority"], "--choose needs samples to choose from; add --num_samples 8"),
    (
        ["--num_samples", "4", "--choose", "best"],
        "--choose best needs one that scores: --reward_model FOLDER, or --judge",
    ),
    (
        ["--num_samples", "4", "--choose", "majority", "--judge", "m@http://x"],
        "--judge has no effect without --choose best",
    ),
    (["--num_samples", "4", "--reward_model", "r"], "--reward_model has no effect without --choose best"),
    (["--num_samples", "4", "--temperature", "0"], "samples at temperature 0 are all equal; give --temperature 0.7"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED)
@pytest.mark.parametrize("command", ["bench", "generate"])
def test_flags_without_effect_are_refused_before_anything_is_loaded(command, flags, message, tmp_path):
    asked = {
        "bench": ["--tasks", "reasoning", "--output_dir", str(tmp_path / "out")],
        "generate": ["--prompt", "2 + 2?", "--temperature", "0.7"],
    }[command]
    with pytest.raises(UserError) as error:
        dispatch([command, "--model_name_or_path", "base", *asked, *flags])
    assert str(error.value).startswith(message)


def test_generate_keeps_one_and_writes_all(tiny_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(best_of, "load_scorer", lambda *given: lambda turns, texts: ([len(text) for text in texts], 3))
    tokens = ["generate", "--model_name_or_path", str(tiny_folder), "--template", "alpaca", "--prompt", "balm"]
    sampling = ["--num_samples", "3", "--temperature", "1.0", "--max_new_tokens", "4", "--choose", "best"]
    path = tmp_path / "answers.jsonl"
    dispatch([*tokens, *sampling, "--reward_model", "r", "--output_file", str(path)])
    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(row["samples"]) == len(row["weights"]) == 3 and len(row["answers"]) == 1
    assert len(row["answers"][0]) == max(map(len, row["samples"]))
    assert "cost: 3 samples per prompt, " in (error := capsys.readouterr().err) and " 3 to choose; one sample" in error
    dispatch([*tokens, *sampling[:-1], "majority"])
    assert len(capsys.readouterr().out.strip().split("\n---\n")) == 1
