"""Many requests answered together, each by the version of the adapter that it was asked of.

request.py  What is asked, and what comes back
"""
