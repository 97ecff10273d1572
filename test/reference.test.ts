import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { referencePages } from '../src/cli/reference-pages.ts';

const pages = await referencePages();

describe('reference', () => {
  test.each(Object.keys(pages))('docs/reference/%s is what `npm run reference` writes', (name) => {
    const checkedIn = readFileSync(join(import.meta.dirname, '..', 'docs', 'reference', name), 'utf8');
    expect(checkedIn).toBe(pages[name]);
  });
});
