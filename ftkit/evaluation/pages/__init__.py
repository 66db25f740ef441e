"""Self-contained HTML pages and their charts, from the Jinja2 templates in this folder.

charts.py          Charts of a page as places in percent; and the loss curve as a PNG
naming.py          What a run is called: what was done, to which model, on which data
page.py            Self-contained HTML pages: escaped, light and dark, for any width and paper
report.py          OUT/report.html
"""
