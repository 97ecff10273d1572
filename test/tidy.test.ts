import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

/** The rules of the house that a compiler does not know (docs/architecture.md, "The rooms"). */
const ROOT = resolve(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

/** From the street down: a room imports only from rooms after it. */
const FLOORS = [
  'cli',
  'testing',
  'server',
  'gateway',
  'broker',
  'replica',
  'index',
  'client',
  'routing',
  'log',
  'raft',
  'protocol',
  'metrics',
  'config',
  'io',
  'base',
] as const;

/** Where time, randomness, sockets and files may be touched (I9). */
const EDGES = ['src/io/node/', 'src/cli/', 'src/gateway/admin-http.ts'];
const OUTSIDE_WORLD =
  /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bset(Timeout|Interval|Immediate)\(|\bperformance\.now\b|from '(node:)?(fs|fs\/promises|net|dgram|http|https|tls|timers|timers\/promises|worker_threads|child_process|os)'/;

interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
}

function walk(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? walk(join(directory, entry.name)) : entry.name.endsWith('.ts') ? [join(directory, entry.name)] : [],
  );
}

function load(file: string): SourceFile {
  const text = readFileSync(file, 'utf8');
  const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) =>
    relative(ROOT, resolve(dirname(file), match[1] as string)),
  );
  return { path: relative(ROOT, file), text, imports };
}

function roomOf(path: string): string {
  const [, first] = path.split('/');
  return (first as string).replace(/\.ts$/, '');
}

const files = walk(SRC).map(load);

describe('tidy', () => {
  test('every room is on a floor', () => {
    const unknown = files.map((file) => file.path).filter((path) => !FLOORS.includes(roomOf(path) as never));
    expect(unknown).toEqual([]);
  });

  test('imports go down only', () => {
    const upwards = files.flatMap((file) =>
      file.imports
        .filter((target) => target.startsWith('src/') && roomOf(target) !== roomOf(file.path))
        .filter((target) => FLOORS.indexOf(roomOf(target) as never) < FLOORS.indexOf(roomOf(file.path) as never))
        .map((target) => `${file.path} imports ${target}`),
    );
    expect(upwards).toEqual([]);
  });

  test('the Raft core imports src/base only', () => {
    const foreign = files
      .filter((file) => roomOf(file.path) === 'raft')
      .flatMap((file) =>
        file.imports.filter((target) => !['raft', 'base'].includes(roomOf(target))).map((target) => `${file.path} → ${target}`),
      );
    expect(foreign).toEqual([]);
  });

  test('no file imports itself in a circle', () => {
    const graph = new Map(files.map((file) => [file.path, file.imports]));
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        circles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
        return;
      }
      if (done.has(path)) return;
      for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
      done.add(path);
    };
    for (const file of files) visit(file.path, []);
    expect(circles).toEqual([]);
  });

  test('I9: the clock, randomness, sockets and files are reached through src/io only', () => {
    const touching = files
      .filter((file) => !EDGES.some((edge) => file.path.startsWith(edge)))
      .flatMap((file) =>
        file.text
          .split('\n')
          .map((line, at) => ({ line, at: at + 1 }))
          .filter(({ line }) => !/^\s*(\*|\/\/|\/\*)/.test(line) && OUTSIDE_WORLD.test(line))
          .map(({ line, at }) => `${file.path}:${at} ${line.trim()}`),
      );
    expect(touching).toEqual([]);
  });

  test('no default exports, enums or barrel files', () => {
    const offending = files
      .filter(
        (file) =>
          /^export default|^(export )?(const )?enum /m.test(file.text) || (file.path.endsWith('/index.ts') && file.path !== 'src/index.ts'),
      )
      .map((file) => file.path);
    expect(offending).toEqual([]);
  });

  test('a file is read in one sitting: at most 600 lines', () => {
    const long = files.filter((file) => file.text.split('\n').length > 600).map((file) => file.path);
    expect(long).toEqual([]);
  });
});
