"""Problems about things that are counted: packed, shared, lost, planted, compared."""

from problems import Draw, Problem


def boxes_minus_gift(d: Draw) -> Problem:
    p, thing, box = d.person(), d.word("things"), d.word("containers")
    a, b = d.number(3, 9), d.number(4, 15)
    c = d.number(2, a * b - 5)
    question = d.wording(
        f"{p.name} has {a} {box} with {b} {thing} in each. {p.she.title()} gives {c} {thing} to a friend. How many {thing} does {p.name} have left?",
        f"There are {b} {thing} in each of {a} {box}. {p.name} takes out {c} {thing}. How many {thing} are still in the {box}?",
        f"{p.name} packed {a} {box}, each with {b} {thing}. Later {p.she} lost {c} of the {thing}. How many {thing} are left?",
    )
    steps = (
        f"The {box} hold {a} × {b} = {a * b} {thing} in all.",
        f"After {c} are gone, {a * b} - {c} = {a * b - c} {thing} are left.",
    )
    return Problem(question, steps, a * b - c, (a, b, c))


def share_equally(d: Draw) -> Problem:
    p, thing, box = d.person(), d.word("fruits"), d.word("containers")
    friends, each, bags = d.number(3, 8), d.number(3, 12), d.number(2, 6)
    total = friends * each * bags
    per_bag = friends * each
    question = d.wording(
        f"{p.name} buys {bags} {box} of {thing} with {per_bag} {thing} in each and shares them equally among {friends} friends. How many {thing} does each friend get?",
        f"A farm delivers {bags} {box} with {per_bag} {thing} in each. {p.name} and the other cooks, {friends} people in all, divide them equally. How many {thing} does each cook get?",
        f"{friends} neighbors share {bags} {box} of {thing} equally. Each of the {box} holds {per_bag} {thing}. How many {thing} does each neighbor get?",
    )
    steps = (
        f"There are {bags} × {per_bag} = {total} {thing}.",
        f"Shared among {friends}, each gets {total} ÷ {friends} = {total // friends} {thing}.",
    )
    return Problem(question, steps, bags * each, (bags, per_bag, friends))


def more_and_fewer(d: Draw) -> Problem:
    p, q, r, thing = d.person(), d.person(), d.person(), d.word("things")
    a, times = d.number(6, 40), d.number(2, 3)
    fewer = d.number(2, a)
    word = {2: "twice", 3: "three times"}[times]
    question = d.wording(
        f"{p.name} has {a} {thing}. {q.name} has {word} as many as {p.name}, and {r.name} has {fewer} fewer than {q.name}. How many {thing} do they have together?",
        f"{q.name} collected {word} as many {thing} as {p.name}, who collected {a}. {r.name} collected {fewer} fewer than {q.name}. How many {thing} did the three collect in all?",
    )
    b, c = times * a, times * a - fewer
    steps = (
        f"{q.name} has {times} × {a} = {b} {thing}.",
        f"{r.name} has {b} - {fewer} = {c} {thing}.",
        f"Together they have {a} + {b} + {c} = {a + b + c} {thing}.",
    )
    return Problem(question, steps, a * (1 + 2 * times) - fewer, (a, times, fewer))


def rows_of_plants(d: Draw) -> Problem:
    p, plant = d.person(), d.word("flowers")
    rows, per_row = d.number(4, 12), d.number(6, 20)
    part, name = d.wording(("2", "half"), ("4", "a quarter"), ("3", "a third"))
    part = int(part)
    rows -= rows % part if rows >= 2 * part else 0
    rows = rows if rows % part == 0 else part * 2
    total = rows * per_row
    question = d.wording(
        f"{p.name} plants {rows} rows of {plant} with {per_row} in each row. In spring {name} of them are white and the others are yellow. How many {plant} are yellow?",
        f"{p.name} waters {rows} rows of {plant}, {per_row} to a row. {name[0].upper() + name[1:]} of the {plant} dry up. How many {plant} stay alive?",
        f"A garden has {rows} rows of {per_row} {plant}. {p.name} picks {name} of all the {plant}. How many {plant} stay in the garden?",
    )
    last = "are yellow" if "yellow" in question else "remain"
    steps = (
        f"The garden has {rows} × {per_row} = {total} {plant}.",
        f"{name[0].upper() + name[1:]} of them is {total} ÷ {part} = {total // part}.",
        f"So {total} - {total // part} = {total - total // part} {plant} {last}.",
    )
    return Problem(question, steps, per_row * (rows // part) * (part - 1), (rows, per_row, part))


def bus_stops(d: Draw) -> Problem:
    p, place, other = d.person(), d.word("places"), d.word("places")
    start, off1 = d.number(20, 50), d.number(3, 12)
    on1, off2, on2 = d.number(2, 15), d.number(2, 9), d.number(2, 12)
    question = d.wording(
        f"A bus leaves with {start} passengers. At the {place} {off1} get off and {on1} get on. At the {other} {off2} get off and {on2} get on. How many passengers are on the bus now?",
        f"{p.name} drives a bus with {start} passengers. {off1} people leave at the {place}, where {on1} board. At the next stop, the {other}, {off2} leave and {on2} board. How many passengers does the bus carry then?",
    )
    first = start - off1 + on1
    steps = (
        f"After the {place} there are {start} - {off1} + {on1} = {first} passengers.",
        f"After the {other} there are {first} - {off2} + {on2} = {first - off2 + on2} passengers.",
    )
    return Problem(question, steps, start + on1 + on2 - off1 - off2, (start, off1, on1, off2, on2))


def pages_left(d: Draw) -> Problem:
    p = d.person()
    a, days, rest = d.number(12, 40), d.number(3, 9), d.number(2, 8)
    rate = d.number(8, 35)
    pages = a * days + rest * rate
    question = d.wording(
        f"{p.name} reads a book of {pages} pages. For {days} days {p.she} reads {a} pages a day. How many pages a day must {p.she} read to finish the book in {rest} more days?",
        f"{p.name} types a text of {pages} pages: {a} pages a day for {days} days, and the rest in {rest} days, equally many on each. How many pages does {p.she} type on each of the last days?",
        f"A book has {pages} pages. {p.name} has read {a} pages on each of {days} days and wants to finish in the next {rest} days, with the same number of pages each day. How many pages is that a day?",
    )
    steps = (
        f"The first {days} days make {days} × {a} = {days * a} pages.",
        f"Then {pages} - {days * a} = {rest * rate} pages are left.",
        f"In {rest} days that is {rest * rate} ÷ {rest} = {rate} pages a day.",
    )
    return Problem(question, steps, (pages - days * a) // rest, (pages, a, days, rest))


def packing_to_sell(d: Draw) -> Problem:
    p, food, box = d.person(), d.word("baked"), d.word("containers")
    size, full, price = d.number(4, 12), d.number(4, 15), d.number(2, 9)
    total = size * full
    morning = d.number(10, total - 5)
    question = d.wording(
        f"{p.name} makes {morning} {food} in the morning and {total - morning} in the afternoon, packs them in {box} of {size} and sells each of the {box} for ${price}. How many dollars does {p.she} take in?",
        f"{morning} {food} from one tray and {total - morning} from another are put into {box} of {size} {food}. Each of the {box} is sold for ${price}. How many dollars do they bring?",
    )
    steps = (
        f"There are {morning} + {total - morning} = {total} {food}.",
        f"They fill {total} ÷ {size} = {full} {box}.",
        f"These bring {full} × {price} = {full * price} dollars.",
    )
    return Problem(question, steps, total * price // size, (morning, total - morning, size, price))


def seats_sold(d: Draw) -> Problem:
    place = d.word("places")
    rows, seats, empty = d.number(8, 20), d.number(10, 25), d.number(5, 60)
    shows = d.number(2, 5)
    question = d.wording(
        f"The hall at the {place} has {rows} rows of {seats} seats. At each of {shows} shows {empty} seats stay empty. How many people come to the shows in all?",
        f"A hall near the {place} has {rows} rows with {seats} seats each. It gives {shows} concerts, and at each one {empty} seats are free. How many seats are taken at the concerts altogether?",
    )
    total = rows * seats
    steps = (
        f"The hall has {rows} × {seats} = {total} seats.",
        f"Each time {total} - {empty} = {total - empty} seats are taken.",
        f"{shows} times that makes {shows} × {total - empty} = {shows * (total - empty)}.",
    )
    return Problem(question, steps, shows * rows * seats - shows * empty, (rows, seats, empty, shows))


def three_weeks(d: Draw) -> Problem:
    p, thing = d.person(), d.word("things")
    a, more, less = d.number(12, 60), d.number(3, 20), d.number(2, 10)
    question = d.wording(
        f"{p.name} collected {a} {thing} last week, {more} more than that this week, and hopes to collect {less} fewer next week than this week. How many {thing} is that in three weeks?",
        f"{p.name} found {a} {thing} in May. In June {p.she} found {more} more than in May, and in July {less} fewer than in June. How many {thing} did {p.she} find in the three months?",
        f"In the first week {p.name} sold {a} {thing}. In the second week {p.she} sold {more} more than in the first, in the third {less} fewer than in the second. How many {thing} did {p.name} sell in the three weeks?",
    )
    second, third = a + more, a + more - less
    steps = (
        f"The second time it is {a} + {more} = {second} {thing}.",
        f"The third time it is {second} - {less} = {third} {thing}.",
        f"All three together make {a} + {second} + {third} = {a + second + third} {thing}.",
    )
    return Problem(question, steps, 3 * a + 2 * more - less, (a, more, less))


def ages(d: Draw) -> Problem:
    p, q, r = d.person(), d.person(), d.person()
    a, older, years = d.number(6, 18), d.number(2, 9), d.number(3, 12)
    question = d.wording(
        f"{p.name} is {a} years old. {q.name} is {older} years older than {p.name}, and {r.name} is twice as old as {q.name}. How old will {r.name} be in {years} years?",
        f"{q.name} is {older} years older than {p.name}, who is {a}. {r.name} is twice as old as {q.name}. How old is {r.name} going to be {years} years from now?",
    )
    b = a + older
    steps = (
        f"{q.name} is {a} + {older} = {b} years old.",
        f"{r.name} is 2 × {b} = {2 * b} years old.",
        f"In {years} years {r.name} will be {2 * b} + {years} = {2 * b + years}.",
    )
    return Problem(question, steps, 2 * a + 2 * older + years, (a, older, years))


TRAINED = (
    boxes_minus_gift, share_equally, more_and_fewer, rows_of_plants, bus_stops, pages_left, packing_to_sell,
    seats_sold, three_weeks, ages,
)  # fmt: skip
