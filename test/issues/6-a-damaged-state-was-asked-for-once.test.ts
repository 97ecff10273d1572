import { expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/log/layout.ts';
import { Group } from '../replica/loaded-group.ts';

const KIB = 1024;
const ALL = [1, 2, 3];
const SEGMENT = 512 * KIB;

/**
 * Simulation seeds 35169 and 36449: the scrub found a damaged state at a segment's head and asked the others, of whom one had none to give
 * just then and another was still recovering and said that it has none. It was off the list of states after that, and never asked for again.
 */
test('FAULTS 5 a damaged state that nobody can give now is asked for until somebody can', async () => {
  const group = new Group(3, { segmentBytes: SEGMENT, snapshotIntervalBytes: 64 * KIB * KIB });
  for (const id of ALL) group.start(id, ALL);
  const heads = (id: number): string[] =>
    group
      .disk(id)
      .paths('/data/snapshot')
      .filter((path) => Number(path.slice(15, 35)) % SEGMENT === BLOCK_BYTES);
  for (let waited = 0; waited < 60 && ALL.some((id) => heads(id).length < 2); waited++) await group.run(1_000);
  const path = heads(1)[0] as string;
  const whole = group.disk(1).visibleBytes(path) as Uint8Array;
  const flip = (id: number): boolean =>
    group.disk(id).damage(path, whole.length - 1, (bytes) => bytes.fill((whole.at(-1) as number) ^ 1), 1);
  for (const id of ALL) expect(flip(id)).toBe(true);
  await group.run(20_000);
  for (const id of ALL) expect(group.events.get(id)).toContain('snapshot damaged');
  for (const id of ALL) expect(group.events.get(id)).not.toContain('snapshot repaired');

  // One copy is good again, and found when its replica starts.
  group.kill(1);
  group.disk(1).damage(path, whole.length - 1, (bytes) => bytes.fill(whole.at(-1) as number), 1);
  group.start(1, ALL);
  await group.run(20_000);
  for (const id of ALL) expect(Buffer.compare(group.disk(id).visibleBytes(path) as Uint8Array, whole), `replica ${id}`).toBe(0);
  await group.rest();
  group.expectIdentical();
});

test('FAULTS 5 the log is looked at although a damaged state waits for a replica that is down', async () => {
  const group = new Group(4, { segmentBytes: SEGMENT, snapshotIntervalBytes: 64 * KIB * KIB });
  for (const id of ALL) group.start(id, ALL);
  const heads = (id: number): string[] => group.disk(id).paths('/data/snapshot');
  for (let waited = 0; waited < 60 && ALL.some((id) => heads(id).length < 2); waited++) await group.run(1_000);
  group.kill(3);
  const path = heads(1)[0] as string;
  // The third would be asked for it: the second has none either.
  for (const id of [1, 2]) group.disk(id).damage(path, 100, (bytes) => bytes.fill((bytes[0] as number) ^ 1), 1);
  await group.run(20_000);
  expect(group.events.get(1)).toContain('snapshot damaged');
  const segment = group.disk(1).paths('/data/commitlog')[0] as string;
  group.disk(1).damage(segment, 3 * BLOCK_BYTES, (bytes) => bytes.fill(0x77), BLOCK_BYTES);
  await group.run(30_000);
  expect(group.events.get(1)).toContain('log repaired');
});
