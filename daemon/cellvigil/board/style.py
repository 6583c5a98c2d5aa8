"""How the page at / looks: system fonts, light or dark as the reader's screen asks, no file from anywhere.

Tints of wells: one hue, darker (in the dark: stronger) by steps, so that the colour-blind see them, too. Each tint's
text stands out by 4.5 to 1 or more (WCAG 2.1, 1.4.3).
"""

TINTS_LIGHT = ("#ffffff", "#fdf0e2", "#fbdcbb", "#f6bd84", "#ea9048", "#a84300")
TINTS_DARK = ("#0d1117", "#2b1d12", "#472a12", "#6b3a10", "#8f4a0c", "#e08a4a")
INKS_LIGHT = (*("#1b1f23",) * 5, "#ffffff")
INKS_DARK = (*("#e6edf3",) * 5, "#0d1117")


def _tints(tints: tuple[str, ...], inks: tuple[str, ...]) -> str:
    """The variables --t0, --i0, ..."""
    pairs = enumerate(zip(tints, inks, strict=True))
    return " ".join(f"--t{step}: {tint}; --i{step}: {ink};" for step, (tint, ink) in pairs)


STYLE = (
    f"""
:root {{ color-scheme: light dark; --ink: #1b1f23; --paper: #ffffff; --line: #d0d7de; --soft: #57606a;
  --link: #0059a8; --bad: #b03a00; --control: #0072b2; {_tints(TINTS_LIGHT, INKS_LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --soft: #9da7b3;
  --link: #6cb6ff; --bad: #ff9a5c; --control: #56b4e9; {_tints(TINTS_DARK, INKS_DARK)} }} }}
* {{ box-sizing: border-box; }}
"""
    + "".join(f".s{step} {{ background-color: var(--t{step}); color: var(--i{step}); }}\n" for step in range(6))
    + """
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 90rem;
  margin: 0 auto; padding: 0 1rem 4rem; overflow-wrap: anywhere; }
a { color: var(--link); }
header { display: flex; gap: 0 1rem; align-items: baseline; flex-wrap: wrap; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.4rem; margin: .6rem 0; } h2 { font-size: 1.1rem; margin: 1.4rem 0 .4rem; } p { margin: .3rem 0; }
strong { padding: .1rem .6rem; border-radius: 1rem; color: #fff; white-space: nowrap; }
strong.fine { background: #00795a; } strong.warning { background: #8a5a00; } strong.critical { background: #b03a00; }
strong.out { background: #57606a; font-size: .85rem; }
.note, small, figcaption { color: var(--soft); font-size: .85rem; }
ul { list-style: none; padding: 0; margin: 0; }
li { border-left: 4px solid var(--line); padding: .15rem .6rem; margin: .2rem 0; }
li.critical { border-color: #d55e00; } li.warning { border-color: #e69f00; } li.info { border-color: #0072b2; }
td.critical { color: var(--bad); font-weight: bold; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } .list { overflow-wrap: normal; }
.list th, .list td { text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0; max-width: 22rem; }
.list td { white-space: nowrap; }
.list td:first-child { white-space: normal; min-width: 8rem; overflow-wrap: anywhere; }
.list th { color: var(--soft); font-weight: normal; border-bottom: 1px solid var(--line); }
figure { margin: 0; } figure img { max-width: 100%; max-height: 70vh; display: block; border: 1px solid var(--line); }
.plate { table-layout: fixed; width: 100%; } .c3, .c4, .c6, .c8 { max-width: 48rem; }
.plate th { color: var(--soft); font-weight: normal; font-size: .8rem; padding: 0; width: auto; }
.plate tr > th:first-child { width: 1.6rem; }
.plate td { border: 1px solid var(--line); padding: .1rem .25rem; height: 2.5rem; overflow: hidden;
  vertical-align: top; }
.well { font-size: .8rem; line-height: 1.3; cursor: default; white-space: nowrap; }
.well b { font-weight: normal; } .well u { text-decoration: none; margin-left: .15rem; }
.well span { float: right; font-weight: bold; }
.well i { clear: both; display: block; height: .5rem; background: var(--line); margin-top: .1rem; }
.well.onset { outline: 2px solid var(--ink); outline-offset: -2px; }
.well.control { box-shadow: inset 0 4px 0 var(--control); padding-top: 4px; }
.well.blank { color: var(--soft); border-style: dashed; }
.well.doubt { background-image: repeating-linear-gradient(135deg, transparent 0 5px, rgba(128,128,128,.4) 5px 7px); }
.well:focus { outline: 2px solid var(--link); }
.well[data-told]:hover::after, .well[data-told]:focus::after { content: attr(data-told); position: fixed; z-index: 1;
  right: .5rem; bottom: .5rem; max-width: calc(100vw - 1rem); max-height: 90vh; overflow: hidden; padding: .5rem .8rem;
  white-space: pre-wrap; font-size: .85rem; line-height: 1.4; text-align: left; color: var(--ink);
  background: var(--paper); border: 2px solid var(--soft); border-radius: .4rem; box-shadow: 0 2px 12px #0006; }
.wells { display: flex; flex-wrap: wrap; gap: .3rem; }
.wells .well { border: 1px solid var(--line); min-width: 6rem; max-width: 100%; padding: .1rem .25rem;
  white-space: normal; }
.wells .well span { margin-left: .5rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; } .legend span { max-width: 100%; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem; vertical-align: -1px; }
.marks .well { width: auto; min-width: 1.3rem; height: 1.3rem; padding: 0 .25rem; margin: 0; text-align: center;
  border: 1px solid var(--line); font-style: normal; font-size: .75rem; vertical-align: middle; line-height: 1.3rem; }
.marks .well.blank { border: 1px dashed var(--soft); }
footer { margin-top: 2rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; }
.c24 .well { font-size: .7rem; } .c24 td { padding: .1rem; } .c24 .well u, .c48 .well b, .c48 .well u { display: none; }
.c48 td { padding: 0 .1rem; } .c48 .well span { font-size: .65rem; }
@media (max-width: 1000px) { .c12 .well u { display: none; } }
@media (max-width: 1300px) { .c24 .well b { display: none; } .c48 .well span { display: none; } }
@media (max-width: 800px) {
  .c12 .well b, .c24 .well span, .c48 .well i { display: none; } .c12 td { padding: .1rem; }
  .c24 .well i { margin: 0; height: .35rem; } .c24 td { height: 1.3rem; padding: 1px; }
  .c48 td { height: .8rem; padding: 0; }
}
@media (max-width: 500px) {
  body { padding: 0 .5rem 4rem; }
  .c12 .well u { display: none; } .c12 td { height: 2.1rem; } .c12 .well { font-size: .7rem; }
  .plate th { font-size: .6rem; } .plate tr > th:first-child { width: .9rem; } .c24 th, .c48 th { font-size: .5rem; }
  .c24 .well.onset, .c48 .well.onset { outline-width: 1px; outline-offset: -1px; }
  .c48 .well.control, .c24 .well.control { box-shadow: inset 0 2px 0 var(--control); padding-top: 2px; }
}
"""
)
