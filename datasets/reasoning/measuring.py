"""Problems about money, time, distance and other measures; and the kinds that only unseen_templates.jsonl holds."""

from problems import Draw, Problem


def two_prices(d: Draw) -> Problem:
    p, one, other = d.person(), d.word("fruits"), d.word("wares")
    a, b = d.number(2, 9), d.number(2, 9)
    price, other_price = d.number(2, 12), d.number(2, 12)
    question = d.wording(
        f"{p.name} buys {a} bags of {one} at ${price} each and {b} packs of {other} at ${other_price} each. How many dollars does {p.she} pay in all?",
        f"A bag of {one} costs ${price} and a pack of {other} costs ${other_price}. How many dollars do {a} bags of {one} and {b} packs of {other} cost together?",
        f"At the market {p.name} pays ${price} for each of {a} bags of {one} and ${other_price} for each of {b} packs of {other}. How many dollars is that?",
    )
    x, y = a * price, b * other_price
    steps = (
        f"The {one} cost {a} × {price} = {x} dollars.",
        f"The {other} cost {b} × {other_price} = {y} dollars.",
        f"Together they cost {x} + {y} = {x + y} dollars.",
    )
    return Problem(question, steps, sum((price,) * a) + sum((other_price,) * b), (a, b, price, other_price))


def change_from_note(d: Draw) -> Problem:
    p, item = d.person(), d.word("goods")
    price, a = d.number(3, 9), d.number(2, 6)
    extra = d.number(6, 25)
    total = price * a + extra
    note = next(note for note in (20, 50, 100) if note > total)
    things = d.word("wares")
    question = d.wording(
        f"{p.name} buys {a} packs of {things} at ${price} each and a {item} for ${extra}. {p.she.title()} pays with a ${note} bill. How many dollars does {p.she} get back?",
        f"A pack of {things} costs ${price}. {p.name} has ${note} and buys {a} packs and also a {item} for ${extra}. How many dollars are left?",
    )
    steps = (
        f"The {things} cost {a} × {price} = {a * price} dollars.",
        f"With the {item} that is {a * price} + {extra} = {total} dollars.",
        f"So {note} - {total} = {note - total} dollars are left.",
    )
    return Problem(question, steps, note - extra - a * price, (price, a, extra, note))


def weeks_of_saving(d: Draw) -> Problem:
    p, item = d.person(), d.word("goods")
    weekly, weeks, saved = d.number(4, 15), d.number(3, 14), d.number(5, 60)
    price = saved + weekly * weeks
    question = d.wording(
        f"{p.name} wants a {item} that costs ${price}. {p.she.title()} has ${saved} and saves ${weekly} a week. After how many weeks can {p.she} buy it?",
        f"To pay for a {item} at ${price}, {p.name} adds ${weekly} each week to the ${saved} {p.she} has. How many weeks does that take?",
        f"A {item} costs ${price}. {p.name} has already saved ${saved} and puts aside ${weekly} every week. How many weeks does {p.she} still have to save?",
    )
    steps = (
        f"{p.name} still needs {price} - {saved} = {price - saved} dollars.",
        f"At {weekly} dollars a week that takes {price - saved} ÷ {weekly} = {weeks} weeks.",
    )
    return Problem(question, steps, (price - saved) // weekly, (price, saved, weekly))


def two_speeds(d: Draw) -> Problem:
    p, place, other = d.person(), d.word("places"), d.word("places")
    slow, fast = d.number(9, 18), d.number(30, 90, 5)
    hours, more = d.number(2, 5), d.number(2, 6)
    question = d.wording(
        f"{p.name} cycles to the {place} for {hours} hours at {slow} kilometers an hour, then takes a train to the {other} for {more} hours at {fast} kilometers an hour. How many kilometers does {p.she} travel?",
        f"On a trip {p.name} rides a bike for {hours} hours at {slow} kilometers an hour to the {place} and takes a bus for {more} hours at {fast} kilometers an hour to the {other}. How long is the trip in kilometers?",
    )
    x, y = hours * slow, more * fast
    steps = (
        f"The first part is {hours} × {slow} = {x} kilometers.",
        f"The second part is {more} × {fast} = {y} kilometers.",
        f"The whole way is {x} + {y} = {x + y} kilometers.",
    )
    return Problem(question, steps, slow * hours + fast * more, (slow, hours, fast, more))


def factory_output(d: Draw) -> Problem:
    thing, where = d.word("wares"), d.word("workplaces")
    per_hour, hours, days = d.number(15, 60, 5), d.number(4, 9), d.number(2, 6)
    broken = d.number(3, 50)
    question = d.wording(
        f"A {where} makes {per_hour} {thing} an hour and works {hours} hours a day. In {days} days {broken} of the {thing} turn out to be broken. How many good {thing} are made in these days?",
        f"For {days} days a {where} works {hours} hours a day and turns out {per_hour} {thing} every hour. {broken} {thing} are faulty and thrown away. How many {thing} remain?",
    )
    daily = per_hour * hours
    steps = (
        f"In a day {hours} × {per_hour} = {daily} {thing} are made.",
        f"In {days} days that is {days} × {daily} = {days * daily} {thing}.",
        f"Without the bad ones {days * daily} - {broken} = {days * daily - broken} {thing} remain.",
    )
    return Problem(question, steps, per_hour * hours * days - broken, (per_hour, hours, days, broken))


def discount(d: Draw) -> Problem:
    p, item = d.person(), d.word("goods")
    price, percent, count = d.number(20, 200, 20), d.number(10, 40, 5), d.number(2, 5)
    question = d.wording(
        f"A {item} usually costs ${price}. In a sale it is {percent} percent cheaper. How many dollars does {p.name} pay for {count} of them?",
        f"The price of a {item} is ${price}, less a discount of {percent} percent. {p.name} orders {count}. How many dollars is the order?",
    )
    off = price * percent // 100
    steps = (
        f"The discount on one is {price} × {percent} ÷ 100 = {off} dollars.",
        f"So one costs {price} - {off} = {price - off} dollars.",
        f"All {count} cost {count} × {price - off} = {count * (price - off)} dollars.",
    )
    return Problem(question, steps, count * price * (100 - percent) // 100, (price, percent, count))


def fence_cost(d: Draw) -> Problem:
    p, animal = d.person(), d.word("grazers")
    width, length = d.number(4, 20), d.number(21, 45)
    cost = d.number(3, 12)
    question = d.wording(
        f"{p.name} puts a fence around a rectangular field for a {animal}. The field is {length} meters long and {width} meters wide, and a meter of fence costs ${cost}. How many dollars does the fence cost?",
        f"A rectangular field where a {animal} grazes measures {width} by {length} meters. Fencing costs ${cost} a meter. How many dollars does {p.name} need to fence it all around?",
    )
    around = 2 * (width + length)
    steps = (
        f"Length and width are {length} + {width} = {length + width} meters.",
        f"All around it is 2 × {length + width} = {around} meters.",
        f"The fence costs {around} × {cost} = {around * cost} dollars.",
    )
    return Problem(question, steps, 2 * width * cost + 2 * length * cost, (width, length, cost))


def overtime(d: Draw) -> Problem:
    p, where = d.person(), d.word("jobs")
    wage, more = d.number(10, 25), d.number(2, 9)
    hours, extra = d.number(20, 40), d.number(2, 10)
    question = d.wording(
        f"At a {where} {p.name} earns ${wage} an hour, and ${more} more for each hour of overtime. How many dollars does {p.she} earn in a week with {hours} regular hours and {extra} hours of overtime?",
        f"This week {p.name} worked {hours} normal hours and {extra} hours of overtime in a {where}. {p.she.title()} gets ${wage} for a normal hour and ${more} on top of that for an hour of overtime. What is {p.her} pay in dollars?",
        f"{p.name} works {hours} regular hours and {extra} extra hours at a {where}. A regular hour pays ${wage}; an extra hour pays ${more} more. How many dollars is {p.her} pay?",
    )
    steps = (
        f"The usual hours pay {hours} × {wage} = {hours * wage} dollars.",
        f"An hour of overtime pays {wage} + {more} = {wage + more} dollars.",
        f"The overtime pays {extra} × {wage + more} = {extra * (wage + more)} dollars.",
        f"In all that is {hours * wage} + {extra * (wage + more)} = {hours * wage + extra * (wage + more)} dollars.",
    )
    return Problem(question, steps, (hours + extra) * wage + extra * more, (wage, more, hours, extra))


def animal_food(d: Draw) -> Problem:
    p, animal = d.person(), d.word("pets")
    grams, times, days = d.number(50, 250, 25), d.number(2, 4), d.number(4, 20)
    daily = grams * times
    bag = daily * days
    question = d.wording(
        f"{p.name} feeds a {animal} {times} times a day with {grams} grams of food each time. How many days does a bag of {bag} grams last?",
        f"A {animal} gets {grams} grams of food at each of {times} meals a day. {p.name} buys a bag of {bag} grams. For how many days is that enough?",
    )
    steps = (
        f"In a day the {animal} eats {times} × {grams} = {daily} grams.",
        f"The bag lasts {bag} ÷ {daily} = {days} days.",
    )
    return Problem(question, steps, bag // grams // times, (grams, times, bag))


def minutes_of_practice(d: Draw) -> Problem:
    p = d.person()
    daily, weeks, extra = d.number(15, 55, 5), d.number(2, 6), d.number(2, 4)
    what = d.wording("the piano", "the violin", "chess", "the flute", "singing")
    question = d.wording(
        f"{p.name} practices {what} for {daily} minutes every day of the week, and for {extra} more hours on Sundays. How many minutes does {p.she} practice in {weeks} weeks?",
        f"Every day {p.name} spends {daily} minutes on {what}, and each Saturday {extra} hours on top of that. How many minutes is that in {weeks} weeks?",
    )
    weekly, hours = 7 * daily, 60 * extra
    steps = (
        f"The daily practice makes 7 × {daily} = {weekly} minutes a week.",
        f"The extra time is {extra} × 60 = {hours} minutes.",
        f"A week has {weekly} + {hours} = {weekly + hours} minutes of practice.",
        f"In {weeks} weeks that is {weeks} × {weekly + hours} = {weeks * (weekly + hours)} minutes.",
    )
    return Problem(question, steps, weeks * 7 * daily + weeks * 60 * extra, (daily, extra, weeks))


TRAINED = (
    two_prices, change_from_note, weeks_of_saving, two_speeds, factory_output, discount, fence_cost, overtime,
    animal_food, minutes_of_practice,
)  # fmt: skip


def average_score(d: Draw) -> Problem:
    p = d.person()
    average = d.number(40, 90)
    spread = [d.number(1, 9) for _ in range(2)]
    scores = [average - spread[0], average + spread[0], average - spread[1], average + spread[1]]
    question = d.wording(
        f"In four tests {p.name} gets {scores[0]}, {scores[1]}, {scores[2]} and {scores[3]} points. What is {p.her} average score?",
        f"{p.name} throws a ball four times: {scores[0]}, {scores[1]}, {scores[2]} and {scores[3]} feet. What is the average distance in feet?",
    )
    total = sum(scores)
    steps = (
        f"The sum is {scores[0]} + {scores[1]} + {scores[2]} + {scores[3]} = {total}.",
        f"The average is {total} ÷ 4 = {total // 4}.",
    )
    return Problem(question, steps, average, tuple(scores))


def child_tickets(d: Draw) -> Problem:
    place = d.word("places")
    adult, child = d.number(10, 25), d.number(4, 9)
    adults, children = d.number(5, 30), d.number(6, 40)
    total = adult * adults + child * children
    question = d.wording(
        f"At the {place} an adult pays ${adult} and a child ${child}. One day {adults} adults come and the tickets bring in ${total}. How many children come?",
        f"Tickets for the {place} cost ${adult} for adults and ${child} for children. A group with {adults} adults pays ${total} in all. How many children are in the group?",
    )
    paid = adult * adults
    steps = (
        f"The adults pay {adults} × {adult} = {paid} dollars.",
        f"The children pay {total} - {paid} = {total - paid} dollars.",
        f"So there are {total - paid} ÷ {child} = {children} children.",
    )
    return Problem(question, steps, (total - adult * adults) // child, (adult, child, adults, total))


def tank_filling(d: Draw) -> Problem:
    p, animal = d.person(), d.word("grazers")
    flow, loss = d.number(12, 40), d.number(2, 9)
    minutes, start = d.number(5, 30), d.number(10, 80)
    size = start + (flow - loss) * minutes
    question = d.wording(
        f"A water tank for {p.name}'s {animal} holds {size} liters and has {start} liters in it. A hose adds {flow} liters a minute while a leak loses {loss} liters a minute. After how many minutes is the tank full?",
        f"{p.name} fills a tank of {size} liters that already contains {start} liters, so that a {animal} can drink. {flow} liters flow in and {loss} liters leak out every minute. How many minutes does it take to fill it?",
    )
    steps = (
        f"The tank still takes {size} - {start} = {size - start} liters.",
        f"Each minute adds {flow} - {loss} = {flow - loss} liters.",
        f"It takes {size - start} ÷ {flow - loss} = {minutes} minutes.",
    )
    return Problem(question, steps, (size - start) // (flow - loss), (size, start, flow, loss))


def bigger_recipe(d: Draw) -> Problem:
    p, food = d.person(), d.word("ingredients")
    people, grams, times = d.number(2, 6), d.number(40, 95, 5), d.number(2, 6)
    more = people * times
    question = d.wording(
        f"For {people} people {p.name} needs {people * grams} grams of {food}. How many grams of {food} does {p.she} need for {more} people?",
        f"A recipe for {people} people takes {people * grams} grams of {food}. {p.name} cooks for {more} people. How many grams of {food} should {p.she} buy?",
    )
    steps = (
        f"One person needs {people * grams} ÷ {people} = {grams} grams.",
        f"For {more} people that is {more} × {grams} = {more * grams} grams.",
    )
    return Problem(question, steps, people * grams * times, (people, people * grams, more))


def shared_profit(d: Draw) -> Problem:
    p, q, thing = d.person(), d.person(), d.word("wares")
    price, count, half = d.number(3, 12), d.number(20, 60, 2), d.number(5, 25)
    cost = 2 * half
    question = d.wording(
        f"{p.name} and {q.name} make {count} {thing} and sell all of them at ${price} each. The material costs ${cost}. They share what is left equally. How many dollars does each of them get?",
        f"{count} {thing} that {p.name} and {q.name} made sell for ${price} each. After paying ${cost} for material they split the money into two equal parts. How many dollars is one part?",
    )
    income = price * count
    steps = (
        f"The sale brings {count} × {price} = {income} dollars.",
        f"After the material {income} - {cost} = {income - cost} dollars are left.",
        f"Each gets {income - cost} ÷ 2 = {(income - cost) // 2} dollars.",
    )
    return Problem(question, steps, price * (count // 2) - half, (price, count, cost))


UNSEEN = (average_score, child_tickets, tank_filling, bigger_recipe, shared_profit)
