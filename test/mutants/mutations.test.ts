import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { mutated, mutationsOf } from './mutations.ts';

const all = (text: string): string[] => mutationsOf(text).map((mutation) => mutated(text, mutation));

describe('mutants', () => {
  test('operators, conditions, numbers, booleans, calls for their effect, early returns', () => {
    expect(all('const x = a < b;')).toEqual(['const x = a <= b;']);
    expect(all('if (a) b();')).toEqual(['if (!(a)) b();', 'if (a) {}']);
    expect(all('let n = 2;')).toEqual(['let n = 3;']);
    expect(all('f = true;')).toEqual(['f = false;']);
    expect(all('function f() { return; }')).toEqual(['function f() { {} }']);
    expect(all('const y = a && b - c;')).toEqual(['const y = a || b - c;', 'const y = a && b + c;']);
  });

  test('types, imports, assertions, errors and large numbers are left alone', () => {
    const untouched = [
      "import { a } from './1.ts';",
      'interface A { b: 1 }',
      'type N = 1 | 2;',
      "assert(a < b, 'why');",
      "throw new LedgerError('X', 1 < 2);",
      'const mask = 0xff;',
    ];
    expect(untouched.flatMap(all)).toEqual([]);
  });

  test('of a whole file: each is one change, and what comes of it is a program', () => {
    const text = readFileSync('src/raft/quorum.ts', 'utf8');
    const texts = all(text);
    expect(texts.length).toBeGreaterThan(10);
    expect(new Set(texts).size).toBe(texts.length);
    for (const one of texts) {
      const { diagnostics } = ts.transpileModule(one, { reportDiagnostics: true });
      expect(diagnostics).toEqual([]);
    }
  });
});
