--- How the pages look: light and dark, on a phone, on paper.
return [[
:root {
  color-scheme:light dark; --page:#fff; --card:#f4f6f8; --text:#1b2126; --soft:#59636d; --line:#d5dbe1;
  --main:#1f6fc4; --other:#c2571a; --good:#17795c; --bad:#b3261e;
}
@media (prefers-color-scheme:dark) {
  :root {
    --page:#14181c; --card:#1e242a; --text:#e6eaee; --soft:#a3adb7; --line:#38424c; --main:#6cb0f5;
    --other:#f0975a; --good:#5cc8a4; --bad:#ff8a80;
  }
}
* { box-sizing:border-box }
body {
  margin:0 auto; max-width:70rem; padding:1rem; background:var(--page); color:var(--text);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; overflow-wrap:anywhere;
}
h1 { font-size:1.5rem; line-height:1.25; margin:.5rem 0 }
h2 { font-size:1.2rem; margin:2.2rem 0 .5rem }
h3 { font-size:1rem; margin:1.2rem 0 .3rem }
p { max-width:48rem; margin:.4rem 0 }
a { color:var(--main) }
.soft,small,caption { color:var(--soft) }
nav { margin:.6rem 0 }
nav a { margin-right:1em; white-space:nowrap; display:inline-block; padding:.2rem 0 }
.tiles {
  display:grid; grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr)); gap:.6rem; margin:1rem 0;
}
.tiles div { background:var(--card); border-radius:.5rem; padding:.6rem .8rem }
.tiles dt { color:var(--soft); font-size:.85rem }
.tiles dd { margin:0 }
.tiles strong { font-size:1.15rem }
.scroll { overflow-x:auto; margin:.6rem 0 }
.scroll:focus-visible { outline:2px solid var(--main) }
table { border-collapse:collapse; font-size:.9rem; min-width:100% }
caption { text-align:left; padding:.2rem 0 }
th,td {
  padding:.3rem .6rem; border-bottom:1px solid var(--line); text-align:left; vertical-align:top;
  overflow-wrap:normal;
}
thead th { color:var(--soft); font-weight:600; vertical-align:bottom }
tbody th { font-weight:500 }
.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap }
td.w { min-width:15rem }
td.c { min-width:9rem; width:40% }
pre {
  background:var(--card); border-radius:.5rem; padding:.8rem; margin:0;
  font:.82rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; min-width:100%; width:max-content;
}
details { margin:.4rem 0 }
summary { cursor:pointer; color:var(--main); padding:.2rem 0 }
details pre { white-space:pre-wrap; width:auto }
.best { color:var(--good); font-weight:600 }
.bad { color:var(--bad) }
figure { margin:.8rem 0 }
figcaption { font-size:.9rem; margin-bottom:.3rem }
.plot {
  display:grid; grid-template-columns:4.6rem 1fr; grid-template-rows:auto 1.6rem; column-gap:.4rem;
}
.plot svg {
  width:100%; height:min(20rem,60vw); min-height:12rem; display:block; grid-column:2;
  border-left:1px solid var(--line); border-bottom:1px solid var(--line);
}
.y,.x { position:relative; font-size:.78rem; color:var(--soft) }
.y span { position:absolute; right:0; transform:translateY(-50%); white-space:nowrap }
.x { grid-column:2 }
.x span { position:absolute; transform:translateX(-50%); top:.2rem; white-space:nowrap }
.x span:first-child { transform:none }
.x span:last-child { transform:translateX(-100%) }
svg .grid { stroke:var(--line); stroke-width:1 }
svg .dot { stroke:var(--main); stroke-width:7; stroke-linecap:round }
svg .dot.other { stroke:var(--other); stroke-width:10 }
svg .dot.pale { stroke:var(--soft); stroke-opacity:.55 }
svg .cross { stroke:var(--bad); stroke-width:2 }
svg .step { stroke:var(--main); stroke-width:2; fill:none }
svg .step.other { stroke:var(--other) }
svg * { vector-effect:non-scaling-stroke }
svg .bar { fill:var(--main); stroke:none }
svg .bar.other { fill:var(--other) }
svg .spread { stroke:var(--text); stroke-width:1.5 }
svg .zero { stroke:var(--soft); stroke-width:1 }
.strip { display:block; width:100%; min-width:8rem; height:1.3rem }
.strip.two { height:1.6rem }
.memory svg { height:min(24rem,80vw) }
svg .tensor { fill:var(--main); fill-opacity:.35; stroke:var(--main); stroke-width:1 }
.key {
  display:inline-block; width:.8em; height:.8em; border-radius:50%; background:var(--main);
  margin:0 .3em 0 .8em;
}
.key.other { background:var(--other) }
.key.pale { background:var(--soft) }
.key.fail { background:var(--bad) }
footer {
  margin:3rem 0 1rem; color:var(--soft); font-size:.85rem; border-top:1px solid var(--line); padding-top:.6rem;
}
@media screen and (max-width:40rem) {
  body { padding:.7rem }
  .cards thead { display:none }
  .cards tr { display:flex; flex-wrap:wrap; align-items:baseline; border-bottom:1px solid var(--line); padding:.3rem 0 }
  .cards th,.cards td { border:0; padding:.1rem .6rem .1rem 0; width:auto; text-align:left; overflow-wrap:anywhere; white-space:normal }
  .cards th { font-weight:600 }
  .cards td::before { content:attr(data-title) " "; color:var(--soft) }
  .cards td.w { min-width:0; flex-basis:100% }
  .cards td.c { flex-basis:100% }
  .plot { grid-template-columns:3.6rem 1fr }
}
@media print {
  :root {
    color-scheme:light; --page:#fff; --card:#f4f6f8; --text:#000; --soft:#444; --line:#bbb; --main:#1f6fc4;
    --other:#c2571a; --good:#17795c; --bad:#b3261e;
  }
  body { max-width:none; font-size:10pt; padding:0 }
  * { -webkit-print-color-adjust:exact; print-color-adjust:exact }
  nav { display:none }
  .scroll { overflow:visible }
  pre { white-space:pre-wrap; width:auto }
  figure,tr,.tiles div { break-inside:avoid }
  h2,h3 { break-after:avoid }
  a { color:inherit }
  td.w { min-width:0 }
  td.c { min-width:5rem }
}
]]
