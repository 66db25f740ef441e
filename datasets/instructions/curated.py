"""Choices made by hand for build.py: what reading the rows by eye left out, and the few lists that no package holds."""

# Families that are form more than knowledge: a small model learns most of them in a few hundred rows of LoRA.
QUICK_FAMILIES = (
    "past_tense", "past_participle", "ing_form", "plural", "adverb", "upper_case", "pick_word", "part_of_speech",
)  # fmt: skip

# Several standard forms are in use, or the listed one is regional.
UNSURE_VERB = frozenset(
    """
    awake bear beat benefit bid boycot bus but can centrifuge combat fit focus forego format further gas get hang
    illumine input kidnap lie long mass mortar offset ordain preach program quit rid spare spit sweat term tire
    underlie wed wet worship
    """.split()
)
UNSURE_PLURAL = frozenset(
    """
    abscissa addendum agendum alveolus antenna apparatus appendix aquarium archipelago architecture artillery
    aurora automaton axis beau beef bream bronc brother buckskin buffalo bureau cactus cargo carp census chapeau
    charisma cherub clitoris cod codex consortium corpus cortex counsel curriculum data datum decor die dive
    divinity dogma drama drygoods dwarf edema elk emphasis extremum fauna finery fish flora flounder focus footing
    formula forum freight ganglion generalist genius genus ghetto goy graffiti graffito grouse gymnasium half
    handspike hippopotamus hoof impetus incubus index jimdandy lacuna leftfield lemma lumen mackerel man matrix
    maximum means medium memorandum merchandise minimum minuteman minutia miss momentum mongoose mulch nebula
    neurosis nova nucleolus octopus optimum opus ovum penny person phalanx phylum pike plateau platypus pro
    pyrometer quirt referendum repertory rightfield roof rostrum salmon scarf scenery schema scrotum self seraph
    shrimp soma sonar sonny spectrum squid stadium staff stamen stigma stoma stylus subjectivist succubus syllabus
    symposium tableau testis that this tornado trauma trout tuna upstairs uterus vertex veto viscus vita volcano
    vortex wash weave welfare wharf whiting woman
    """.split()
)
SAME_IN_PLURAL = frozenset(
    """
    aircraft bison deer moose offspring reindeer series sheep spacecraft species
    """.split()
)
# Common, in the tables of the package under a form that nobody doubts, and worth having.
SURE_PLURAL = frozenset(
    """
    axis half man tornado veto volcano woman
    """.split()
)

NOT_COUNTABLE = frozenset(
    """
    accommodation ammunition art barracks cannon canvas cattle cloth clothes clothing cotton denim dope drug
    equipment fabric fiction footwear furniture gear gin glass glasses hardware headquarters heating housing jeans
    jewelry kin leather lighting linen livestock lumber machinery masonry material media medicine music pants
    paper people plastic plumbing poetry police pottery poultry property remains scissors sheep shorts silk
    software stairs steel stuff trouser trousers underwear ware weaponry wire wiring wood wool works yarn youth
    """.split()
)

# Frequent in WordNet's tagged texts (science, history, sport), rare in speech; or with an odd first sense.
UNCOMMON = frozenset(
    """
    anode antibody antigen antithyroid aqueous artillery babe ballplayer being biomedicine bodybuilder bronchiole
    brood buckskin camper camping cathode claimant claret columbine continuing contralto corps cortical
    cottonmouth darned date diarrhea dictum divan drinking ecumenical electoral entitled fawn feedlot fig
    gabardine gentian girlish gradient greatcoat hereinafter heretofore histology infirmary instal insure ironical
    isotropic lagoon larger leafhopper lesser linguist locker lyric mama mamma marketing men micelle millidegree
    mimesis min mommy musketry neocortex nilpotent nonspecific ocher orthography papa paramagnetic pegboard
    perverse petitioner phosphate preacher privy procurement reactivity redcoat registrant relations rightfield
    russet sake saline selling services sewage shantung slit smaller someone sonar stimulus stolid subspace
    tactual tangent theatre theologian theorem thermocouple thyroxine tracing trustee tsunami utopian vector
    vertex wooden workbench works years
    """.split()
)

# The stress is on the last syllable, so its consonant doubles: incurring, beginning.
STRESSED_END = frozenset(
    """
    abet abut acquit admit allot begin commit concur confer defer deter emit equip forbid forget incur infer occur
    omit outrun permit prefer rebut recur refer regret rerun submit transfer transmit unpin upset
    """.split()
)

# The adverb means something else than "in that way", or nobody says it.
UNSURE_ADVERB = frozenset(
    """
    accident actual bad bare big causal clean clear close consequent daily dead dear deep diffuse direct distal
    due early easy electric even eventual fair fast first flat former full gingerly good great hard high hot ill
    incident intent just large last late lengthwise light like live loud low lowering mere monthly most near one
    only optical other otherwise pictorial practical present pretty previous quavering quick ready right scarce
    second seeming semantic sharp short slanting slow sole straight subsequent such sure thick third tight
    ultimate virtual weekly west whole wide wrong
    """.split()
)

UNSURE_ANTONYM = frozenset(
    """
    Christian ability actor actress animal aunt be black boy brother capitalism cathode child conservative
    continual daughter delicate deprive devil differ do employee employer enrich equal ever father female fewer
    figurative first follower foreign forget gather generalist girl god have he heaven hell her his host hostess
    husband ignore kill king know land large last leader left liberal lie like little long look make male man
    manage married mother native never new nonnative old orthodox parent person plant profane queen religious
    right rise rugged sacred save sea secular she short single sister sit socialism son sporadic spread stand
    student stupidity supernatural teacher thing think uncle unite unlike virgin white wife woman
    """.split()
)

# Classes whose members people name in everyday speech: WordNet noun (its first sense is meant) -> answer.
CLASSES = {
    "bird": "bird", "fish": "fish", "insect": "insect", "reptile": "reptile", "mammal": "mammal", "tree": "tree",
    "flower": "flower", "edible_fruit": "fruit", "vegetable": "vegetable", "beverage": "drink", "garment": "garment",
    "vehicle": "vehicle", "musical_instrument": "musical instrument", "building": "building", "tool": "tool",
    "container": "container", "furniture": "piece of furniture", "body_part": "body part", "metallic_element": "metal",
    "chromatic_color": "color", "emotion": "emotion", "sport": "sport", "relative": "relative", "room": "room",
    "fabric": "fabric", "game": "game", "dance": "dance", "meal": "meal", "natural_science": "science",
    "time_unit": "unit of time",
}  # fmt: skip
UNSURE_KIND = frozenset(
    """
    applejack boiler cab cabin cards chocolate chrome citrus cockpit coral day dispensary dynamics escritoire
    fauteuil forefather fowl gamecock john knit manor medicine min morphology morrow oilcloth parent percolator
    pew pleura poignancy rattler rumen sec sepia sloe speakeasy sulky towel toweling triphammer tumbling tungsten
    velours verbena vermouth wheelchair woolen workbench yesterday yoke
    """.split()
)
BRITISH_ELEMENTS = frozenset(("aluminium", "caesium"))  # the other families spell the American way
UNSURE_SYNONYM = frozenset(
    """
    average demand derive detect endeavor endeavour evidence live matter move need philosophy plain plant prompt
    result snap thicket total twist
    """.split()
)
UNSURE_DEFINITION = frozenset(
    """
    adhere affirm beg builder cooperate disease distribute feeding fellow grim hot immediacy insure introduce
    involved life lighted lose odd personnel reduced relation sidewalk underlie usage vitality
    """.split()
)
UNSURE_GAP = frozenset(
    """
    all blue body corner dispute far much offspring out respect slot suspect third
    """.split()
)
UNSURE_PART = frozenset(
    """
    above across along anymore around badness before behind below beyond broken cent doubtless hereby however
    inside namely outside percent quite since therefore though through throughout underway within without yes yet
    """.split()
)
NUM_ELEMENTS = 103  # later ones are known to few

COMPARATIVES = {
    "angry": "angrier", "big": "bigger", "bold": "bolder", "brave": "braver", "brief": "briefer", "bright": "brighter",
    "broad": "broader", "busy": "busier", "calm": "calmer", "cheap": "cheaper", "clean": "cleaner", "clear": "clearer",
    "close": "closer", "cloudy": "cloudier", "clumsy": "clumsier", "coarse": "coarser",
    "cold": "colder", "cool": "cooler", "cozy": "cozier", "crazy": "crazier", "creamy": "creamier", "crisp": "crisper",
    "curly": "curlier", "damp": "damper", "dark": "darker", "dear": "dearer", "deep": "deeper", "dense": "denser",
    "dirty": "dirtier", "dry": "drier", "dull": "duller", "dusty": "dustier", "early": "earlier", "easy": "easier",
    "faint": "fainter", "fair": "fairer", "fast": "faster", "few": "fewer", "fierce": "fiercer",
    "fine": "finer", "firm": "firmer", "flat": "flatter", "foggy": "foggier", "fresh": "fresher",
    "friendly": "friendlier",
    "full": "fuller", "funny": "funnier", "gentle": "gentler", "good": "better", "bad": "worse", "grand": "grander",
    "gray": "grayer", "great": "greater", "greasy": "greasier", "greedy": "greedier", "green": "greener",
    "guilty": "guiltier", "hairy": "hairier", "happy": "happier", "hard": "harder", "harsh": "harsher",
    "healthy": "healthier", "heavy": "heavier", "high": "higher", "hot": "hotter", "humble": "humbler",
    "hungry": "hungrier", "icy": "icier", "juicy": "juicier", "keen": "keener", "kind": "kinder", "large": "larger",
    "late": "later", "lazy": "lazier", "light": "lighter", "lively": "livelier", "lonely": "lonelier", "long": "longer",
    "loose": "looser", "loud": "louder", "lovely": "lovelier", "low": "lower", "lucky": "luckier", "mad": "madder",
    "mild": "milder", "muddy": "muddier", "narrow": "narrower", "neat": "neater", "new": "newer",
    "nice": "nicer", "noble": "nobler", "noisy": "noisier", "pale": "paler", "plain": "plainer", "poor": "poorer",
    "pretty": "prettier", "proud": "prouder", "pure": "purer", "quick": "quicker", "quiet": "quieter", "rare": "rarer",
    "raw": "rawer", "rich": "richer", "ripe": "riper", "rough": "rougher", "round": "rounder", "rude": "ruder",
    "sad": "sadder", "safe": "safer", "salty": "saltier", "scary": "scarier", "shallow": "shallower",
    "sharp": "sharper", "shiny": "shinier", "short": "shorter", "shy": "shyer", "silly": "sillier", "simple": "simpler",
    "sleepy": "sleepier", "slim": "slimmer", "slow": "slower", "small": "smaller", "smart": "smarter",
    "smooth": "smoother", "soft": "softer", "sore": "sorer", "steady": "steadier", "steep": "steeper",
    "sticky": "stickier", "stiff": "stiffer", "strange": "stranger", "strict": "stricter", "strong": "stronger",
    "sunny": "sunnier", "sweet": "sweeter", "tall": "taller", "tame": "tamer", "tasty": "tastier", "thick": "thicker",
    "thin": "thinner", "tidy": "tidier", "tight": "tighter", "tiny": "tinier", "tough": "tougher",
    "vast": "vaster", "warm": "warmer", "weak": "weaker", "wealthy": "wealthier", "wet": "wetter",
    "wide": "wider", "wild": "wilder", "windy": "windier", "wise": "wiser", "worthy": "worthier", "young": "younger",
}  # fmt: skip

# Rude senses that WordNet marks itself: these stems are looked for in the whole gloss of a word.
MARKED_AS_RUDE = ("offensive", "obscen", "vulgar", "slur", "disparag", "derogat", "ethnic", "racial", "racis")

# Nothing about sex, slurs, violence, drugs, death or faith belongs into a demo: stems looked for in words and glosses.
SENSITIVE_STEMS = tuple(
    """
    abort addict alcohol anal anus assassin bible bomb bosom breast buri buttock castrat christ church cocaine
    coffin concubine contempt copulat corpse crime criminal crucif curse damn dead death defec devil die disparag
    drug drunk ejacul epilep erotic excre execut fascis feces fugitiv genital gentile god grave gun hang harlot
    heaven hell heroin incest insane intercourse islam kill liquor lunatic lust massacre menstru mistress murder
    muslim mutilat naked nazi nude obscen offensive opium orgasm penis police pope porn pregnan priest primitive
    prostitut racial racis religio satan seduc semen sex sin slaughter slave slay slur suicid terror tortur urin
    vagina virgin vulgar war weapon whisk womb
    """.split()
)
HARMLESS = frozenset(
    """
    analysis analyst analyze audience award aware basin begun blackberry blackbird blackboard business change
    changed cousin deadline diet good goods gradient greeting hanger hardware hello indie reward shell shellfish
    since sincere sincerely sing singer singing single sinister sink sister situation software studied toward
    using ward wardrobe ware warehouse warm warmly warmth warn warning warrant
    """.split()
)
DENIED_WORDS = frozenset(
    """
    abuse angel army assault atheist attack ball balls bang battle beat beaver bed beer black bleed blind blood
    bloody blow brandy burial bury bust cancer cannon capitalist cemetery champagne choke cigar cigarette climax
    cocktail communism communist congressman dagger deaf democrat drown dumb dwarf enemy evil fascism fascist fat
    female fight fighter funeral gas gay gin hate hatred holy hump hurt jail jew jewish knife laid lame lay
    leprosy lover male master member military missile mount mute navy nut organ pathological pathology period
    pistol poison pray prayer prison race republican revolver ride rifle rob rubber rum sacred saint senator shaft
    shoot shot smoke soldier soul spear spirit stab steal strangle stupid suck surgery sword syphilis thief
    tobacco tomb torture tragedy tragic troop troops tumor ugly veteran victim violence violent vodka whisky white
    wine witch worship wound
    """.split()
)
