"""`ftkit generate` and `ftkit chat` answer through the template; their mistakes are one line."""

import io
import json

import pytest

from ftkit.commands import chat, generate
from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.data.reading.loading import load_rows
from ftkit.data.rows.questions import read_questions
from ftkit.inference.asking import Sampling, asking_parser, model_settings
from ftkit.inference.engine import Engine


def load(flags) -> Engine:
    return Engine.load(model_settings(asking_parser("ftkit chat", "").parse_args(flags)))


def reference_answer(tiny_folder, prompt: str, num_tokens: int) -> str:
    """Greedy answer by transformers alone, on the prompt as Stanford's template renders it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{prompt}\n\n### Response:\n"
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    output = AutoModelForCausalLM.from_pretrained(tiny_folder).generate(
        **ids, max_new_tokens=num_tokens, do_sample=False
    )
    return tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_generate_prints_the_greedy_answer_to_the_rendered_prompt(flags, tiny_folder, capsys):
    generate.main([*flags, "--prompt", "Say it."])
    assert capsys.readouterr().out.strip("\n") == reference_answer(tiny_folder, "Say it.", 5)


def test_generate_answers_a_file_of_prompts_or_rows_into_json_lines(flags, tiny_folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Say it.\nSay more.\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "Say it.", "output": "not read"}) + "\n")
    for path, expected in ((prompts, ["Say it.", "Say more."]), (rows, ["Say it."])):
        output = tmp_path / f"{path.stem}-answers.jsonl"
        generate.main([*flags, "--file", str(path), "--output_file", str(output)])
        records = [json.loads(line) for line in output.read_text().splitlines()]
        assert [record["prompt"] for record in records] == expected
        assert records[0]["answers"] == [reference_answer(tiny_folder, "Say it.", 5)]
        assert [record["finish_reasons"] for record in records] == [["length"]] * len(expected)


ASKS = {
    "instruction alone": ({"instruction": "Say it."}, ["Say it."]),
    "with input": ({"instruction": "Say it.", "input": "x", "id": 3}, ["Say it.\n\n### Input:\nx"]),
    "with system": ({"instruction": "Say it.", "system": "Be brief."}, ["Be brief.", "Say it."]),
    "blank answer": ({"instruction": "Say it.", "output": " "}, ["Say it."]),
    "null answer": ({"prompt": "Say it.", "completion": None}, ["Say it."]),
    "prompt alone": ({"prompt": "Say it."}, ["Say it."]),
    "prompt and answer": ({"prompt": "Say it.", "completion": "No."}, ["Say it."]),
    "prompt of messages": ({"prompt": [{"role": "user", "content": "Say it."}]}, ["Say it."]),
    "messages": ({"messages": [{"role": "user", "content": "Say it."}]}, ["Say it."]),
    "messages with an answer": (
        {"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "No."}]},
        ["Say it."],
    ),
    "second question": (
        {"messages": [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]},
        ["u", "a", "u"],
    ),
    "sharegpt": ({"conversations": [{"from": "human", "value": "Say it."}]}, ["Say it."]),
    "sharegpt with roles": ({"conversations": [{"role": "user", "content": "Say it."}]}, ["Say it."]),
    "text": ({"text": "Say it."}, ["Say it."]),
}


@pytest.mark.parametrize(("row", "contents"), ASKS.values(), ids=ASKS)
def test_rows_may_lack_the_answer_that_is_asked_for(row, contents, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert [[message["content"] for message in messages] for _, messages in read_questions(str(path))] == [contents]


def test_a_file_may_mix_answered_and_unanswered_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "One.", "output": "1"}\n{"instruction": "Two."}\n')
    assert [messages[-1]["content"] for _, messages in read_questions(str(path))] == ["One.", "Two."]


BAD_ROWS = {
    "misspelt": ({"promt": "x"}, 'rows.jsonl:1: unknown key "promt"; did you mean "prompt"'),
    "misspelt input": ({"instruction": "x", "inptu": "y"}, 'unknown key "inptu"; did you mean "input"'),
    "no question": ({"id": 1}, "rows.jsonl:1: the columns id fit no format"),
    "null question": ({"instruction": None}, '"instruction" is null'),
    "empty question": ({"prompt": " "}, '"prompt" is empty'),
    "empty messages": ({"messages": []}, "no assistant turn"),
    "unknown role": ({"messages": [{"role": "usr", "content": "x"}]}, 'unknown role "usr"; did you mean "user"'),
    "system alone": ({"messages": [{"role": "system", "content": "x"}]}, "no assistant turn"),
    "number": ({"instruction": 3}, '"instruction" must be a string'),
    "wrong turn": ({"messages": ["x"]}, "turn 1 must be an object"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_one_line_that_names_it(row, message, flags, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert run(generate.main, [*flags, "--file", str(path)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "rows.jsonl:1" in error and "\n" not in error


def test_sampling_is_repeated_by_its_seed_and_gives_as_many_answers_as_asked(flags, tmp_path):
    answers = []
    for number, seed in enumerate(["3", "3", "4"]):
        output = tmp_path / f"{number}.jsonl"
        sampled = [
            "--temperature",
            "2",
            "--top_k",
            "50",
            "--top_p",
            "0.95",
            "--num_return_sequences",
            "3",
            "--seed",
            seed,
        ]
        generate.main([*flags, "--prompt", "Say it.", "--output_file", str(output), *sampled])
        answers.append(json.loads(output.read_text())["answers"])
    assert len(answers[0]) == 3 and len(set(answers[0])) > 1
    assert answers[0] == answers[1] != answers[2]


MISTAKES = {
    "no model": (["--prompt", "x"], "name a model"),
    "nothing to answer": (["--model_name_or_path", "M"], "nothing to answer"),
    "negative temperature": (
        ["--model_name_or_path", "M", "--prompt", "x", "--temperature", "-1"],
        "--temperature is -1.0",
    ),
    "top_p": (["--model_name_or_path", "M", "--prompt", "x", "--top_p", "2"], "--top_p is 2.0"),
    "equal answers": (
        ["--model_name_or_path", "M", "--prompt", "x", "--num_return_sequences", "2"],
        "samples at temperature 0 are all equal",
    ),
    "no folder": (
        ["--model_name_or_path", "M", "--prompt", "x", "--output_file", "no/x.jsonl"],
        "there is no folder no; make it first",
    ),
    "no answers": (["--model_name_or_path", "M", "--prompt", "x", "--num_return_sequences", "0"], "start at 1"),
    "no batch": (["--model_name_or_path", "M", "--prompt", "x", "--batch_size", "0"], "start at 1"),
    "huge seed": (["--model_name_or_path", "M", "--prompt", "x", "--seed", str(2**70)], "give a number from 0"),
    "unknown flag": (["--promt", "x"], "did you mean --prompt"),
    "no UTF-8": (["--model_name_or_path", "M", "--prompt", "\udcff"], "--prompt: not UTF-8 (byte 0xff)"),
    "turns without a template": (
        ["--model_name_or_path", "M", "--prompt", "x", "--template", "none", "--system", "Be brief."],
        "a text that is continued has no turns",
    ),
    "models twice": (["--model_name_or_path", "M", "--prompt", "x", "--compare", "a,b"], "names the models itself"),
    "no effect at temperature 0": (
        ["--model_name_or_path", "M", "--prompt", "x", "--min_p", "0.1"],
        "--min_p has no effect at --temperature 0",
    ),
    "beams drawn": (
        ["--model_name_or_path", "M", "--prompt", "x", "--num_beams", "2", "--temperature", "1"],
        "--num_beams searches for the likeliest answer",
    ),
    "no beams": (["--model_name_or_path", "M", "--prompt", "x", "--num_beams", "0"], "--num_beams starts at 1"),
    "length of what": (
        ["--model_name_or_path", "M", "--prompt", "x", "--length_penalty", "2"],
        "--length_penalty has no effect without --num_beams",
    ),
    "min_p": (["--model_name_or_path", "M", "--prompt", "x", "--min_p", "2"], "--min_p is 2.0"),
    "likeliest of what": (
        ["--model_name_or_path", "M", "--prompt", "x", "--top_logprobs", "2"],
        "--top_logprobs is a number of tokens that --show_tokens shows",
    ),
    "no adapter there": (["--adapter", "nosuch", "--prompt", "x"], "nosuch: no such folder"),
}


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(argv, message, tiny_folder, capsys):
    argv = [str(tiny_folder) if part == "M" else part for part in argv]
    assert run(generate.main, argv) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_an_answer_file_is_never_overwritten(flags, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        generate.main([*flags, "--prompt", "x", "--output_file", str(path)])
    assert path.read_text() == "precious"


def test_chat_streams_answers_keeps_the_conversation_and_obeys_commands(flags, tiny_folder, capsys, monkeypatch):
    asked = []
    engine = load(flags)
    prompt_ids = engine.prompt_ids
    monkeypatch.setattr(
        engine, "prompt_ids", lambda messages, name: asked.append(list(messages)) or prompt_ids(messages, name)
    )
    lines = io.StringIO(
        "Say it.\nAgain.\n/system Be brief.\nSay it.\n/reset\nSay it.\n/sytem x\n/help\n/exit\nnever read\n"
    )
    chat.talk(engine, Sampling(max_new_tokens=5), None, lines)
    printed = capsys.readouterr()
    first = reference_answer(tiny_folder, "Say it.", 5)
    assert first in printed.out
    roles = [[message["role"] for message in messages] for messages in asked]
    assert roles == [["user"], ["user", "assistant", "user"], ["system", "user"], ["system", "user"]]
    assert asked[1][1]["content"] == first
    assert 'unknown command /sytem; did you mean "/system"' in printed.err and chat.HELP in printed.err


def test_a_conversation_is_saved_as_a_row_that_trainers_read(flags, tmp_path, capsys):
    path = tmp_path / "talk.jsonl"
    lines = f"/save {path}\nSay it.\nAgain.\n/temperature 0.5\n/temperature hot\n/save {path}\n/save talk.txt\n/save\n"
    chat.talk(
        load(flags), Sampling(max_new_tokens=5), "Be brief.", io.StringIO(lines + f"/save {tmp_path}/no/x.jsonl\n")
    )
    printed = capsys.readouterr().err.strip().split("\n")
    assert printed[0] == "nothing was asked yet, so there is nothing to save"
    assert printed[-6:] == [
        "temperature 0.5", "/temperature hot: give a number, such as 0.7", f"1 row with 2 answers added to {path}",
        *["/save writes rows as JSON lines; name a file such as talk.jsonl"] * 2,
        f"{tmp_path}/no/x.jsonl: there is no folder {tmp_path}/no; make it first",
    ]  # fmt: skip
    (row,) = load_rows(str(path)).train
    roles = [turn["role"] for turn in written(path)[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant"] and row


def test_of_an_answer_that_was_stopped_what_came_is_kept(flags, tiny_folder, monkeypatch):
    engine, pieces = load(flags), []

    def write(piece):
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt

    modes = [module.training for module in engine.model.modules()]
    reply = engine.stream([{"role": "user", "content": "Say it."}], Sampling(max_new_tokens=5), write=write)
    assert (reply.finish_reason, reply.output_tokens) == ("cancelled", 3)
    assert reply.text == reference_answer(tiny_folder, "Say it.", 3) == "".join(pieces)
    assert modes == [module.training for module in engine.model.modules()]
    monkeypatch.setattr(engine, "generate", lambda *asked, **batching: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # where no person types, the program ends
        chat.talk(engine, Sampling(), None, io.StringIO("Say it.\n"))


def test_beams_answer_in_a_chat_when_they_are_done(flags, capsys):
    engine, beams = load(flags), Sampling(max_new_tokens=5, num_beams=3)
    chat.talk(engine, beams, None, io.StringIO("Say it.\n"))
    assert capsys.readouterr().out.strip("\n") == engine.answers([[{"role": "user", "content": "Say it."}]], beams)[0]


def test_chat_survives_a_full_context(flags, capsys):
    chat.talk(load(flags), Sampling(max_new_tokens=5), None, io.StringIO("word " * 400 + "\nSay it.\n"))
    assert "shorten the prompt or start over" in capsys.readouterr().err


def written(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_written_as_they_come_and_stay_where_a_later_one_fails(flags, tmp_path, capsys, monkeypatch):
    prompts, output = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    prompts.write_text("One.\nTwo.\nThree.\n")
    replies, seen = Engine.replies, []

    def interrupted(engine, prompts_ids, *settings, **batching):
        seen.append([record["prompt"] for record in written(output)] if output.exists() else [])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return replies(engine, prompts_ids, *settings, **batching)

    monkeypatch.setattr(Engine, "replies", interrupted)
    argv = [*flags, "--file", str(prompts), "--output_file", str(output), "--batch_size", "1"]
    assert run(generate.main, argv) == 130
    assert seen == [[], ["One."], ["One.", "Two."]]
    assert f"2 of 3 prompts answered in {output}\n" in capsys.readouterr().err


def test_an_answer_that_is_cut_and_an_empty_one_are_marked(flags, tiny_folder, tmp_path, capsys, monkeypatch):
    generate.main([*flags, "--prompt", "Say it."])
    assert "1 of 1 answers were cut: raise --max_new_tokens 5" in capsys.readouterr().err
    generate.main([*flags, "--prompt", "Say it.", "--template", "none"])
    assert "cut" not in capsys.readouterr().err  # a text that is continued has no end
    monkeypatch.setattr(Engine, "generate", lambda engine, prompts, *settings, **batching: [[] for _ in prompts])
    output = tmp_path / "answers.jsonl"
    generate.main([*flags, "--prompt", "Say it."])
    assert capsys.readouterr() == ("(empty answer)\n", "")
    generate.main([*flags, "--prompt", "Say it.", "--output_file", str(output)])
    assert written(output) == [{"prompt": "Say it.", "answers": [""], "finish_reasons": ["stop"]}]
    chat.talk(load(flags), Sampling(), None, io.StringIO("Say it.\n"))
    assert capsys.readouterr().out == "(empty answer)\n"


def test_a_prompt_that_is_too_long_is_named_by_file_and_line_before_anything_is_answered(flags, tmp_path, capsys):
    rows, output = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    long = json.dumps({"prompt": "word " * 400})
    rows.write_text('{"prompt": "Short."}\n' + f"{long}\n{long}\n")
    assert run(generate.main, [*flags, "--file", str(rows), "--output_file", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{rows}:2: the prompt has ") and error.endswith("(1 more like it)\n")
    assert error.count("\n") == 1 and not output.exists()


def test_beams_of_a_models_own_configuration_are_not_used(flags, tiny_folder, capsys):
    engine = load(flags)
    engine.model.generation_config.num_beams = 4
    chat.talk(engine, Sampling(max_new_tokens=5), None, io.StringIO("Say it.\n"))
    assert capsys.readouterr().out.strip() == reference_answer(tiny_folder, "Say it.", 5)


def test_chat_without_a_template_continues_each_line_on_its_own(flags, capsys):
    engine = load([*flags, "--template", "none"])
    engine.generate, asked = (lambda prompts, *settings, **batching: asked.append(prompts) or [[5]]), []
    chat.talk(engine, Sampling(), None, io.StringIO("balbam\nco\udcff\nbalbam\n/system x\n/compare\n"))
    assert asked == [[engine.voice().tokenizer("balbam")["input_ids"]]] * 3
    printed = capsys.readouterr().err.splitlines()
    assert printed[0].startswith("this line: not UTF-8 (byte 0xff)") and "/system with --template none" in printed[1]
