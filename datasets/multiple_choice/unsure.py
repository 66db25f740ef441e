"""Words left out of the language subjects after reading the rows: another choice would do as well, or the first sense
surprises."""

DEFINITION = frozenset(
    """
    accept another become covered indirect length other resolution seeming sustain variation vision
    """.split()
)
SYNONYM = frozenset(
    """
    certify irony manifest satire spell trance
    """.split()
)
OPPOSITE = frozenset(
    """
    actual analyze cool dull heat keep lively lose potential reassure synthesize worry
    """.split()
)
PART = frozenset(
    """
    aerator autonomic sir
    """.split()
)
VERB = frozenset(
    """
    overrun
    """.split()
)
KIND = frozenset(
    """
    auto boucle covetousness deltoid dipper duct greens grievance herringbone hostelry levis lunchroom matron peacock
    poultry shipwreck sidewinder stall tomorrow
    """.split()
)
