import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { Context } from '../context.ts';
import { note } from '../output.ts';

export function register(program: Command, context: Context): void {
  program
    .command('reference', { hidden: true })
    .description('Writes the generated pages of docs/reference.')
    .argument('[dir]', 'directory', 'docs/reference')
    .action(async (dir: string) => {
      const { referencePages } = await import('../reference-pages.ts');
      mkdirSync(dir, { recursive: true });
      for (const [name, text] of Object.entries(await referencePages())) {
        writeFileSync(join(dir, name), text);
        note(context, `wrote ${join(dir, name)}`);
      }
    });
}
