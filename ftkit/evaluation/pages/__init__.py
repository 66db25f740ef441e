"""Self-contained HTML pages and their charts.

classification.py  The part of report.html about a classifier
loss_chart.py      The loss curve of a run, as inline SVG for the report and as a PNG
report.py          OUT/report.html
style.py           Frame and style of report.html
"""
