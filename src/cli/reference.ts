import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { referencePages } from './reference-pages.ts';

/** Writes the generated pages of docs/reference. */
const DIRECTORY = join(import.meta.dirname, '..', '..', 'docs', 'reference');

mkdirSync(DIRECTORY, { recursive: true });
for (const [name, text] of Object.entries(await referencePages())) writeFileSync(join(DIRECTORY, name), text);
