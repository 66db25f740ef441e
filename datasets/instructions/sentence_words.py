"""Words of the sentence families: people, cities, actions, things, judgements. A hash gives each to one split."""

NAMES = """
    Agnes Albert Alicia Andrea Anton Beatrice Bernard Bettina Brenda Cecilia Claudia Conrad Cynthia Damian Deborah
    Dominic Edith Edmund Eleanor Elias Erika Esther Eugene Felicia Fiona Florian Frieda Gabriel Gerald Gregor Hannah
    Harriet Helga Henrik Ingrid Isabel Jerome Joanna Judith Julian Kamal Katrin Laura Leonard Linda Lorenz Louise Lydia
    Magnus Malcolm Marianne Martin Matthias Miriam Monica Nadine Natalie Nigel Norbert Oliver Pamela Patrick Philip
    Quentin Rachel Raymond Rebecca Roland Sabrina Samuel Sandra Sebastian Sigrid Silvia Simon Stefan Susan Sylvie
    Tobias Ulrich Ursula Valerie Vanessa Veronica Walter Wendy Wilfred Xavier Yasmin Yvonne
""".split()
SURNAMES = """
    Abbott Anderson Barnes Becker Bennett Brandt Carlson Castillo Chandra Dawson Delgado Doyle Eriksen Evans Fernandez
    Fischer Garcia Gibson Hansen Hoffman Hughes Ibrahim Jansen Jensen Kaplan Keller Kowalski Larsen Lindberg Lopez
    Martinez Meyer Moreno Murphy Nakamura Nielsen Novak Olsen Osborne Patel Petrov Quinn Ramirez Reynolds Rossi Santos
    Schmidt Silva Simmons Sorensen Suzuki Takahashi Tanaka Torres Vargas Wagner Watson Weber Wilson Yamada Zhang
""".split()
CITIES = """
    Antwerp Auckland Barcelona Bergen Bologna Bristol Calgary Casablanca Chicago Cologne Dallas Dresden Dundee Durban
    Florence Frankfurt Geneva Genoa Glasgow Gothenburg Hamburg Houston Istanbul Kyoto Lahore Leeds Leipzig Liverpool
    Lyon Manchester Marseille Melbourne Memphis Miami Montreal Mumbai Munich Naples Osaka Oxford Philadelphia Porto
    Rotterdam Salzburg Seattle Seville Shanghai Sydney Toronto Toulouse Turin Utrecht Valencia Vancouver Venice Verona
    Zurich
""".split()
# Base form, simple past, past participle of what anyone may do with any of the objects below.
VERBS = {
    verb: (past, participle)
    for verb, past, participle in (
        line.split()
        for line in """
            admire admired admired
            borrow borrowed borrowed
            bring brought brought
            carry carried carried
            catch caught caught
            choose chose chosen
            clean cleaned cleaned
            copy copied copied
            deliver delivered delivered
            describe described described
            draw drew drawn
            drop dropped dropped
            examine examined examined
            find found found
            fix fixed fixed
            forget forgot forgotten
            grab grabbed grabbed
            guard guarded guarded
            hide hid hidden
            inspect inspected inspected
            keep kept kept
            lift lifted lifted
            lose lost lost
            mention mentioned mentioned
            notice noticed noticed
            order ordered ordered
            pack packed packed
            paint painted painted
            photograph photographed photographed
            polish polished polished
            push pushed pushed
            repair repaired repaired
            replace replaced replaced
            return returned returned
            sell sold sold
            send sent sent
            sketch sketched sketched
            steady steadied steadied
            store stored stored
            study studied studied
            take took taken
            tie tied tied
            touch touched touched
            try tried tried
            turn turned turned
            watch watched watched
            weigh weighed weighed
            wrap wrapped wrapped
        """.strip().splitlines()
    )
}
# Things one can count, with a regular plural; "a" or "an" by their first letter.
OBJECTS = """
    anchor armchair balloon banner basket bell bench bicycle blanket boat bottle bowl bracelet bucket button cabinet
    camera candle canoe cart chair clock coat compass cradle crate crown cup curtain cushion desk drum easel
    engine fan flag flute fountain guitar hammer handbag harp helmet jacket jar jug kettle kite ladder lamp lantern
    letter lock magnet map mask medal mirror mug napkin necklace needle notebook oar ornament oven painting parcel
    pencil piano pillow plate puppet radio raft rope rug saddle scarf scooter shirt shovel sled sofa spoon statue
    stool stove suitcase sundial table tapestry teapot telescope tent ticket toolbox towel tractor tray trophy trumpet
    typewriter vase violin wagon wallet wheel whistle window wreath
""".split()
GOOD = """
    amazing brilliant charming comfortable convenient delightful elegant enjoyable excellent exquisite fabulous
    fantastic flawless gorgeous impressive lovely magnificent marvelous outstanding perfect pleasant reliable splendid
    sturdy superb terrific useful valuable wonderful
""".split()
BAD = """
    annoying appalling awful awkward broken clumsy crooked defective disappointing disgusting dreadful faulty filthy
    flimsy hideous horrible inferior lousy mediocre miserable ruined shabby shoddy terrible uncomfortable unpleasant
    unreliable unusable useless worthless
""".split()
