"""Frame and style of report.html; light and dark follow the reader's system."""

# No script runs and nothing loads from elsewhere, even if a model's answer found a way into the markup.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content=\""""
    + POLICY
    + """\">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p class="note">{subtitle}</p>{tiles}</header>
{sections}
<footer>Made by ftkit.</footer>
</body>
</html>
"""
)

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5f6b7d; --line: #e1e5ec; --page: #f6f7f9; --card: #fff;
  --blue: #4c6ef5; --orange: #e8590c; --green: #d3f3da; --greenink: #1b5e2e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #9aa6b8; --line: #2c3442; --page: #12161d; --card: #1a202a;
    --blue: #748ffc; --orange: #ff922b; --green: #1f4429; --greenink: #b2f2bb; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 3rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 .25rem; font-size: 1.1rem; }
header { margin-bottom: 1.5rem; }
section { margin: 0 0 1.25rem; padding: 1.25rem 1.4rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.note { margin: 0 0 .9rem; color: var(--soft); }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; }
.tiles div { flex: 1 1 8rem; padding: .7rem .9rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.tiles b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles span { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top; }
tr + tr > * { border-top: 1px solid var(--line); }
th { font-weight: 600; }
.wide { overflow-x: auto; }
.results tr:first-child th { color: var(--soft); font-weight: 400; font-size: .85rem; }
.results td, .results th { vertical-align: middle; }
.results td { white-space: nowrap; }
.number { font-variant-numeric: tabular-nums; }
.strong { font-weight: 600; }
.figures { margin-left: .6rem; color: var(--soft); font-size: .85rem; font-variant-numeric: tabular-nums; }
.interval { vertical-align: middle; background: var(--page); border-radius: 2px; }
.bar { fill: var(--blue); opacity: .55; }
.whisker { stroke: var(--ink); stroke-width: 1.5; }
.chart { width: 100%; height: auto; }
.grid { stroke: var(--line); }
.tick { fill: var(--soft); font-size: 12px; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.train { stroke: var(--blue); } .line.eval { stroke: var(--orange); }
.dot.train { fill: var(--blue); } .dot.eval { fill: var(--orange); }
.legend { display: flex; gap: 1.25rem; font-size: .9rem; color: var(--soft); }
.key::before { content: ""; display: inline-block; width: 1.1rem; height: 3px; margin-right: .45rem;
  vertical-align: middle; border-radius: 2px; }
.key.train::before { background: var(--blue); } .key.eval::before { background: var(--orange); }
pre { margin: 0; font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.card { margin: 0 0 .75rem; padding: .8rem 1rem; background: var(--page); border: 1px solid var(--line);
  border-radius: 8px; }
.prompt { margin-bottom: .4rem; font-weight: 600; }
.step { width: 7rem; color: var(--soft); font-size: .85rem; white-space: nowrap; }
.right pre { color: var(--greenink); }
.right pre::before { content: "✓ "; }
mark { padding: .05em .1em; background: var(--green); color: var(--greenink); border-radius: 3px; }
.row span, .row mark { border-left: 1px solid var(--line); border-radius: 0; padding: .05em 0; }
.confusion { width: auto; }
.confusion td, .confusion th { padding: .45rem .9rem; text-align: right; font-variant-numeric: tabular-nums; }
.confusion .hit { background: color-mix(in srgb, var(--blue) calc(var(--share) * 60%), transparent); }
.confusion .miss { background: color-mix(in srgb, var(--orange) calc(var(--share) * 60%), transparent); }
.diagonal { stroke-dasharray: 4 4; stroke: var(--soft); }
.dot.eval { fill-opacity: .75; }
.facts th { width: 45%; font-weight: 400; color: var(--soft); overflow-wrap: anywhere; }
.facts td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
footer { color: var(--soft); font-size: .85rem; }
"""
