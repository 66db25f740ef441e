"""Subjects whose answers are worked out: arithmetic, units and dates, number systems."""

from groups import Group, Keep, Question, is_sound
from rows import alternate, rank, ranked

MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COUNT_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
NUM_CANDIDATES = 40  # groups made of a kind, before a split keeps its own


def draw(low: int, high: int, *salt) -> int:
    """A whole number from low to high, both included, that depends on the salt only."""
    return low + rank(*salt) % (high - low + 1)


def make(kind, keep: Keep) -> list[Group]:
    """The sound groups of one kind that belong to the split. kind(number) returns a group."""
    name = kind.__name__
    numbers = [number for number in range(NUM_CANDIDATES) if keep(f"{name} {number}")]
    return [group for group in map(kind, numbers) if is_sound(group)]


def products(number: int) -> Group:
    a, b = draw(6, 19, "product", number), draw(4, 9, "product", number, "b")
    pairs = [(a, b), (a + 1, b), (a, b + 1), (a - 2, b + 1)]
    return [Question(f"What is {one} × {other}?", str(one * other)) for one, other in pairs]


def order_of_operations(number: int) -> Group:
    a, b, c = (draw(2, 9, "order", number, part) for part in "abc")
    return [
        Question(f"What is {a} + {b} × {c}?", str(a + b * c)),
        Question(f"What is ({a} + {b}) × {c}?", str((a + b) * c)),
        Question(f"What is {a} × {b} + {c}?", str(a * b + c)),
        Question(f"What is {a} × ({b} + {c})?", str(a * (b + c))),
    ]


def percentages(number: int) -> Group:
    base = 20 * draw(2, 25, "percent", number)
    shares = [(5, 10, 15, 20), (10, 20, 25, 50), (5, 25, 30, 75), (20, 40, 60, 80)][rank("shares", number) % 4]
    return [Question(f"What is {share} % of {base}?", str(base * share // 100)) for share in shares]


def differences(number: int) -> Group:
    a, b = draw(300, 900, "difference", number), draw(110, 280, "difference", number, "b")
    pairs = [(a, b), (a + 10, b), (a, b + 9), (a - 100, b + 1)]
    return [Question(f"What is {one} - {other}?", str(one - other)) for one, other in pairs]


def quotients(number: int) -> Group:
    first, step = draw(11, 40, "quotient", number), draw(2, 4, "quotient", number, "step")
    group = []
    for place in range(4):
        divisor, result = draw(3, 9, "quotient", number, place), first + place * step
        group.append(Question(f"What is {divisor * result} ÷ {divisor}?", str(result)))
    return group


def remainders(number: int) -> Group:
    divisor = draw(5, 9, "remainder", number)
    wholes = [divisor * draw(3, 11, "remainder", number, place) + 1 + place for place in range(4)]
    return [
        Question(f"What is the remainder when {whole} is divided by {divisor}?", str(whole % divisor))
        for whole in wholes
    ]


def minutes(number: int) -> Group:
    hours, extra = draw(1, 5, "minutes", number), 5 * draw(1, 9, "minutes", number, "extra")
    cases = [(hours, extra), (hours + 1, extra), (hours, extra + 10), (hours + 2, extra)]
    return [
        Question(f"How many minutes are {h} {'hour' if h == 1 else 'hours'} and {m} minutes?", str(60 * h + m))
        for h, m in cases
    ]


def metric_lengths(number: int) -> Group:
    a = draw(2, 9, "metric", number) + 10 * (number % 2)
    tables = [
        [(f"{a} kilometers", "meters", a * 1000), (f"{a} meters", "centimeters", a * 100),
         (f"{a} centimeters", "millimeters", a * 10), (f"{a}0 kilometers", "meters", a * 10_000)],
        [(f"{a} kilograms", "grams", a * 1000), (f"{a} centuries", "years", a * 100),
         (f"{a} decades", "years", a * 10), (f"{a}0 liters", "milliliters", a * 10_000)],
    ]  # fmt: skip
    return [
        Question(f"How many {unit} are there in {given}?", f"{result:,}") for given, unit, result in tables[number % 2]
    ]


def weekdays(number: int) -> Group:
    group = []
    for place, day in enumerate(ranked(range(7), "weekday", number)[:4]):
        count, later = draw(2, 6, "weekday", number, place), rank("later", number, place) % 2
        start = DAYS[(day - count if later else day + count) % 7]
        word = "after" if later else "before"
        group.append(Question(f"Which day of the week is {COUNT_WORDS[count]} days {word} {start}?", DAYS[day]))
    return group


def months(number: int) -> Group:
    group = []
    for place, month in enumerate(ranked(range(12), "month", number)[:4]):
        count = draw(2, 8, "month", number, place)
        later = rank("later month", number, place) % 2
        start = MONTHS[(month - count if later else month + count) % 12]
        word = "after" if later else "before"
        group.append(Question(f"Which month comes {COUNT_WORDS[count]} months {word} {start}?", MONTHS[month]))
    return group


def clock(minutes: int) -> str:
    """Minutes after midnight as a 12-hour time: 760 is 12:40 pm."""
    hour = minutes // 60 % 24
    return f"{(hour - 1) % 12 + 1}:{minutes % 60:02d} {'am' if hour < 12 else 'pm'}"


def end_times(number: int) -> Group:
    start, lasts = 5 * draw(100, 230, "clock", number), 5 * draw(9, 30, "clock", number, "lasts")
    what = ["film", "concert", "lesson", "meeting", "match", "journey"][rank("what", number) % 6]
    cases = [(start, lasts), (start + 10, lasts + 10), (start, lasts + 10), (start + 40, lasts - 5)]
    return [
        Question(
            f"A {what} starts at {clock(begin)} and lasts {length} minutes. When does it end?", clock(begin + length)
        )
        for begin, length in cases
    ]


def four_numbers(number: int, low: int, high: int, salt: str) -> list[int]:
    """Four numbers with the same count of ones in binary, so that their digits look alike."""
    first = draw(low, high, salt, number)
    alike = [other for other in range(low, high + 1) if other.bit_count() == first.bit_count()]
    return sorted(alike, key=lambda other: rank(salt, number, other))[:4]


def to_binary(number: int) -> Group:
    return [
        Question(f"How is the decimal number {n} written in binary?", f"{n:b}")
        for n in four_numbers(number, 16, 63, "binary")
    ]


def from_binary(number: int) -> Group:
    return [
        Question(f"Which decimal number equals the binary number {n:b}?", str(n))
        for n in four_numbers(number, 16, 63, "decimal")
    ]


def to_hexadecimal(number: int) -> Group:
    chosen = four_numbers(number, 32, 255, "hex")
    return [Question(f"How is the decimal number {n} written in hexadecimal?", f"{n:X}") for n in chosen]


def from_hexadecimal(number: int) -> Group:
    chosen = four_numbers(number, 32, 255, "from hex")
    return [Question(f"Which decimal number equals the hexadecimal number {n:X}?", str(n)) for n in chosen]


def roman(value: int) -> str:
    """1 to 3999 in Roman numerals: 1994 is MCMXCIV."""
    steps = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
             (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip
    text = ""
    for size, letters in steps:
        text += letters * (value // size)
        value %= size
    return text


def roman_numerals(number: int) -> Group:
    first = draw(12, 380, "roman", number)
    return [
        Question(f"Which number is {roman(n)} in Roman numerals?", str(n))
        for n in (first, first + 2, first + 10, first + 9)
    ]


def arithmetic(sources, keep: Keep) -> list[Group]:
    kinds = (products, order_of_operations, percentages, differences, quotients, remainders)
    return alternate(*(make(kind, keep) for kind in kinds))


def units_and_dates(sources, keep: Keep) -> list[Group]:
    kinds = (minutes, metric_lengths, weekdays, months, end_times)
    return alternate(*(make(kind, keep) for kind in kinds))


def number_systems(sources, keep: Keep) -> list[Group]:
    kinds = (to_binary, from_binary, to_hexadecimal, from_hexadecimal, roman_numerals)
    return alternate(*(make(kind, keep) for kind in kinds))
