/** The page's only style: nothing is loaded from anywhere. */
export const STYLE = `
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #1c2126; --soft: #5d6670; --line: #dfe1e4; --grid: #eceef0;
  --throughput: #2f6f9f; --area: #2f6f9f2b; --p50: #3c8a5a; --p99: #b8651b; --fault: #8a5aa8; --gap: #c8343426; --bad: #b3261e; --good: #2b7a48; --unknown: #96690a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --card: #1c2024; --ink: #e6e8ea; --soft: #9aa4ae; --line: #32383e; --grid: #262b30;
    --throughput: #6cb1e0; --area: #6cb1e033; --p50: #74c794; --p99: #e8a25c; --fault: #bd93d8; --gap: #e0555540; --bad: #f0857d; --good: #6fcf90; --unknown: #e0b450; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .2rem; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; }
p, ul { margin: .3rem 0; }
.soft { color: var(--soft); }
.replay { margin: 0 0 1rem; overflow-wrap: anywhere; }
.verdict { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; align-items: baseline; padding: 1rem 1.2rem; margin: 1rem 0;
  background: var(--card); border: 1px solid var(--line); border-left: 6px solid var(--tone); border-radius: 6px; }
.verdict strong { color: var(--tone); font-size: 1.7rem; line-height: 1.2; }
.verdict ul { flex-basis: 100%; padding-left: 1.1rem; overflow-wrap: anywhere; }
.valid { --tone: var(--good); } .invalid { --tone: var(--bad); } .unknown { --tone: var(--unknown); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.figure b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.figure span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .4rem .8rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; } td:first-child { white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .doubt { color: var(--unknown); font-weight: 600; }
code, pre { font: .85rem/1.5 ui-monospace, "SFMono-Regular", Menlo, "Liberation Mono", monospace; }
pre { margin: .5rem 0 0; padding: .7rem .9rem; overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
pre .at { color: var(--bad); font-weight: 600; }
details { margin: .5rem 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
svg { display: block; width: 100%; min-width: 46rem; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg .title { fill: var(--ink); font-weight: 600; font-size: 12px; }
.axis { stroke: var(--grid); } .gap { fill: var(--gap); } .lane { fill: var(--fault); } .band { fill: var(--fault); opacity: .09; } .row { fill: var(--grid); }
.throughput { fill: none; stroke: var(--throughput); stroke-width: 1.2; } .area { fill: var(--area); }
.p50 { fill: none; stroke: var(--p50); stroke-width: 1.2; } .p99 { fill: none; stroke: var(--p99); stroke-width: 1.2; }
.key-p50 { fill: var(--p50) !important; } .key-p99 { fill: var(--p99) !important; } .anomaly { stroke: var(--bad); stroke-width: 1.5; }
`;
