import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SETTINGS } from '../src/config.ts';

/** The guide speaks of what there is: pages, commands, settings, options. */
const ROOT = join(import.meta.dirname, '..');
const GUIDE = join(ROOT, 'docs', 'guide');
const read = (...path: string[]): string => readFileSync(join(...path), 'utf8');
const pages = readdirSync(GUIDE).filter((name) => name !== 'README.md');

/** Rows of the table under a heading, each cell for itself. */
function table(page: string, heading: string): string[][] {
  const section =
    read(GUIDE, page)
      .split(/^## /m)
      .find((text) => text.startsWith(`${heading}\n`)) ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('| '));
  return rows.slice(2).map((row) =>
    row
      .slice(2, -2)
      .split(/(?<!\\)\| /)
      .map((cell) => cell.trim()),
  );
}
const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1] as string);

describe('the guide', () => {
  test('its front page lists every page, and links lead somewhere', () => {
    const front = read(GUIDE, 'README.md');
    expect(pages.filter((page) => !front.includes(`](${page})`))).toEqual([]);
    for (const page of ['README.md', ...pages]) {
      const targets = [...read(GUIDE, page).matchAll(/\]\(([a-z0-9-]+\.md)\)/g)].map((match) => match[1] as string);
      expect(
        targets.filter((target) => !pages.includes(target)),
        page,
      ).toEqual([]);
    }
  });

  test('coming from RocketMQ: every command is one of ours', () => {
    const known = [...read(ROOT, 'docs', 'reference', 'cli.md').matchAll(/^## ledgermq ([a-z0-9 -]+)/gm)].map((match) =>
      (match[1] as string).trim(),
    );
    const rows = table('coming-from-rocketmq.md', 'mqadmin');
    expect(rows.length).toBeGreaterThan(10);
    const commands = rows.flatMap(([, ours]) => quoted(ours as string)).filter((text) => /^[a-z]/.test(text));
    expect(commands.filter((command) => !known.some((one) => command === one || command.startsWith(`${one} `)))).toEqual([]);
  });

  test('coming from RocketMQ: every setting is one of ours', () => {
    const values = ['leader', 'all', 'quorum', 'sync', 'async', 'topic create'];
    const rows = table('coming-from-rocketmq.md', 'Broker settings');
    expect(rows.length).toBeGreaterThan(10);
    const settings = rows.flatMap(([, ours]) => quoted(ours as string)).filter((text) => !values.includes(text));
    expect(settings.filter((setting) => !(setting in SETTINGS))).toEqual([]);
  });

  test('coming from RocketMQ: every option and method is in the client', () => {
    const src = join(ROOT, 'src');
    const sources = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => /^(client|protocol)\/.*\.ts$/.test(name));
    const words = new Set(sources.flatMap((name) => read(src, name).match(/\w+/g) ?? []));
    const rows = [...table('coming-from-rocketmq.md', 'Producing'), ...table('coming-from-rocketmq.md', 'Consuming')];
    expect(rows.length).toBeGreaterThan(30);
    const named = rows.flatMap(([, ours]) => quoted(ours as string)).flatMap((text) => text.match(/\b[a-z]+[A-Z]\w+/g) ?? []);
    expect(named.length).toBeGreaterThan(40);
    expect(named.filter((name) => !words.has(name))).toEqual([]);
  });
});
