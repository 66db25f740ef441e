"""Turns of the user that follow each other, joined into one: what --join_turns asks for.

turns, num_joined = joined([{"role": "user", "content": "Hi."}, {"role": "user", "content": "Name a bird."}])
"""

COLUMNS = {"messages", "conversations", "prompt", "completion", "chosen", "rejected"}
USER_NAMES = ("user", "human")


def with_joined_turns(values: dict) -> dict:
    """A row's values with `joined` turns in each column that holds a conversation."""
    return {name: joined(value)[0] if name in COLUMNS else value for name, value in values.items()}


def joined(turns) -> tuple:
    """The turns with those of the user that follow each other as one, an empty line between their texts.

    Also how many were joined to the one before. What is not a list of turns is returned as it is.
    """
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return turns, 0
    found: list[dict] = []
    for turn in turns:
        role_key, text_key = ("role", "content") if "role" in turn else ("from", "value")
        last = found[-1] if found else {}
        texts = last.get(text_key), turn.get(text_key)
        is_user = turn.get(role_key) in USER_NAMES
        if is_user and last.get(role_key) == turn[role_key] and all(isinstance(text, str) for text in texts):
            found[-1] = {**last, text_key: "\n\n".join(texts)}
        else:
            found.append(turn)
    return found, len(turns) - len(found)
