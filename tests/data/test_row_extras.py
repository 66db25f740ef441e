"""What a row holds beside roles and texts is honoured, refused by name, or reported: nothing is dropped in silence."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import stop
from ftkit.data.reading.records import Record
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.conversion import convert_row
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import KTO, PREFERENCES, asking_kind
from ftkit.data.rows.questions import question_and_answer
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.receipt import build_receipt
from ftkit.data.tokens.receipt_text import format_receipt, runs
from ftkit.data.tokens.tokenization import IGNORE_INDEX, tokenize_rows

BIRD = [
    {"role": "user", "content": "Name a bird."},
    {"role": "assistant", "content": "WRONGONE"},
    {"role": "user", "content": "No. Again."},
    {"role": "assistant", "content": "Crow."},
]
SYSTEM = {"role": "system", "content": "S"}
ASK, SAY = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
BESIDE_TEXT = "stands beside plain text, which has no turns; write the row as messages"
ONE_EXCHANGE = {
    "alpaca": {"instruction": "Q", "output": "A"},
    "prompt_completion": {"prompt": "Q", "completion": "A"},
    "lists": {"prompt": [ASK], "completion": [SAY]},
    "messages": {"messages": [ASK, SAY]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
}
PAIRS = {
    "alpaca": {"instruction": "Q", "chosen": "A", "rejected": "B"},
    "prompt": {"prompt": "Q", "chosen": "A", "rejected": "B"},
    "whole": {"chosen": [ASK, SAY], "rejected": [ASK, {"role": "assistant", "content": "B"}]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    },
}


def read(values, kind=CONVERSATIONS):
    (row,) = RowChecker("f", kind, report=stop).rows([Record(values, 3)])
    return {name: value for name, value in row.items() if name != "source"}


def flagged(index, turns=BIRD, **flags):
    return [turn | flags if number == index else turn for number, turn in enumerate(turns)]


# (name, row, positions of the answers that are context)
HONOURED = [
    ("nothing said", {"messages": BIRD}, []),
    ("weight 0", {"messages": flagged(1, weight=0)}, [1]),
    ("weight 0.0", {"messages": flagged(1, weight=0.0)}, [1]),
    ("weight 0 as a text", {"messages": flagged(1, weight="0")}, [1]),
    ("train false", {"messages": flagged(1, train=False)}, [1]),
    ("train false as a text", {"messages": flagged(1, train="False")}, [1]),
    ("loss false", {"messages": flagged(1, loss=False)}, [1]),
    ("weight 1", {"messages": flagged(1, weight=1)}, []),
    ("train true", {"messages": flagged(3, train=True)}, []),
    ("null weight", {"messages": flagged(1, weight=None)}, []),
    ("two flags that agree", {"messages": flagged(1, weight=0, train=False)}, [1]),
    ("weight 0 of a question", {"messages": flagged(0, weight=0)}, []),
    ("the last answer", {"messages": flagged(3, weight=0)}, [3]),
    ("a system column in front", {"messages": flagged(1, weight=0), "system": "S"}, [2]),
    ("a completion", {"prompt": BIRD[:1], "completion": flagged(0, BIRD[1:], weight=0)}, [1]),
    ("an answer in a prompt", {"prompt": BIRD[:3], "completion": BIRD[3:]}, [1]),
    ("sharegpt", {"conversations": [
        {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A", "weight": 0},
        {"from": "human", "value": "Q"}, {"from": "gpt", "value": "B"}]}, [1]),
    ("history", {"instruction": "Q", "output": "A", "history": [["P", "B"]]}, []),
]  # fmt: skip


@pytest.mark.parametrize(("row", "untrained"), [case[1:] for case in HONOURED], ids=[case[0] for case in HONOURED])
def test_the_answers_that_a_row_leaves_out_are_known(row, untrained):
    assert read(row).get("untrained", []) == untrained


@pytest.mark.parametrize("form", ONE_EXCHANGE)
@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_is_a_system_turn_in_every_form(form, column):
    assert read(ONE_EXCHANGE[form] | {column: "S"})["messages"] == [SYSTEM, ASK, SAY]
    assert read(ONE_EXCHANGE[form] | {column: " "})["messages"] == [ASK, SAY]


@pytest.mark.parametrize("form", PAIRS)
def test_a_system_column_is_a_system_turn_of_a_pair(form):
    expected = {"prompt": [ASK], "chosen": "A", "rejected": "B"}
    assert read(PAIRS[form], PREFERENCES) == expected
    assert read(PAIRS[form] | {"system": "S"}, PREFERENCES) == expected | {"prompt": [SYSTEM, ASK]}


def test_history_becomes_earlier_turns():
    row = {"instruction": "Q", "input": "I", "output": "A", "history": [["One?", "1"], ["Two?", "2"]], "system": "S"}
    contents = ["S", "One?", "1", "Two?", "2", "Q\n\n### Input:\nI", "A"]
    assert [turn["content"] for turn in read(row)["messages"]] == contents


# (name, row, what is said of it)
REFUSED = [
    ("fractional weight", {"messages": flagged(1, weight=0.5)},
     'turn 2: "weight" is 0.5; give 0 (not trained) or 1: a turn is trained or it is not'),
    ("weight 2", {"messages": flagged(1, weight=2)}, 'turn 2: "weight" is 2; give 0 (not trained) or 1'),
    ("weight as a word", {"messages": flagged(1, weight="low")}, 'turn 2: "weight" is low; give 0 (not trained) or 1'),
    ("flags that contradict", {"messages": flagged(1, weight=1, train=False)},
     "turn 2: weight and train contradict each other; keep one of them"),
    ("a trained question", {"messages": flagged(0, train=True)},
     'turn 1: "train" is true, but a user turn is never trained; delete it'),
    ("a mask", {"messages": flagged(1, mask=1)}, 'turn 2: "mask" is not understood; write "weight": 0'),
    ("masked", {"messages": flagged(1, masked=True)}, 'turn 2: "masked" is not understood; write "weight": 0'),
    ("a loss weight", {"messages": flagged(1, loss_weight=0.3)}, 'turn 2: "loss_weight" is not understood'),
    ("cut", {"messages": flagged(1, cut=True)}, 'turn 2: "cut" is not understood'),
    ("thoughts of a question", {"messages": flagged(0, reasoning_content="Hm.")}, "turn 1: thoughts of a user turn; only"),
    ("thoughts as a list", {"messages": flagged(3, thinking=["Hm."])}, 'turn 4: "thinking" must be a string, got list'),
    ("two thoughts", {"messages": flagged(3, thinking="Hm.", reasoning="Oh.")},
     "turn 4: thinking and reasoning say different things; keep one of them"),
    ("thoughts twice", {"prompt": "Q", "completion": "<think>Oh</think>A", "reasoning_content": "Hm."},
     'thoughts stand in "reasoning_content" and in the answer; keep one of them'),
    ("a thought without an end", {"instruction": "Q", "output": "<think>Hm"}, "the thought that the answer begins with has"),
    ("a thought without an answer", {"messages": flagged(3, content="<think>Hm</think>\n")}, "turn 4: thoughts without an"),
    ("a thought column beside turns", {"messages": [ASK, SAY], "reasoning_content": "Hm."},
     'the column "reasoning_content" is not supported here; write the thoughts in front of their answer, <think>...'),
    ("images of a turn", {"messages": flagged(0, images=["a.png"])}, 'turn 1: "images" is not supported: only text is'),
    ("images", {"messages": [ASK, SAY], "images": ["a.png"]}, '"images" is not supported: only text is trained; delete'),
    ("a video", {"instruction": "Q", "output": "A", "video": "a.mp4"}, '"video" is not supported: only text is trained'),
    ("audios of a text", {"text": "A", "audios": ["a.wav"]}, '"audios" is not supported: only text is trained'),
    ("tools of a text", {"text": "A", "tools": [{"name": "f"}]}, f'the column "tools" {BESIDE_TEXT}'),
    ("a column of calls", {"prompt": "Q", "completion": "A", "tool_calls": [{"name": "f"}]},
     'the column "tool_calls" belongs into a turn; write the row as messages, the calls into their answer'),
    ("unwanted answer", {"prompt": "Q", "completion": "A", "label": False},
     '"label" is false: the answer is not wanted, and sft would train it; keep the others by: ftkit data convert --to '
     "messages, or rename the column if it means another thing"),
    ("unwanted answer in a table", {"prompt": "Q", "completion": "A", "label": "False"}, '"label" is False: the answer is'),
    ("unwanted answer by number", {"prompt": "Q", "completion": "A", "label": 0}, '"label" is 0: the answer is not wanted'),
    ("unwanted answer in messages", {"messages": [ASK, SAY], "label": False}, '"label" is false: the answer is not wanted, and sft would train it; delete the row, or'),
    ("kto_tag", {"instruction": "Q", "output": "A", "kto_tag": False}, '"kto_tag" is false: the answer is not wanted'),
    ("weight of a row", {"messages": [ASK, SAY], "weight": 0.5},
     '"weight" of a row is 0.5, and every row counts once; delete the row or the column'),
    ("row that is not to be trained", {"prompt": "Q", "completion": "A", "train": False}, '"train" of a row is false, and'),
    ("two system texts", {"messages": [SYSTEM, ASK, SAY], "system": "other"},
     "system and a system turn say different things; keep one of them"),
    ("two system columns", {"prompt": "Q", "completion": "A", "system": "a", "system_prompt": "b"},
     "system and system_prompt say different things; keep one of them"),
    ("history as a text", {"instruction": "Q", "output": "A", "history": "Q: A"},
     '"history" must be a list of [question, answer] pairs; write [["...", "..."], ...]'),
    ("history of triples", {"instruction": "Q", "output": "A", "history": [["a", "b", "c"]]}, '"history" must be a list'),
    ("an empty answer in a history", {"instruction": "Q", "output": "A", "history": [["a", ""]]}, '"history 1" is empty'),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_has_no_place_is_refused_by_name(row, message):
    with pytest.raises(UserError) as error:
        read(row)
    assert str(error.value).startswith(f"f:3: {message}")


@pytest.mark.parametrize("name", ["images", "reasoning_content"])
def test_pairs_and_wanted_answers_refuse_the_same(name):
    for row, kind in ((PAIRS["prompt"], PREFERENCES), (ONE_EXCHANGE["prompt_completion"] | {"label": True}, KTO)):
        with pytest.raises(UserError, match=f'^f:3: .*"{name}" is not supported'):
            read(row | {name: ["x"]}, kind)


def test_a_pair_trains_both_answers():
    row = {"prompt": "Q", "chosen": SAY | {"weight": 0}, "rejected": "B"}
    with pytest.raises(UserError, match="f:3: chosen is marked as not trained, but a pair trains both"):
        read(row, PREFERENCES)


@pytest.mark.parametrize("empty", [None, "", " ", [], {}, "[]", "null", [None]])
def test_what_says_nothing_passes(empty):
    beside = dict.fromkeys(("tools", "functions", "images", "reasoning_content", "weight", "label"), empty)
    assert read(ONE_EXCHANGE["prompt_completion"] | beside)["messages"] == [ASK, SAY]
    turn = SAY | dict.fromkeys(("tool_calls", "thinking", "images", "mask", "name"), empty)
    assert read({"messages": [ASK, turn]})["messages"] == [ASK, SAY]


def test_wanted_rows_and_story_columns_pass():
    assert read(ONE_EXCHANGE["prompt_completion"] | {"label": True, "weight": 1})["messages"] == [ASK, SAY]
    assert read(ONE_EXCHANGE["alpaca"] | {"story": "Once."})["messages"] == [ASK, SAY]  # near "history"


# (name, row, kind, columns that are reported)
REPORTED = [
    ("columns", {"prompt": "Q", "completion": "A", "id": 7, "source": "web"}, CONVERSATIONS, ["id", "source"]),
    ("keys of turns", {"messages": [ASK | {"name": "Ann"}, SAY]}, CONVERSATIONS, ["messages[].name"]),
    ("both", {"messages": [ASK, SAY | {"id": 3}], "score": 1}, CONVERSATIONS, ["messages[].id", "score"]),
    ("a name of a class", {"prompt": "Q", "completion": "A", "label": "sports"}, CONVERSATIONS, ["label"]),
    ("a turn of a pair", PAIRS["sharegpt"] | {"chosen": {"from": "gpt", "value": "A", "score": 3}}, PREFERENCES,
     ["chosen.score"]),
    ("the output of a pair", PAIRS["alpaca"] | {"output": "C"}, PREFERENCES, ["output"]),
    ("nothing", {"instruction": "Q", "output": "A", "history": [], "system_prompt": "S"}, CONVERSATIONS, []),
]  # fmt: skip


@pytest.mark.parametrize(("row", "kind", "names"), [case[1:] for case in REPORTED], ids=[case[0] for case in REPORTED])
def test_every_other_column_and_key_is_reported(row, kind, names):
    checker = RowChecker("f", kind, report=stop)
    assert len(list(checker.rows([Record(row, 3)]))) == 1
    assert checker.columns.ignored_columns() == names


def trained_texts(rows, tokenizer, info):
    tokenized = tokenize_rows(rows, tokenizer, info, None)
    spans = [runs(row["input_ids"], [i != IGNORE_INDEX for i in row["labels"]], tokenizer) for row in tokenized.rows]
    return [[text for text, trained in row if trained] for row in spans], tokenized


OFFSETS = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.mark.parametrize("template", ["alpaca", "chatml", "llama3", "phi3", "plain", "auto"])
def test_an_answer_of_weight_0_is_not_trained_under_any_template(bpe, template):
    bpe.chat_template = OFFSETS
    info = install_template(bpe, template)
    rows = [read({"messages": flagged(1, weight=0)}), read({"messages": flagged(3, train=False)})]
    texts, tokenized = trained_texts(rows, bpe, info)
    assert texts == [[f"Crow.{info.end_of_turn}"], [f"WRONGONE{info.end_of_turn}"]]
    receipt = build_receipt(tokenized.rows, bpe, info, tokenized)
    assert receipt["num_untrained_answers"] == 2
    assert "untrained  2 answers, marked by weight 0 or held in a prompt" in format_receipt(receipt)


THOUGHTLESS = OFFSETS.replace("m.content", "m.content.split('</think>')[-1]")


def test_an_answer_of_which_the_template_cuts_a_part_is_counted(bpe):
    contents = ("    return 1", "return 1", "<think>hm</think>return 1")
    rows = [read({"messages": [ASK, SAY | {"content": content}]}) for content in contents]
    for chat_template, template, number in ((OFFSETS, "auto", 0), (THOUGHTLESS, "auto", 1), (OFFSETS, "chatml", 1)):
        bpe.chat_template = chat_template
        info = install_template(bpe, template)
        tokenized = tokenize_rows(rows, bpe, info, None)
        receipt = build_receipt(tokenized.rows, bpe, info, tokenized)
        assert receipt["num_altered_answers"] == number
        assert ("altered    1 answer not trained as written" in format_receipt(receipt)) == number


OPENS_A_THOUGHT = OFFSETS.replace("[assistant] {% endif %}", "[assistant] <think>{% endif %}")
MARKED = OPENS_A_THOUGHT.replace(
    "{{ m.content }}{{ eos_token }}", "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
)


@pytest.mark.parametrize("chat_template", [OPENS_A_THOUGHT, MARKED], ids=["offsets", "markers"])
def test_a_template_whose_prompt_opens_a_thought_that_no_answer_has_is_refused(bpe, chat_template):
    bpe.chat_template = chat_template
    with pytest.raises(UserError, match="what is trained is not what is generated"):
        install_template(bpe, "auto")


def test_a_row_whose_every_answer_has_weight_0_trains_nothing(bpe):
    info = install_template(bpe, "chatml")
    rows = [read({"messages": [ASK, SAY | {"weight": 0}]}) | {"source": "f:3"}, read({"messages": [ASK, SAY]})]
    with pytest.raises(
        UserError, match="f:3: every answer of this row has weight 0; give one weight 1, delete the row"
    ):
        tokenize_rows(rows, bpe, info, None)
    dropped = tokenize_rows(rows, bpe, info, None, untrained_rows="drop")
    assert (dropped.kept, dropped.dropped) == ([1], {"every answer of this row has weight 0": 1})


def test_a_template_that_marks_fewer_answers_than_there_are_is_refused(bpe, monkeypatch):
    info = install_template(bpe, "chatml")
    monkeypatch.setattr("ftkit.data.tokens.tokenization.render_training", lambda *given: ("text", [(0, 4)]))
    with pytest.raises(UserError, match="the template marks 1 of 2 answers, so it is not known which one is left out"):
        tokenize_rows([read({"messages": flagged(1, weight=0)})], bpe, info, None)


@pytest.mark.parametrize("target", ["messages", "sharegpt", "prompt_completion"])
@pytest.mark.parametrize("index", [1, 3])
def test_a_converted_row_trains_the_same_answers(target, index):
    row = read({"messages": flagged(index, weight=0)})
    (written,) = convert_row(row, target)
    assert read(json.loads(json.dumps(written))) == row


def test_what_an_alpaca_row_can_not_say_is_refused():
    with pytest.raises(
        UserError, match="it holds answers that are not trained, which this format can't say; use prompt"
    ):
        list(convert_row(read({"messages": flagged(1, weight=0)}), "alpaca"))
    (written,) = convert_row(read({"messages": BIRD}), "alpaca")
    assert written == {
        "instruction": "No. Again.", "input": "", "output": "Crow.", "history": [["Name a bird.", "WRONGONE"]],
    }  # fmt: skip


def test_wanted_answers_become_rows_for_sft_and_the_others_do_not():
    rows = [read({"prompt": "Q", "completion": "A", "label": label}, KTO) for label in (True, False)]
    assert [list(convert_row(row, "messages")) for row in rows] == [[{"messages": [ASK, SAY]}], []]


ASKED = [
    *((form, row, [ASK], "A") for form, row in ONE_EXCHANGE.items()),
    *((f"pair {form}", row, [ASK], "A") for form, row in PAIRS.items()),
    ("kto", {"prompt": "Q", "completion": "A", "label": True}, [ASK], "A"),
    ("several answers", {"messages": BIRD}, BIRD[:3], "Crow."),
    ("an untrained last answer", {"messages": flagged(3, weight=0)}, BIRD[:1], "WRONGONE"),
]


@pytest.mark.parametrize(("row", "turns", "reference"), [case[1:] for case in ASKED], ids=[case[0] for case in ASKED])
def test_every_form_gives_a_question_and_its_answer(row, turns, reference):
    assert question_and_answer(read(row, asking_kind())) == (turns, reference)


# LlamaFactory's, ultrafeedback's and OpenAI's forms of a pair.
PAIR_FORMS = [
    ("ultrafeedback", {"prompt": "Q", "chosen": [ASK, SAY], "rejected": [ASK, SAY | {"content": "B"}],
                       "messages": [ASK, SAY], "score_chosen": 8.0}, [ASK]),
    ("ultrafeedback with a system turn", {"prompt": "Q", "chosen": [SYSTEM, ASK, SAY],
                                          "rejected": [SYSTEM, ASK, SAY | {"content": "B"}]}, [SYSTEM, ASK]),
    ("several turns before", {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}],
                              "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
     [SYSTEM, ASK]),
    ("openai turns", {"messages": [ASK], "chosen": SAY, "rejected": SAY | {"content": "B"}}, [ASK]),
    ("a turn for each after a prompt", {"prompt": [ASK], "chosen": SAY, "rejected": SAY | {"content": "B"}}, [ASK]),
    ("mixed names", {"conversations": [{"from": "human", "value": "Q"}], "chosen": "A", "rejected": [SAY | {"content": "B"}]},
     [ASK]),
    ("turns in an Alpaca pair", {"instruction": "Q", "chosen": SAY, "rejected": "B"}, [ASK]),
    ("history", {"instruction": "No. Again.", "history": [["Name a bird.", "WRONGONE"]], "chosen": "A", "rejected": "B"},
     BIRD[:3]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompt"), [case[1:] for case in PAIR_FORMS], ids=[case[0] for case in PAIR_FORMS])
def test_pairs_are_read_in_every_form(row, prompt):
    assert read(row, PREFERENCES) == {"prompt": prompt, "chosen": "A", "rejected": "B"}


def test_a_whole_conversation_of_another_prompt_is_refused():
    row = {"prompt": "Other", "chosen": [ASK, SAY], "rejected": [ASK, SAY]}
    with pytest.raises(UserError, match="f:3: chosen is a whole conversation, but not of the prompt; give the answer"):
        read(row, PREFERENCES)
