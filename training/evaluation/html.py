"""The frame of the HTML pages that evaluations give: style, light and dark, sections, pictures."""

from __future__ import annotations

import base64
import io

from PIL import Image

from training.data.dataset import Pixels

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1b18; --soft: #6b665e; --line: #e4e0d9;
  --own: #b8450f; --s1: #6f7682; --s2: #0f7f86; --s3: #6b4fbb;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --paper: #161513; --card: #1f1e1b; --ink: #efece6; --soft: #a49e93; --line: #37342f;
    --own: #f08a4b; --s1: #9aa3b2; --s2: #46bcc2; --s3: #ab95f0;
  }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}}
main {{ max-width: 1120px; margin: 0 auto; padding: 40px 24px 80px; }}
h1 {{ font-size: 34px; line-height: 1.15; margin: 0; letter-spacing: -.02em; }}
h2 {{ font-size: 21px; margin: 56px 0 4px; }}
p {{ color: var(--soft); max-width: 72ch; margin: 4px 0 16px; }}
small {{ color: var(--soft); font-size: 13px; font-weight: 400; }}
.tiles {{
  display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 1px;
  background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
  margin: 24px 0 8px;
}}
.tiles div {{ background: var(--card); padding: 14px 16px; }}
dt {{ color: var(--soft); font-size: 13px; }}
dd {{ margin: 0; font-size: 25px; line-height: 1.3; font-variant-numeric: tabular-nums; }}
dd small {{ display: block; }}
dt {{ white-space: nowrap; }}
.chart {{ width: 100%; max-width: 760px; height: auto; display: block; margin: 8px 0 16px; }}
.chart text {{ font-size: 12.5px; fill: var(--soft); }}
.chart .grid {{ stroke: var(--line); stroke-width: 1; }}
.series polyline {{ fill: none; stroke: var(--c); stroke-width: 2; }}
.series circle {{ fill: var(--c); stroke: var(--paper); stroke-width: 1.5; }}
.series text {{
  fill: var(--c); font-weight: 600; font-size: 13.5px;
  paint-order: stroke; stroke: var(--paper); stroke-width: 4px;
}}
.s0 {{ --c: var(--own); }} .s1 {{ --c: var(--s1); }}
.s2 {{ --c: var(--s2); }} .s3 {{ --c: var(--s3); }}
table {{
  border-collapse: collapse; margin: 0 0 20px; font-variant-numeric: tabular-nums; font-size: 15px;
}}
caption {{ text-align: left; color: var(--soft); padding-bottom: 6px; }}
th, td {{ padding: 5px 18px 5px 0; text-align: right; border-bottom: 1px solid var(--line); }}
th:first-child {{ text-align: left; font-weight: 600; }}
tr:first-child th {{ font-weight: 400; color: var(--soft); }}
td.note {{ text-align: left; color: var(--soft); font-size: 13px; }}
.bars td {{ white-space: nowrap; width: 240px; text-align: left; }}
.bars tr:first-child th {{ text-align: left; }}
.bar {{
  display: inline-block; height: 12px; width: calc(var(--share) * 170px); margin-right: 8px;
  background: var(--s1); border-radius: 0 3px 3px 0; opacity: .55;
}}
.bar.own {{ background: var(--own); opacity: 1; }}
.pictures {{
  display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 32px;
}}
figure {{ margin: 0; min-width: 0; align-self: start; }}
.swap {{
  position: relative; cursor: pointer; border-radius: 6px; overflow: hidden;
}}
.swap img {{ position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }}
.swap .before {{ opacity: 0; }}
.swap:hover .before, .swap:active .before, .swap:focus .before {{ opacity: 1; }}
.swap:hover .label.after, .swap:active .label.after, .swap:focus .label.after {{ opacity: 0; }}
.swap:focus-visible {{ outline: 3px solid var(--own); outline-offset: 2px; }}
.label {{
  position: absolute; left: 8px; top: 8px; padding: 1px 9px; border-radius: 99px;
  background: rgb(0 0 0 / .62); color: #fff; font-size: 12.5px;
}}
.crops {{ display: flex; gap: 8px; margin-top: 8px; }}
.crops div {{ flex: 1; min-width: 0; }}
.crops img {{ max-width: 100%; display: block; image-rendering: pixelated; border-radius: 4px; }}
figcaption {{ font-weight: 600; margin-top: 2px; }}
summary {{ cursor: pointer; }}
@media (max-width: 520px) {{
  main {{ padding: 24px 14px 60px; }}
  .pictures {{ grid-template-columns: 1fr; }}
  table {{ display: block; overflow-x: auto; }}
}}
</style>
</head>
<body>
<main>
<h1>{model}</h1>
<p>{subtitle}</p>
{body}
</main>
</body>
</html>
"""


def section(title: str, text: str, body: str) -> str:
    """A part of a page: a heading, a paragraph where there is one, and HTML."""
    lead = f"<p>{text}</p>" if text else ""
    return f"<section><h2>{title}</h2>{lead}{body}</section>"


def data_url(pixels: Pixels, *, lossless: bool = False) -> str:
    """uint8 `[h, w, 3]` as an inlined WebP; quality 95 unless lossless, since a page is heavy."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=95, lossless=lossless)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
