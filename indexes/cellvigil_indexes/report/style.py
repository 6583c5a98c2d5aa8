"""How the page looks: light, legible, printable; the reader's own fonts."""

STYLE = """
:root{--ink:#1d2429;--soft:#56646e;--line:#dde3e7;--back:#f5f7f8;--accent:#0b5c8a;--warn:#8a4b00}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;color:var(--ink);
background:var(--back)}
header,main,footer{max-width:1080px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:27px;line-height:1.25;margin:0;overflow-wrap:anywhere}
h1 em{font-style:normal;color:var(--accent)}
h2{font-size:20px;margin:0 0 14px}
h3{font-size:15.5px;margin:22px 0 8px}
header p,.note,footer,figcaption,caption{color:var(--soft);font-size:13px}
header p{margin:4px 0 14px;overflow-wrap:anywhere}
nav ol{list-style:none;display:flex;flex-wrap:wrap;gap:6px;margin:0 0 18px;padding:0}
nav a{display:block;padding:3px 11px;border:1px solid var(--line);border-radius:14px;background:#fff;font-size:13px;
text-decoration:none}
a{color:var(--accent)}
a:focus-visible,.wide:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.skip{position:absolute;left:-9999px}
.skip:focus{left:8px;top:8px;background:#fff;padding:6px}
section{background:#fff;border:1px solid var(--line);border-radius:8px;padding:22px 24px;margin:0 0 18px}
p{margin:0 0 10px;max-width:78ch}
.note{margin-top:8px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin-bottom:16px}
.tiles div{border:1px solid var(--line);border-radius:6px;padding:10px 12px}
.tiles b{display:block;font-size:22px;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft);font-size:13px}
.warn{border-left:4px solid #e69f00;background:#fff8ea;padding:10px 14px;margin-bottom:16px}
.warn b{color:var(--warn)}
.warn ul{margin:4px 0 0;padding-left:20px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:0 0 14px;max-width:100%}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:0 0 5px;caption-side:top}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;text-align:left;overflow-wrap:break-word;max-width:26em}
thead th{color:var(--soft);font-weight:500;border-bottom:1px solid #9aa7b0;text-align:right}
thead th:first-child{text-align:left}
.words td,.words thead th{text-align:left}
td{overflow-wrap:anywhere;max-width:40em}
.heat td{min-width:52px;text-align:center;border:1px solid #fff}
.heat thead th{text-align:center;max-width:9em;font-size:12.5px}
.bar{display:inline-block;height:9px;background:#9cc3da;border-radius:2px;vertical-align:middle;margin-right:4px}
figure{margin:0 0 12px}
figure svg{max-width:100%;height:auto;display:block}
.grid{display:flex;flex-wrap:wrap;gap:12px 22px;align-items:flex-start}
.grid figure{max-width:min(100%,313px)}
.grid .wide{flex:0 1 auto}
.scores figure{max-width:min(100%,190px)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 18px;margin:0 0 10px;padding:0;font-size:13.5px}
.legend li{overflow-wrap:anywhere}
.cells{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr));gap:4px 26px}
.cells h3{margin:10px 0 4px;overflow-wrap:anywhere}
.cells figure{margin:0 0 4px}
img{display:block;border-radius:3px}
img.strip{max-width:100%;height:auto}
.example{display:grid;grid-template-columns:92px 215px repeat(5,minmax(0,1fr));gap:10px;padding:11px 0 3px;
border-top:1px solid var(--line);align-items:start}
.example figure{margin:0;min-width:0}
.example figcaption{line-height:1.35;margin-top:3px;overflow-wrap:anywhere}
.example figcaption b,.example figcaption span{display:block}
.example figcaption b{color:var(--ink);font-weight:600}
.name{font-size:11px}
.query img{outline:3px solid #9aa7b0;outline-offset:1px}
.wrong .query img{outline-color:#d55e00}
.right .query img{outline-color:#0072b2}
.mark{display:inline-block;font-size:12px;font-weight:600;color:#fff;border-radius:9px;padding:0 9px;margin-bottom:4px}
.mark.wrong{background:#b34700}
.mark.right{background:#0072b2}
.facts dl{gap:0 10px;font-size:13px;line-height:1.4}
details{margin:6px 0 12px}
summary{cursor:pointer;color:var(--accent)}
code{background:var(--back);border:1px solid var(--line);border-radius:4px;padding:1px 6px}
footer{padding-bottom:30px}
@media (max-width:760px){.example{grid-template-columns:repeat(3,minmax(0,1fr))}}
@media print{body{background:#fff;font-size:11pt}section{border:0;padding:0;margin:0 0 16pt}
nav,.skip{display:none}figure,.example,tr{break-inside:avoid}h2,h3{break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
