"""People and things of the problems. Every fourth of each list is for the test rows only (see problems.py)."""

LISTS = {
    "women": """
        Ada Alice Amina Anna Bella Carla Clara Dana Elena Emma Fatima Grace Hana Ines Iris Jana Julia Karen Lena Lily
        Maria Maya Mei Mina Nadia Nina Nora Olga Paula Priya Rosa Ruth Sara Sofia Tara Vera Yuki Zoe
    """.split(),
    "men": """
        Adam Ahmed Amir Ben Boris Carlos Chen Daniel David Diego Emil Eric Felix Finn George Hugo Ivan Jack James Jonas
        Kenji Leo Liam Luca Marco Max Milan Nico Noah Omar Oscar Pablo Paul Peter Ravi Sam Theo Tom Victor Yusuf
    """.split(),
    "things": """
        badges beads buttons cards coins dice feathers fossils marbles medals pebbles pins postcards ribbons shells
        stamps stickers tokens
    """.split(),  # collected
    "wares": """
        bookmarks bowls brushes candles crayons cups envelopes erasers keyrings magnets markers notebooks pencils pens
        plates puzzles rulers spoons whistles
    """.split(),  # made and sold
    "fruits": """
        apples apricots bananas carrots cucumbers figs lemons limes mangoes melons onions oranges peaches pears peppers
        plums potatoes tomatoes
    """.split(),
    "baked": "bagels biscuits brownies buns cookies cupcakes muffins pancakes pies pretzels rolls scones waffles".split(),
    "ingredients": "barley beans butter cheese flour lentils noodles oats pasta peas rice spinach sugar yogurt".split(),
    "goods": """
        backpack belt blanket cap clock cushion drum fan helmet jacket kettle lamp mirror rug scarf shirt sweater teapot
        tent toaster towel vase
    """.split(),
    "containers": "baskets boxes cartons crates jars packets sacks trays tins tubs".split(),
    "flowers": """
        asters carnations dahlias daisies irises lilies orchids pansies peonies petunias poppies primroses roses tulips
        violets zinnias
    """.split(),
    "places": """
        beach bridge camp castle forest harbor lake library mill museum park river school station stadium
        theater tower village zoo
    """.split(),
    "workplaces": "company factory foundry pottery studio workshop".split(),
    "jobs": "bakery cinema garage hotel laundry library museum sawmill shop warehouse".split(),
    "pets": "cat dog ferret hamster hedgehog parrot puppy rabbit tortoise".split(),
    "grazers": "calf cow donkey goat horse lamb llama mule pony sheep".split(),
}
