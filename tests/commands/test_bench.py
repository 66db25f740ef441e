"""`ftkit bench`: results that are the same after a kill and in two processes, and mistakes in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ftkit.commands import bench
from ftkit.config.errors import UserError
from ftkit.evaluation.results import read_items, read_results

ROOT = Path(__file__).resolve().parents[2]
TASK = """version: 1
about: "{about}"
kind: {kind}
metrics: [{metrics}]
data: rows.jsonl
prompt: "Write {{{{ input }}}} in upper case:"
{rest}
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory, word_rows):
    """Three task files beside their rows: by likelihood, by generation, and perplexity."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {
            "input": row["input"] * (1 + number % 3),
            "choices": [row["output"], word_rows[number - 7]["output"]],
            "answer": 0,
        }
        for number, row in enumerate(word_rows)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    forms = {
        "choose": ("multiple_choice", "acc_norm, acc", 'choices: "choices"\nanswer: "{{ answer }}"'),
        "write": (
            "generation",
            "exact_match, bleu, rouge1",
            'target: "{{ choices[0] }}"\nmax_new_tokens: 4\ntemplate: true',
        ),
        "read": ("perplexity", "bits_per_byte, perplexity", ""),
    }
    for name, (kind, metrics, rest) in forms.items():
        text = TASK.format(about=name, kind=kind, metrics=metrics, rest=rest)
        (folder / f"{name}.yaml").write_text(text)
    return folder


def argv(tiny_folder, tasks, out, *extra, names=("choose", "write", "read")) -> list[str]:
    files = ",".join(str(tasks / f"{name}.yaml") for name in names)
    return [
        "--model_name_or_path", str(tiny_folder), "--tasks", files, "--output_dir", str(out), "--dtype", "float32",
        "--max_batch_tokens", "64", "--batch_size", "8", *extra,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tiny_folder, tasks, tmp_path_factory):
    """One undisturbed run."""
    out = tmp_path_factory.mktemp("bench") / "out"
    bench.main(argv(tiny_folder, tasks, out))
    return out


def test_results_hold_what_was_asked(finished):
    results = read_results(finished / "results.json")
    assert list(results.tasks) == ["choose", "write", "read"]
    assert results.model["dtype"] == "float32" and len(results.model["weights_hash"]) == 64
    assert {"torch", "transformers", "ftkit"} <= set(results.versions) and results.seed == 0
    choose = results.tasks["choose"]
    items = read_items(finished / "results.json", choose)
    assert len(items) == choose.num_items == 64 and choose.main_metric == "acc_norm"
    assert choose.scores["acc"].value == pytest.approx(sum(item.scores["acc"] for item in items) / 64)
    assert choose.scores["acc"].low < choose.scores["acc"].value < choose.scores["acc"].high
    assert not results.tasks["read"].scores["bits_per_byte"].higher_is_better
    assert "choose" in (finished / "report.html").read_text()
    assert sorted(path.name for path in (finished / "items").iterdir()) == ["choose.jsonl", "read.jsonl", "write.jsonl"]


def test_weighted_items_give_the_scores_of_the_whole(finished):
    results = read_results(finished / "results.json")
    items = read_items(finished / "results.json", results.tasks["read"])
    total = sum(item.extra["log_likelihood"] for item in items)
    bits = -total / sum(item.extra["num_bytes"] for item in items) / 0.6931471805599453
    assert results.tasks["read"].scores["bits_per_byte"].value == pytest.approx(bits, rel=1e-12)
    mean = sum(item.scores["bits_per_byte"] * item.weight for item in items) / sum(item.weight for item in items)
    assert mean == pytest.approx(bits, rel=1e-12)


def test_a_finished_run_is_not_done_again(finished, tiny_folder, tasks, monkeypatch):
    before = (finished / "results.json").read_bytes()
    monkeypatch.setattr("ftkit.evaluation.bench.units.MultipleChoiceRun.run", None)
    bench.main(argv(tiny_folder, tasks, finished))
    assert (finished / "results.json").read_bytes() == before


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_run_that_stopped_after_some_units_gives_the_same_file(
    finished, tiny_folder, tasks, tmp_path, monkeypatch, kept
):
    from ftkit.evaluation.bench import units as bench_runs

    run, calls = bench_runs.MultipleChoiceRun.run, []

    def stop_after(self, unit):
        calls.append(unit)
        if len(calls) > kept:
            raise KeyboardInterrupt
        return run(self, unit)

    out = tmp_path / "out"
    monkeypatch.setattr(bench_runs.MultipleChoiceRun, "run", stop_after)
    with pytest.raises(KeyboardInterrupt):
        bench.main(argv(tiny_folder, tasks, out))
    part = out / "items/choose.part0.jsonl"
    if kept:
        part.write_bytes(part.read_bytes()[:-7])  # a line that was being written
    monkeypatch.setattr(bench_runs.MultipleChoiceRun, "run", run)
    bench.main(argv(tiny_folder, tasks, out))
    for name in ("results.json", "items/choose.jsonl", "items/write.jsonl", "items/read.jsonl"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.processes
def test_a_killed_run_finishes_the_rest_and_gives_the_same_file(finished, tiny_folder, tasks, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ftkit", "bench", *argv(tiny_folder, tasks, out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("items/*.jsonl")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "results.json").exists()
    bench.main(argv(tiny_folder, tasks, out))
    assert (out / "results.json").read_bytes() == (finished / "results.json").read_bytes()


@pytest.mark.processes
def test_two_processes_give_what_one_gives(finished, tiny_folder, tasks, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    out = tmp_path / "out"
    command = [*launcher, "-m", "ftkit", "bench", *argv(tiny_folder, tasks, out)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    one, two = read_results(finished / "results.json"), read_results(out / "results.json")
    for name, task in one.tasks.items():
        assert two.tasks[name].task_hash == task.task_hash
        for metric, score in task.scores.items():
            assert two.tasks[name].scores[metric].value == pytest.approx(score.value, abs=1e-6)
        items = [read_items(folder / "results.json", task) for folder in (finished, out)]
        assert [item.item_id for item in items[0]] == [item.item_id for item in items[1]]
        assert [item.prediction for item in items[0]] == [item.prediction for item in items[1]]


def test_an_endpoint_answers_generation_tasks_and_no_others(tasks, tiny_folder, tmp_path, monkeypatch):
    from ftkit.evaluation.bench.bench import World, choose, run_benchmark
    from ftkit.evaluation.bench.task_file import load_task
    from ftkit.evaluation.bench.task_items import ItemSettings
    from ftkit.evaluation.bench.units import Subject
    from ftkit.evaluation.results import Results

    class Upper:
        concurrency = 4

        def answers(self, conversations, max_new_tokens, stop):
            return [messages[-1]["content"].split()[1].upper() for messages in conversations]

    chosen = [choose("write", load_task(str(tasks / "write.yaml")), ItemSettings())]
    results = run_benchmark(Subject(endpoint=Upper()), chosen, Results({}, {}), tmp_path / "out", World())
    assert results.tasks["write"].scores["exact_match"].value == 22 / 64  # rows whose word is not repeated
    chosen = [choose("choose", load_task(str(tasks / "choose.yaml")), ItemSettings())]
    with pytest.raises(UserError, match="task choose needs log-likelihoods, which an endpoint does not give"):
        run_benchmark(Subject(endpoint=Upper()), chosen, Results({}, {}), tmp_path / "other", World())


class UpperCase(BaseHTTPRequestHandler):
    """A chat server that answers with the second word of the question in upper case."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seeds.add(request.get("seed"))
        text = request["messages"][-1]["content"].split()[1].upper()
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_server_is_benchmarked_by_its_address(tasks, tmp_path, monkeypatch):
    seeds = set()
    monkeypatch.setattr(UpperCase, "seeds", seeds, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), UpperCase)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        bench.main([
            "--endpoint", f"http://127.0.0.1:{server.server_port}/v1", "--model_name_or_path", "upper",
            "--tasks", str(tasks / "write.yaml"), "--output_dir", str(tmp_path / "out"), "--limit", "6",
            "--seed", "7",
        ])  # fmt: skip
    finally:
        server.shutdown()
    assert seeds == {7}  # as it was asked for, although the answers are greedy
    results = read_results(tmp_path / "out/results.json")
    assert results.model == {"name": "upper", "endpoint": f"http://127.0.0.1:{server.server_port}/v1"}
    assert results.tasks["write"].scores["exact_match"].value == 2 / 6


def test_a_template_that_is_not_the_locked_one_is_refused(tiny_folder, tasks, tmp_path):
    from ftkit.data.templates.lock import make_lock, write_lock
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    tokenizer = load_tokenizer(folder)
    install_template(tokenizer, "alpaca")
    tokenizer.save_pretrained(folder)
    write_lock(folder, make_lock(tokenizer, "alpaca"))
    bench.main(argv(folder, tasks, tmp_path / "same", "--limit", "2", names=("write",)))
    assert read_results(tmp_path / "same/results.json").model["template"] == "auto"
    with pytest.raises(UserError, match="template"):
        bench.main(argv(folder, tasks, tmp_path / "other", "--template", "chatml", names=("write",)))


def test_the_list_names_every_bundled_task(capsys):
    bench.main(["--list"])
    printed = capsys.readouterr().out
    assert "mmlu" in printed and "5 shots" in printed and "numeric_match" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--tasks is missing"),
        (["--tasks", "mmlu"], "--output_dir is missing"),
        (["--tasks", "mmlu", "--output_dir", "o"], "name a model"),
        (["--tasks", "mmlu", "--output_dir", "o", "--model_name_or_path", "m", "--limit", "0"], "--limit is 0; give at least 1"),
        (["--tasks", "mlmu", "--output_dir", "o", "--model_name_or_path", "m"], 'unknown task "mlmu"; did you mean "mmlu"'),
        (["--tasks", "knowledge,knowledge", "--output_dir", "o", "--model_name_or_path", "m"], '"knowledge" appears twice'),
        (["--tasks", "perplexity/a", "--output_dir", "o", "--model_name_or_path", "m"], "perplexity has no subjects"),
        (["--tasks", "knowledge", "--task_data", "mmlu=x", "--output_dir", "o", "--model_name_or_path", "m"], "no such task in --tasks"),
        (["--tasks", "knowledge", "--task_data", "mmlu", "--output_dir", "o", "--model_name_or_path", "m"], "write TASK=PATH"),
        (["--tasks", "knowledge,knowledge/arithmetic", "--output_dir", "o", "--model_name_or_path", "m"], "ask the same items; keep one"),
        (["--tasks", ",", "--output_dir", "o", "--model_name_or_path", "m"], '--tasks "," names none'),
        (["--tasks", "sub/x.yaml/y", "--output_dir", "o", "--model_name_or_path", "m"], "sub/x.yaml: no such task file"),
        (["--tasks", "knowledge", "--task_data", "knowledge=a", "--task_data", "knowledge=b", "--output_dir", "o", "--model_name_or_path", "m"],
         '--task_data: "knowledge" appears twice'),
        (["--tasks", "knowledge", "--output_dir", "o", "--endpoint", "u", "--adapter", "a"], "--adapter has no effect with --endpoint"),
        *(
            (["--tasks", "knowledge", "--output_dir", "o", "--endpoint", "u", "--model_name_or_path", "m", *flag], f"{flag[0]} has no effect")
            for flag in (
                ["--load_in_4bit"], ["--dtype", "float32"], ["--template", "none"], ["--ftgpt"], ["--batch_size", "4"],
                ["--max_batch_tokens", "9"], ["--trust_remote_code"],
            )
        ),
        (["--task", "mmlu"], 'unknown argument --task; did you mean --tasks'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(flags, message):
    with pytest.raises(UserError, match=message):
        bench.main(flags)


def test_a_folder_of_another_run_is_not_continued(finished, tiny_folder, tasks, tmp_path):
    with pytest.raises(UserError, match=r"holds a different benchmark run \(not the same settings, tasks\)"):
        bench.main(argv(tiny_folder, tasks, finished, "--limit", "3"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is in use and holds no benchmark run"):
        bench.main(argv(tiny_folder, tasks, tmp_path))
