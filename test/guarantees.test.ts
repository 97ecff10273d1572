import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkHistory } from './jepsen-lite/checkers/check.ts';
import { FAULTS } from './jepsen-lite/faults/catalogue.ts';
import { WORKLOADS } from './jepsen-lite/worker-plans.ts';

const ROOT = resolve(import.meta.dirname, '..');
const PAGE = readFileSync(join(ROOT, 'docs/guarantees.md'), 'utf8');
const CODE = [...PAGE.matchAll(/`([^`]+)`/g)].map(([, code]) => code as string);
/** What stands in quotes behind a word of the harness, as far as the list goes. */
const listed = (word: string, quote: '`' | '*'): string[] => {
  const name = `\\${quote}[^\`*]+\\${quote}`;
  return [...PAGE.matchAll(new RegExp(`${word}s? (${name}(?:,? (?:and )?${name})*)`, 'g'))].flatMap(([, list]) =>
    [...(list as string).matchAll(new RegExp(`\\${quote}([^\`*]+)\\${quote}`, 'g'))].map(([, each]) => each as string),
  );
};

function filesUnder(directory: string, ending: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesUnder(path, ending) : entry.name.endsWith(ending) ? [path] : [];
  });
}

describe('docs/guarantees.md names what exists', () => {
  test('tests', () => {
    const titles = filesUnder(join(ROOT, 'test'), '.test.ts')
      .filter((path) => path !== import.meta.filename)
      .map((path) => readFileSync(path, 'utf8'))
      .join('\n');
    const named = CODE.filter((code) => /^(F\d\d|FAULTS|I\d) .|… ?$/.test(code) && code.split(' ').length > 2);
    expect(named.length).toBeGreaterThan(30);
    const missing = named.filter((name) => !name.split('…').every((part) => titles.includes(part.trim())));
    expect(missing).toEqual([]);
  });

  test('files', () => {
    const paths = CODE.filter((code) => code.startsWith('test/')).concat(
      [...PAGE.matchAll(/\]\(([^)#]+)\)/g)].map(([, link]) => join('docs', link as string)),
    );
    expect(paths.length).toBeGreaterThan(5);
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  test('faults, workloads and checkers of the chaos harness', () => {
    const faults = listed('chaos', '`');
    expect(faults.length).toBeGreaterThan(20);
    const known = FAULTS.map(({ name }) => name);
    expect(faults.filter((name) => !known.includes(name))).toEqual([]);
    // Each fault that is tried stands for a promise.
    expect(known.filter((name) => !faults.includes(name))).toEqual([]);
    expect(listed('workload', '`').filter((name) => !WORKLOADS.includes(name))).toEqual([]);

    const context = { seed: 0, minutes: 0, faults: {}, benchMsgsPerS: null, verify: null };
    const ours = checkHistory([], context).checkers.map(({ name }) => name);
    const simulated = filesUnder(join(ROOT, 'test/sim'), '.ts').map((path) => readFileSync(path, 'utf8'));
    const isKnown = (name: string): boolean =>
      ours.includes(name) || simulated.some((text) => text.includes(`Violation('${name}'`) || text.includes(`'${name}'`));
    const checkers = listed('checker', '*').flatMap((names) => names.split('; '));
    expect(checkers.length).toBeGreaterThan(10);
    expect(checkers.filter((name) => !isKnown(name))).toEqual([]);
  });
});
