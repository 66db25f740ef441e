"""Numbers as people read them."""


def counted(number: int, what: str) -> str:
    """1 item, 2,000 items."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def percent(share: float) -> str:
    """71.5 %."""
    return f"{100 * share:.1f} %"
