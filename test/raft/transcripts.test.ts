import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Scenario } from './scenario.ts';

const DIRECTORY = join(import.meta.dirname, 'transcripts');

/**
 * A transcript is text: `# …` says what is going on, `> command` is done, the indented lines below it are what happened.
 * `>> command` is done without writing down what happened. UPDATE_TRANSCRIPTS=1 rewrites the files: the diff is the review.
 */
function replay(text: string): string {
  const scenario = new Scenario();
  const written: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('  ')) continue;
    written.push(line);
    const command = /^>>?\s+(.*)$/.exec(line)?.[1];
    if (command === undefined) continue;
    scenario.lines.length = 0;
    scenario.command(command);
    if (!line.startsWith('>>')) written.push(...scenario.lines.map((happened) => `  ${happened}`));
  }
  return written.join('\n');
}

describe('F35 raft transcripts', () => {
  const files = readdirSync(DIRECTORY).filter((name) => name.endsWith('.txt'));

  test('there are transcripts', () => {
    expect(files.length).toBeGreaterThanOrEqual(14);
  });

  for (const name of files) {
    test(name, () => {
      const file = join(DIRECTORY, name);
      const expected = readFileSync(file, 'utf8');
      const happened = replay(expected);
      if (process.env['UPDATE_TRANSCRIPTS'] === '1') writeFileSync(file, happened);
      else expect(happened).toBe(expected);
    });
  }
});
