"""What the Hub refuses in a card's metadata, found without asking it.

notes = check_card("runs/mine/README.md", text)
"""

import re

from ftkit.config.errors import UserError, did_you_mean, first_line

BLOCK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
REPOSITORY = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*|multilingual|code|other")  # ISO 639 codes, and the Hub's own
TEXTS = ("license", "license_name", "license_link", "pipeline_tag", "library_name")
LISTS = ("tags", "datasets", "metrics")
# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    openrail++ afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
    cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr isc h-research intel-research lppl-1.3c ms-pl apple-ascl
    apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma
    grok2-community unknown other
""".split()
)


def check_card(where: str, text: str) -> list[str]:
    """Raise UserError, `file:line: reason; fix`, for metadata that the Hub refuses; return what it may refuse.

    where: the card's path. text: the whole card; one without metadata is allowed.
    """
    import yaml

    block = BLOCK.match(text)
    if block is None:
        return []
    first = text.count("\n", 0, block.start(1)) + 1
    try:
        data = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        line = first + getattr(getattr(error, "problem_mark", None), "line", 0)
        raise UserError(f"{where}:{line}: metadata that is not YAML ({first_line(error)}); correct it") from error
    if data is not None and not isinstance(data, dict):
        raise UserError(f"{where}:{first}: metadata must be `key: value` lines; correct it")

    def mistake(key: str, reason: str) -> UserError:
        at = re.search(rf"^{re.escape(key)}\s*:", block[1], flags=re.MULTILINE)
        return UserError(f"{where}:{first + (block[1].count(chr(10), 0, at.start()) if at else 0)}: {key}: {reason}")

    for key, value in (data or {}).items():
        if reason := refused(str(key), value):
            raise mistake(str(key), reason)
    check_results(data or {}, mistake)
    license = (data or {}).get("license")
    if isinstance(license, str) and license not in LICENSES:
        return [f"the Hub may not know the licence {license}{did_you_mean(license, LICENSES) or '; it knows other'}"]
    return []


def refused(key: str, value) -> str | None:
    """Why the Hub refuses the value of a key, and what to do; None for one that it takes."""
    values = value if isinstance(value, list) else [value]
    if value is None:
        return None
    if key in LISTS and not isinstance(value, list):
        return f'must be a list; write "- {value}" on a line of its own'
    if key in ("base_model", "datasets") and (bad := next((one for one in values if not is_repository(one)), None)):
        kind = "model" if key == "base_model" else "dataset"
        return f'"{bad}" is no {kind} on the Hub; give its OWNER/NAME, or drop the line'
    if key == "language" and (bad := next((one for one in values if not is_language(one)), None)) is not None:
        return f'"{bad}" is not a language code; write one such as en or de (in quotes where YAML reads it as false)'
    if key in ("license", "pipeline_tag", "library_name", "license_name", "license_link") and not isinstance(
        value, str
    ):
        return "must be a single string; give one"
    if key == "tags" and not all(isinstance(one, str) for one in values):
        return "must be strings; put them in quotes"
    return None


def is_repository(value) -> bool:
    """Whether a value has the form of a Hub id; older datasets and models have no owner."""
    return isinstance(value, str) and bool(REPOSITORY.fullmatch(value))


def is_language(value) -> bool:
    """Whether a value has the form of a language's code."""
    return isinstance(value, str) and bool(LANGUAGE.fullmatch(value))


def check_results(data: dict, mistake) -> None:
    """Raise a `mistake` for a model-index that is not as the Hub reads it."""
    from huggingface_hub.repocard_data import model_index_to_eval_results

    if data.get("model-index") is None:
        return
    try:
        model_index_to_eval_results(data["model-index"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise mistake("model-index", f"lacks what the Hub wants ({type(error).__name__}: {error})") from error
