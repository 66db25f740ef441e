"""Words and phrasings picked by hand for the preferences: what no package lists, and what reading the rows left out."""

import curated

NUM_ELEMENTS = curated.NUM_ELEMENTS
CLASSES = curated.CLASSES

# WordNet's first sense surprises, the word is a plural, or it is hardly known.
UNSURE_KIND = curated.UNSURE_KIND | frozenset(
    """
    baby booth bridegroom castanets counter creche dispenser extremity gig greens housewife kit lap levis library manse
    midsection nursery palm pathway peacock pique poultry serge serratus sidewinder submucosa tomorrow trousers
    yesterday
    """.split()
)
UNSURE_DEFINITION = curated.UNSURE_DEFINITION | frozenset("agent albumin engage investigator sir sustain".split())
# The example is about something else than the word's everyday sense, or reads oddly by itself.
UNSURE_EXAMPLE = frozenset(
    """
    bath case corner escape faith feel minister protest public respects third travel unknown yes
    """.split()
)

# Wrong answers are taken from the same realm where they can be had: "a bird" for a fish, not for a science.
REALMS = [
    {"bird", "fish", "insect", "reptile", "mammal", "body part"},
    {
        "garment", "vehicle", "musical instrument", "building", "tool", "container", "piece of furniture", "room",
        "fabric", "metal",
    },
    {"emotion", "sport", "science", "game", "dance", "unit of time", "meal", "relative"},
    {"tree", "flower", "fruit", "vegetable", "drink", "color"},
]  # fmt: skip
# A member of one may well pass for a member of another, so they never stand against each other.
CONFUSABLE_KINDS = [
    {"tree", "flower", "fruit", "vegetable", "color", "drink"},
    {"garment", "fabric"}, {"container", "tool", "vehicle", "metal", "piece of furniture"}, {"building", "room"},
    {"game", "sport", "dance"}, {"meal", "bird", "fish", "mammal", "vegetable", "fruit", "drink"},
    {"game", "bird", "fish", "mammal"}, {"musical instrument", "metal", "tool"}, {"metal", "color"},
]  # fmt: skip

# Word, a word close to it, its opposite: all three from WordNet (synonym or neighbour, antonym), the pick by hand.
CLOSE_AND_OPPOSITE = [
    tuple(line.split())
    for line in """
    exclude omit include
    hide conceal show
    internal inner external
    dirty soiled clean
    full filled empty
    capable able incapable
    ill sick well
    forbid prohibit permit
    subtract deduct add
    difficult hard easy
    general broad specific
    personal private impersonal
    possible feasible impossible
    unusual odd usual
    victory triumph defeat
    refuse decline accept
    uncommon rare common
    disappear vanish appear
    relevant pertinent irrelevant
    distrust suspect trust
    admit acknowledge deny
    strange unusual familiar
    other different same
    superficial shallow profound
    buy purchase sell
    agree concur disagree
    decrease lessen increase
    relative comparative absolute
    attract draw repel
    unconcerned indifferent concerned
    busy engaged idle
    rarely seldom often
    permit allow forbid
    continue proceed discontinue
    weak feeble strong
    wholly completely partly
    different distinct same
    mild gentle intense
    popular fashionable unpopular
    close shut open
    cheap inexpensive expensive
    informal casual formal
    stable firm unstable
    wet damp dry
    constructive creative destructive
    discontinue stop continue
    expected anticipated unexpected
    careless heedless careful
    incomplete partial complete
    fortunate lucky unfortunate
    patient tolerant impatient
    unhappy miserable happy
    far distant near
    invisible unseen visible
    tie bind untie
    foolish absurd wise
    steep abrupt gradual
    suffer endure enjoy
    complete full incomplete
    sudden abrupt gradual
    dark dim light
    rush hasten linger
    passive inactive active
    separate detached joint
    aware conscious unaware
    wide broad narrow
    necessary essential unnecessary
    inside interior outside
    stay remain change
    definite certain indefinite
    shut closed open
    repair mend break
    usual regular unusual
    likely probable unlikely
    complex intricate simple
    fancy elaborate plain
    recede retreat advance
    free release confine
    unfamiliar strange familiar
    frivolous trivial serious
    strengthen fortify weaken
    begin commence end
    incapable unable capable
    careful thorough careless
    succeeding following preceding
    end finish begin
    uneven irregular even
    often frequently rarely
    finite limited infinite
    potential possible actual
    round circular square
    stop halt start
    quickly rapidly slowly
    disagree differ agree
    insufficient inadequate sufficient
    clarity clearness obscurity
    many numerous few
    sufficient adequate insufficient
    arrive come leave
    infinite endless finite
    uncertain doubtful certain
    artificial fake natural
    objective impersonal subjective
    minor secondary major
    fast quick slow
    softly quietly loudly
    succeed win fail
    outward external inward
    backward rearward forward
    """.split("\n")
    if line.strip()
]

ACTIONS = [
    tuple(pair.split())
    for pair in """
    open door, close window, paint fence, wash car, write letter, read book, sing song, draw map, break cup,
    build bridge, cook dinner, bake bread, fix bicycle, plant tree, water garden, cut grass, fold shirt, pack suitcase,
    drive truck, climb mountain, cross river, visit museum, call doctor, answer question, buy ticket, sell house,
    lose key, find coin, hide present, send package, bring umbrella, carry box, lift table, push cart, pull rope,
    throw stone, hold ladder, drop plate, fill bottle, empty bucket, pour milk, drink coffee, eat apple, peel orange,
    boil egg, fry potato, melt butter, stir soup, taste sauce, order pizza, pay bill, count money, save photo,
    print page, type report, sign contract, study lesson, teach class, learn language, tell story, choose hat,
    wear jacket, tear paper, sew button, iron dress, sweep floor, clean kitchen, mop hall, dust shelf,
    feed dog, brush cat, train parrot, watch movie, play guitar, record interview, give speech, make cake, hear noise,
    see ship, meet neighbor, help stranger, thank nurse, greet guest, invite friend, follow road, leave office,
    enter room, reach station, miss bus, park van, rent boat, light candle, ring bell, lock gate, mend sock, load wagon,
    move piano, plan trip, start engine, stop machine, test battery, check list, win prize, design poster, shake carpet,
    freeze fish, grow rose, pick flower, sharpen pencil, measure desk, weigh melon
    """.split(",")
]

BELONGINGS = """
    ladder hammer umbrella bicycle camera tent lamp drill shovel rake bucket blanket suitcase backpack guitar keyboard
    laptop charger calculator dictionary atlas map notebook stapler ruler compass telescope flashlight lantern kettle
    toaster blender cookbook raincoat scarf helmet jacket coat wallet passport badge phone tablet headset microphone
    speaker projector printer scanner mirror hairbrush thermometer stopwatch clock watch necklace bracelet wrench
    screwdriver pump trailer wheelbarrow hose ladle teapot cooler basket tray folder manual key planner textbook
    costume sled canoe kayak paddle surfboard skateboard snowboard racket whistle drum violin trumpet flute harmonica
    tripod easel paintbrush pencil bag broom mop towel sweater vest
    """.split()

PRODUCTS = """
    soup pizza sandwich salad steak cake cookie pie hotel restaurant cafe movie novel album concert musical podcast
    magazine newspaper puzzle toy sofa chair mattress pillow carpet curtain heater fan oven stove dishwasher toothbrush
    shampoo soap perfume lotion sunscreen shirt dress boot sandal glove hat belt purse tea coffee juice lemonade yogurt
    cheese sausage cereal muffin pancake burger app website course seminar museum zoo aquarium park gym cruise taxi
    bakery bookshop library theater stadium garden tour recipe bike scooter car tire desk bench shelf cabinet freezer
    grill mug plate bowl fork blade razor comb brush
    """.split()

# Every text of one list has a text of about its length in the other.
POLITE = [
    "Could you please lend me your {word} for a day?",
    "Would you mind lending me your {word} today?",
    "May I borrow your {word} for a little while, please?",
    "I would be very grateful if I could use your {word}.",
    "Would it be possible to borrow your {word} tonight?",
    "Excuse me, might I use your {word} for an hour?",
]
RUDE = [
    "Give me your {word}. I need it, and I need it now.",
    "I want your {word} right now, so hand it over.",
    "Hand me that {word} of yours and be quick about it.",
    "I'm taking your {word}. You don't need it anyway.",
    "Stop talking and get me your {word} this minute.",
    "Hey you, your {word}, now, and no excuses!",
]
PRAISE = [
    "This {word} is one of the best I have ever come across.",
    "I would choose this {word} again without a second thought.",
    "Everything about this {word} is a pleasure. Well done!",
    "The {word} was better than we hoped, and worth every cent.",
    "What a lovely {word}! I have told all my friends about it.",
]
COMPLAINT = [
    "This {word} is one of the worst I have ever come across.",
    "I would never choose this {word} again, not even for free.",
    "Everything about this {word} is a nuisance. Do better!",
    "The {word} was worse than we feared, and a waste of money.",
    "What a dreadful {word}! I have warned all my friends of it.",
]
NEWS = {  # event -> (formal, casual)
    "lost": (
        ["I regret to inform you that I have lost the {word}.", "I must report the loss of the {word}, with regret."],
        ["Ugh, so I've gone and lost the {word}, sorry about that!", "Oops, can't find the {word} anywhere, gone!"],
    ),
    "broke": (
        ["I apologize sincerely for having damaged the {word}.", "It is my duty to report that I broke the {word}."],
        ["Oh no, I totally smashed the {word}, my bad!", "So yeah, I kinda broke the {word}, don't be mad!"],
    ),
    "found": (
        ["I am pleased to inform you that the {word} was found.", "I wish to report that I have located the {word}."],
        ["Guess what, I just found the {word}, how cool is that!", "Yay, got the {word} back, it was here all along!"],
    ),
    "forgot": (
        ["Please accept my apologies for forgetting the {word}.", "I regret that I failed to bring the {word} along."],
        ["Argh, I left the {word} at home again, silly me!", "Whoops, totally forgot the {word}, what a day!"],
    ),
}  # fmt: skip
