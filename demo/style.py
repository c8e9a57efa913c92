"""The app's style: system fonts, Gradio's own colour variables (so that dark mode works), one column on a phone."""

CSS = """
.gradio-container { width: 100% !important; max-width: 1180px !important; margin: 0 auto !important;
  --quiet: color-mix(in srgb, var(--body-text-color) 70%, var(--background-fill-primary)); }
.gradio-container main { width: 100% !important; }
.html-container { padding: 0 !important; }
.lead h1 { font-size: 1.6rem; font-weight: 650; margin: 0.4rem 0 0.2rem; }
.lead p { margin: 0; max-width: 62ch; color: var(--quiet); font-size: 1rem; }
.card dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 0.8rem; margin: 0; }
.card dt { color: var(--quiet); }
.card dd { margin: 0; overflow-wrap: anywhere; }
.card table { width: 100%; border-collapse: collapse; margin-top: 0.6rem; }
.card caption { text-align: left; color: var(--quiet); padding-bottom: 0.2rem; }
.card th { text-align: left; font-weight: 400; }
.card td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.answer table, .answer tr, .answer th, .answer td, .card table, .card tr, .card th, .card td {
  border: 0 !important; }
.card tr, .answer tbody tr { border-top: 1px solid var(--border-color-primary) !important; }
.card th, .card td { padding: 0.15rem 0; }
.card { font-size: 0.9rem; }
.card details, .answer details { margin-top: 0.4rem; }
.answer summary, .card summary { cursor: pointer; color: var(--quiet); }
.answer { display: flex; flex-direction: column; gap: 0.8rem; font-size: 1rem; }
.answer, .field { min-width: 0; max-width: 100%; }
.answer p, .answer li { margin: 0 !important; }
.answer.empty { border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 1rem; }
.expected { margin: 0; padding: 0; list-style: none; display: grid; gap: 0.3rem; }
.expected span { color: var(--quiet); overflow-wrap: anywhere; }
.field { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 0.7rem 0.9rem;
  background: var(--block-background-fill); }
.field h2 { margin: 0 0 0.4rem; font-size: 0.9rem; font-weight: 600; color: var(--quiet); }
.field h2 small { font-weight: 400; margin-left: 0.4rem; color: var(--quiet); font-size: inherit; }
.answer .label, .answer .number, .answer .flag { font-size: 1.25rem; font-weight: 650; overflow-wrap: anywhere; }
.number small { font-size: 0.85rem; font-weight: 400; color: var(--quiet); }
.flag { display: inline-block; padding: 0.1rem 0.8rem; border-radius: 999px; border: 2px solid currentColor; }
.flag.yes { background: var(--body-text-color); }
.flag.yes, .flag.yes span { color: var(--background-fill-primary) !important; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: 0.35rem; margin: 0; padding: 0; list-style: none; }
.chips li { border: 1px solid var(--border-color-primary); border-radius: 999px; padding: 0.1rem 0.7rem;
  color: var(--quiet); overflow-wrap: anywhere; max-width: 100%; }
.chips li.chosen { background: var(--color-accent); border-color: var(--color-accent); color: #fff; font-weight: 650; }
.chips li.chosen::before { content: "✓ "; }
.bars { list-style: none; margin: 0.5rem 0 0; padding: 0; display: grid; gap: 0.25rem; }
.bars li { display: grid; grid-template-columns: minmax(0, 42%) 1fr 3.6rem; gap: 0.6rem; align-items: center;
  color: var(--quiet); }
.bars li > span:first-child { overflow-wrap: anywhere; }
.bars li.chosen { color: var(--body-text-color); font-weight: 650; }
.bars b { text-align: right; white-space: nowrap; font-weight: inherit; font-variant-numeric: tabular-nums; }
.bar { height: 0.55rem; border-radius: 999px; background: var(--border-color-primary); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--quiet); }
.chosen .bar i { background: var(--color-accent); }
.answer .own { margin-top: 0.5rem !important; }
.rest, .none { color: var(--quiet); font-size: 0.9rem; }
.wide { overflow-x: auto; contain: inline-size; overflow-wrap: anywhere; }
.wide table { width: 100%; border-collapse: collapse; }
.wide th { text-align: left; font-weight: 600; font-size: 0.85rem; color: var(--quiet); }
.wide th, .wide td { padding: 0.35rem 0.8rem 0.35rem 0; overflow-wrap: break-word; }
@media (max-width: 640px) {
  .wide thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .wide table, .wide tbody, .wide tr, .wide td { display: block; }
  .wide tbody tr { padding: 0.4rem 0; }
  .wide td { display: flow-root; padding: 0.1rem 0; text-align: right; }
  .wide td::before { content: attr(data-of); float: left; max-width: 55%; margin-right: 1rem; text-align: left;
    color: var(--quiet); }
  .wide td[data-of=""] { text-align: left; font-weight: 600; }
  .wide td:empty { display: none; }
  .wide td progress { margin-left: auto; }
  #result .grid-container { grid-template-columns: 1fr !important; }
  input.search-input { width: 7rem !important; min-width: 0 !important; }
}
.upload-container .or, .cm-gutterElement, .min_value, .max_value { color: var(--quiet) !important; }
progress { appearance: none; display: block; width: 100%; max-width: 10rem; height: 0.55rem; border: 0;
  border-radius: 999px; overflow: hidden; background: var(--border-color-primary); }
progress::-webkit-progress-bar { background: var(--border-color-primary); }
progress::-webkit-progress-value { background: var(--color-accent); }
progress::-moz-progress-bar { background: var(--color-accent); }
.dark [role="tab"].selected { color: var(--primary-300); }
.time { white-space: nowrap; }
.sheet img { margin-top: 2rem; }
.checks { display: block; width: 100%; height: 30rem; border: 0; }
.answer pre { margin: 0.4rem 0 0; max-height: 30rem; overflow: auto; font-size: 0.8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.sample { display: flex; flex-wrap: wrap; gap: 0.9rem; align-items: flex-start; }
.sample > img { max-width: min(100%, 20rem); height: auto; border-radius: 6px; }
.sample > div { flex: 1 1 18rem; min-width: 0; }
.field h2 { overflow-wrap: anywhere; }
.place { white-space: nowrap; font-size: 0.85rem; color: var(--quiet); }
.badge { display: inline-block; min-width: 1.5rem; padding: 0 0.3rem; border-radius: 6px; color: #fff !important;
  text-align: center; font-weight: 650; }
.verdict { border-radius: 10px; padding: 0.6rem 0.9rem; border: 2px solid var(--tone); background: var(--tone);
  color: #fff !important; font-size: 1.5rem; font-weight: 700; line-height: 1.3; overflow-wrap: anywhere; }
.wide .verdict { display: inline-block; padding: 0.05rem 0.6rem; font-size: 1rem; text-align: left; }
.verdict { --tone: #1f5fbf; }
.verdict.good { --tone: #1a7434; }
.verdict.doubtful { --tone: #9a5b00; }
.verdict.bad { --tone: #b91c1c; }
.verdict.unsure { background: none; border-style: dashed; color: var(--body-text-color) !important; }
.banner { border-radius: 10px; padding: 0.7rem 0.9rem; border: 1px solid; overflow-wrap: anywhere; }
.banner, .banner strong { color: inherit !important; }
.banner.ask { background: #fff4d6; border-color: #d9a400; color: #5c4400 !important; }
.banner.wrong { background: #fde8e8; border-color: #d64545; color: #7a1616 !important; }
.notice { border-left: 3px solid #d9a400; padding-left: 0.7rem; font-size: 0.9rem; }
.grid-wrap.fixed-height { min-height: 0 !important; max-height: none !important; }
.grid-container .thumbnail-item { aspect-ratio: auto !important; height: auto !important; background: none; }
.grid-container .thumbnail-item img { height: auto !important; max-height: 32rem; object-fit: contain; }
.media-button { overflow: hidden; }
.header-cell .cell-menu-button { display: flex !important; }
.grid-container.pt-6 { padding-top: 1.9rem; }
.grid-container { align-items: start; grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)) !important; }
.gallery-container, .gallery-container .grid-wrap { height: auto !important; }
input[role="combobox"] { text-overflow: ellipsis; padding-right: 1.6rem !important; }
.grid-container .caption-label { position: static; display: block; max-width: none; white-space: normal;
  overflow-wrap: anywhere; text-align: left; border: 0; }
footer { display: none !important; }
"""

ICON = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">
<rect width="16" height="16" rx="3" fill="#1d4ed8"/>
<path d="M4 8.5 7 11.5 12 5" fill="none" stroke="white" stroke-width="2"/></svg>"""
