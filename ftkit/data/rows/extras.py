"""What a row holds beside roles and texts: honoured, refused by name, or reported; never dropped in silence.

honoured  "system" and "system_prompt"; "history" of Alpaca rows; "weight", "train" and "loss" of a turn; thoughts of an
          answer; tools, their calls and results (`tools`)
refused   pictures, which have no place yet; tools of plain text; weights of rows; answers marked as not wanted
reported  every other column, and every other key of a turn (`columns.FormatCheck.ignored_columns`)
"""

from ftkit.config.errors import UserError
from ftkit.data.rows.thoughts import CLOSES, OPENS, THOUGHT, is_cut_in_thought, without_thought

FLAGS = ("weight", "train", "loss")  # of a turn: whether it is trained
THOUGHT_COLUMNS = (THOUGHT, "thinking")  # of a row with one answer
THOUGHT_KEYS = (*THOUGHT_COLUMNS, "reasoning", "thoughts")  # of a turn
TOOL_COLUMNS = ("tools", "functions")  # the latter is OpenAI's former name
CALL_KEYS = ("tool_calls", "function_call")  # of a turn
CALL_ROLES = ("function_call", "tool_call")  # names of turns that are calls
RESULT_ROLES = ("tool", "function", "observation", "function_response", "tool_response", "ipython")
RESULT_KEYS = ("name", "tool_call_id")  # of a result, beside its text
TURN_KEYS = {"role", "content", "from", "value", *TOOL_COLUMNS, *CALL_KEYS, *FLAGS, *THOUGHT_KEYS}
YES, NO = (True, 1, "1", "1.0", "true"), (False, 0, "0", "0.0", "false")
EMPTY_TEXTS = ("", "[]", "{}", "null")
TEXT_TOOLS = 'the column "{}" stands beside plain text, which has no turns; write the row as messages'
CALLS = 'the column "{}" belongs into a turn; write the row as messages, the calls into their answer'
PICTURES = '"{}" is not supported: only text is trained; delete it, or the rows that need it'
THOUGHTS = 'the column "{}" is not supported here; write the thoughts in front of their answer, <think>...</think>'
MASKS = '"{}" is not understood; write "weight": 0 for an answer that is not to be trained, and delete the others'
PICTURE_NAMES = ("image", "images", "video", "videos", "audio", "audios")
MASK_KEYS = ("mask", "masked", "loss_mask", "loss_weight", "loss_scale", "train_detail", "cut")
# Column -> why it is refused where it is filled.
REFUSED_COLUMNS = (
    {name: CALLS for name in CALL_KEYS}
    | {name: PICTURES for name in PICTURE_NAMES}
    | {name: THOUGHTS for name in THOUGHT_COLUMNS}
)
# The same for the keys of a turn.
REFUSED_KEYS = {name: PICTURES for name in PICTURE_NAMES} | {name: MASKS for name in MASK_KEYS}


def is_filled(value) -> bool:
    """Whether a value says anything: null, and an empty text, list or object (also as JSON in a text) do not."""
    if isinstance(value, str):
        return value.strip() not in EMPTY_TEXTS
    if isinstance(value, dict):
        return any(is_filled(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(item not in (None, "") for item in value)
    return value is not None


def check_columns(values: dict, where: str, *, may_think: bool = False, has_turns: bool = True) -> None:
    """Raise UserError for a filled column that has no place, and for a row that is not to be trained as others are.

    may_think: the row has one answer, to which a column of thoughts belongs. has_turns: it is no plain text.
    """
    allowed = THOUGHT_COLUMNS if may_think else ()
    refused = REFUSED_COLUMNS | ({} if has_turns else dict.fromkeys(TOOL_COLUMNS, TEXT_TOOLS))
    for name in sorted((refused.keys() & values.keys()).difference(allowed)):
        if is_filled(values[name]):
            raise UserError(f"{where}: {refused[name].format(name)}")
    for name in ("weight", "train"):
        value = values.get(name)
        if is_filled(value) and yes_or_no(value) is not True:
            raise UserError(
                f'{where}: "{name}" of a row is {shown(value)}, and every row counts once; delete the row or the column'
            )


def check_wanted(values: dict, where: str) -> None:
    """Raise UserError for an answer that the row itself says is not wanted, as KTO rows do."""
    for name in ("label", "kto_tag"):
        if yes_or_no(values.get(name)) is False:
            fix = "keep the others by: ftkit data convert --to messages" if "completion" in values else "delete the row"
            raise UserError(
                f'{where}: "{name}" is {shown(values[name])}: the answer is not wanted, and sft would train it; '
                f"{fix}, or rename the column if it means another thing"
            )


def check_turn(turn: dict, where: str) -> None:
    """Raise UserError for a filled key of a turn that has no place."""
    for name in sorted(REFUSED_KEYS.keys() & turn.keys()):
        if is_filled(turn[name]):
            raise UserError(f"{where}: {REFUSED_KEYS[name].format(name)}")


def thought_of(values: dict, answer: str, where: str, names: tuple[str, ...] = THOUGHT_KEYS) -> dict:
    """{"reasoning_content": the thoughts} of a turn or of a row with one answer; {} where it has none.

    answer: its text. Raises UserError for thoughts that are no text, without an end or an answer, and for two of them.
    """
    if is_cut_in_thought(answer):
        raise UserError(f"{where}: the thought that the answer begins with has no end; add {CLOSES} and the answer")
    if answer.lstrip().startswith(OPENS) and not without_thought(answer):
        raise UserError(f"{where}: thoughts without an answer; add it after {CLOSES}")
    found = {name: values[name] for name in names if is_filled(values.get(name))}
    for name, thought in found.items():
        if not isinstance(thought, str):
            raise UserError(f'{where}: "{name}" must be a string, got {type(thought).__name__}; write it as one text')
    if len(set(found.values())) > 1:
        raise UserError(f"{where}: {' and '.join(found)} say different things; keep one of them")
    if found and answer.lstrip().startswith(OPENS):
        raise UserError(f'{where}: thoughts stand in "{next(iter(found))}" and in the answer; keep one of them')
    return {THOUGHT: next(iter(found.values()))} if found else {}


def is_trained(turn: dict, role: str, where: str) -> bool:
    """Whether an assistant's turn is trained, as its "weight", "train" or "loss" says; it is where none does.

    Raises UserError for a value that is neither yes nor no, for two that differ, and for other roles to be trained.
    """
    said = {name: yes_or_no(turn[name]) for name in FLAGS if turn.get(name) is not None}
    for name, answer in said.items():
        if answer is None:
            raise UserError(
                f'{where}: "{name}" is {shown(turn[name])}; give 0 (not trained) or 1: a turn is trained or it is not'
            )
        if answer and role != "assistant":
            raise UserError(f'{where}: "{name}" is {shown(turn[name])}, but a {role} turn is never trained; delete it')
    if len(set(said.values())) > 1:
        raise UserError(f"{where}: {' and '.join(said)} contradict each other; keep one of them")
    return role == "assistant" and all(said.values())


def yes_or_no(value) -> bool | None:
    """The meaning of a flag, also as a table writes it; None for what is none."""
    value = value.strip().lower() if isinstance(value, str) else value
    if isinstance(value, list | dict):
        return None
    return True if value in YES else False if value in NO else None


def shown(value) -> str:
    """A value as a row writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
