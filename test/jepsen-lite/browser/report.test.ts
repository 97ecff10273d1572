import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkHistory } from '../checkers/check.ts';
import { encodeHistory, ModelHistory, type ModelLine } from '../checkers/model-history.ts';
import { WRONGS } from '../checkers/wrong-histories.ts';
import type { HistoryLine } from '../history.ts';
import { writeReport } from '../report/report.ts';

/** Debian's; Playwright's own builds are not downloaded. */
const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
/** A folder for the pictures, to be looked at. */
const PICTURES = process.env['LEDGERMQ_PICTURES'];
const FAULTS = ['kill-leader', 'cut-halves', 'clock', 'fsync-error'] as const;
const NS_PER_MS = 1e6;

/** Run in the page. */
const OVERHANG = 'document.documentElement.scrollWidth - window.innerWidth';
const OUTSIDE = `(() => {
  const svg = document.querySelector('svg');
  const { width, height } = svg.viewBox.baseVal;
  return [...svg.querySelectorAll('rect, text, polyline, polygon')].filter((each) => {
    const box = each.getBBox();
    return box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height;
  }).length;
})()`;

let dir: string;
let browser: Browser;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ledgermq-report-'));
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
});
afterAll(async () => {
  await browser.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A wrong history under four faults, the last of which did not end. */
function wrongHistory(): HistoryLine[] {
  const lost = WRONGS[0]?.spoil(new ModelHistory(5, 3_000)) as ModelLine[];
  const lines = encodeHistory(lost);
  const endNs = lines.at(-1)?.time as number;
  const nemesis = FAULTS.flatMap((f, at): HistoryLine[] => {
    const line = (phase: string, part: number): HistoryLine => ({
      index: 0,
      time: endNs * part,
      type: 'info',
      process: 'nemesis',
      f,
      value: { phase, id: at, targets: [`replica <${at}> & "more"`] },
    });
    const begin = line('begin', 0.1 + 0.2 * at);
    return at === FAULTS.length - 1 ? [begin, line('note', 0.9)] : [begin, line('end', 0.2 + 0.2 * at)];
  });
  // Nothing is acknowledged for a while: a gap.
  const paused = lines.map((line) => (line.time > endNs / 2 ? { ...line, time: line.time + 900 * NS_PER_MS } : line));
  return [...paused, ...nemesis].sort((a, b) => a.time - b.time).map((line, index) => ({ ...line, index }));
}

function page(): string {
  const lines = wrongHistory();
  const faults = Object.fromEntries(FAULTS.map((name) => [name, { planned: 1, fired: 1, evidence: ['exit by SIGKILL <1>'] }]));
  const verify = [{ brokerName: 'a', identical: true }];
  const context = { seed: 5, minutes: 1, faults, benchMsgsPerS: 100, verify, replay: 'npm run chaos -- --minutes 1 --faults all --seed 5' };
  return writeReport(dir, lines, checkHistory(lines, context), context);
}

/** What a page that is opened asks for and complains of. */
async function opened(width: number, colorScheme: 'light' | 'dark'): Promise<{ page: Page; trouble: string[]; requests: string[] }> {
  const tab = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  const trouble: string[] = [];
  const requests: string[] = [];
  tab.on('pageerror', (error) => trouble.push(error.message));
  tab.on('console', (message) => trouble.push(message.text()));
  tab.on('request', (request) => requests.push(request.url()));
  await tab.goto(pathToFileURL(page()).href);
  return { page: tab, trouble, requests };
}

describe('F43 the page of a run, in a browser', () => {
  test.each([
    [1_280, 'light'],
    [1_280, 'dark'],
    [390, 'light'],
  ] as const)('%i wide, %s: no error, nothing is loaded, nothing hangs out, what was done is on it', async (width, colorScheme) => {
    const { page: tab, trouble, requests } = await opened(width, colorScheme);
    expect(trouble).toEqual([]);
    expect(requests.filter((url) => !url.startsWith('file:') && !url.startsWith('data:'))).toEqual([]);
    expect(requests.filter((url) => url.startsWith('file:'))).toHaveLength(1);
    expect(await tab.evaluate<number>(OVERHANG)).toBeLessThanOrEqual(0);
    expect(await tab.locator('.verdict strong').textContent()).toBe('invalid');
    expect(await tab.locator('svg rect.lane').count()).toBe(FAULTS.length);
    expect(await tab.locator('svg rect.gap').count()).toBeGreaterThanOrEqual(1);
    expect(await tab.locator('svg line.anomaly').count()).toBeGreaterThanOrEqual(1);
    expect(await tab.locator('details pre .at').count()).toBeGreaterThanOrEqual(1);
    expect(await tab.getByText('npm run chaos -- --minutes 1 --faults all --seed 5').isVisible()).toBe(true);
    for (const name of FAULTS) expect(await tab.locator('svg text', { hasText: name }).count()).toBe(1);
    // Marks of the faults, the curves and the axis are inside of the picture.
    const outside = await tab.evaluate<number>(OUTSIDE);
    expect(outside).toBe(0);
    if (PICTURES !== undefined) await tab.screenshot({ path: join(PICTURES, `report-${width}-${colorScheme}.png`), fullPage: true });
    await tab.close();
  });
});
