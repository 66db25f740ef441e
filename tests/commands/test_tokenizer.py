"""`ftkit tokenizer` saves a folder that loads, says what it is worth, and refuses contradictions."""

import pytest
from transformers import AutoTokenizer

from ftkit.commands.tokenizer import main, parse, read_texts
from ftkit.config.errors import UserError


def test_a_tokenizer_is_trained_saved_and_compared(tmp_path, tiny_folder, capsys, monkeypatch):
    monkeypatch.setattr("ftkit.model.loading.find_bundled_smollm2", lambda: None)
    folder = tmp_path / "tok"
    main([
        "--files", "corpus", "--vocab_size", "400", "--control_tokens", "chatml", "--context", "128",
        "--output_dir", str(folder), "--compare", str(tiny_folder),
    ])  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 400 and tokenizer.model_max_length == 128
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") == 2
    printed = capsys.readouterr().out
    assert "held out   139 documents" in printed
    assert (
        "bytes per token  this tokenizer (400 tokens)" in printed and "bytes per token  llama (300 tokens)" in printed
    )
    with pytest.raises(UserError, match="already holds files"):
        main(["--files", "corpus", "--vocab_size", "400", "--output_dir", str(folder)])


def test_without_a_split_a_hundredth_of_the_documents_is_held_out(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("|".join(f"document {number}" for number in range(300)))
    args = parse(["--files", str(path), "--vocab_size", "300", "--document_separator", "|", "--output_dir", "x"])
    train, held_out = read_texts(args)
    assert len(train) == 297 and len(held_out) == 3 and not set(train) & set(held_out)


def test_gpt2s_vocabulary_comes_with_ftkit(tmp_path, capsys):
    main(["--gpt2", "--control_tokens", "chatml", "--output_dir", str(tmp_path / "tok")])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tok")
    assert len(tokenizer) == 50259 and tokenizer.eos_token_id == 50256
    assert tokenizer("Hello world")["input_ids"] == [15496, 995]
    assert "vocabulary 50259 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give --vocab_size to train a vocabulary, or --gpt2 to take GPT-2's, not both"),
        (["--vocab_size", "300", "--gpt2", "x"], "not both"),
        (["--vocab_size", "300", "--gpt2"], "not both"),
        (["--vocab_size", "300"], "--vocab_size needs texts to learn from"),
        (["--vocabsize", "300"], "unknown argument --vocabsize; did you mean --vocab_size"),
    ],
)
def test_contradictions_are_refused(argv, message):
    with pytest.raises(UserError, match=message):
        parse([*argv, "--output_dir", "x"])
