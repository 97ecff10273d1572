import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Formation, type PeerIdentity } from '../../src/replica/formation.ts';
import { formedMembership, NOBODY } from '../../src/replica/membership.ts';

const identity = (replicaId: number, incarnation: string, formedWith: Record<string, string> | null = null): PeerIdentity => ({
  replicaId,
  incarnation,
  formedWith,
});
const FORMED = { 1: 'a', 2: 'b', 3: 'c' };

describe('formation (I5, FAULTS 6)', () => {
  test('a group forms when all configured replicas were heard and all are empty', () => {
    const formation = new Formation(identity(1, 'a'), [1, 2, 3]);
    expect(formation.hear(identity(2, 'b'))).toBe('waiting');
    expect(formation.missing()).toEqual([3]);
    expect(formation.hear(identity(3, 'c'))).toBe('formed');
    expect(formation.formedWith).toEqual(FORMED);
  });

  test('a group of one forms by itself', () => {
    expect(new Formation(identity(1, 'a'), [1]).formedWith).toEqual({ 1: 'a' });
  });

  test('a replica that missed the formation joins by its recorded incarnation', () => {
    const formation = new Formation(identity(3, 'c'), [1, 2, 3]);
    expect(formation.hear(identity(1, 'a', FORMED))).toBe('formed');
    expect(formation.formedWith).toEqual(FORMED);
  });

  test('an emptied replica learns that the group was formed without it: it does not vote before the log says so', () => {
    const emptied = new Formation(identity(3, 'new'), [1, 2, 3]);
    expect(emptied.hear(identity(1, 'a', FORMED))).toBe('joining');
    expect(emptied.formedWith).toEqual(FORMED);
    const replicas = [1, 2, 3].map((replicaId) => ({ replicaId, host: `host-${replicaId}`, port: 7460 }));
    expect(formedMembership({ replicaId: 3, replicas }, 'new', FORMED)).toEqual(NOBODY);
    expect(formedMembership({ replicaId: 3, replicas }, 'c', FORMED).voters).toEqual([1, 2, 3]);
    const survivor = new Formation(identity(1, 'a', FORMED), [1, 2, 3]);
    expect(survivor.hear(identity(3, 'new'))).toBe('waiting');
  });

  test('an emptied replica does not follow a newcomer that knows of it alone into a second group', () => {
    const emptied = new Formation(identity(3, 'new'), [1, 2, 3]);
    const newcomer = new Formation(identity(4, 'd'), [3, 4]);
    expect(newcomer.hear(identity(3, 'new'))).toBe('formed');
    expect(emptied.hear(identity(4, 'd', newcomer.formedWith))).toBe('waiting');
    expect(emptied.formedWith).toBeNull();
    expect(emptied.hear(identity(1, 'a', FORMED))).toBe('joining');
  });

  test('two emptied volumes never form a new group', () => {
    const first = new Formation(identity(1, 'x'), [1, 2, 3]);
    expect(first.hear(identity(2, 'y'))).toBe('waiting');
    expect(first.hear(identity(3, 'c', FORMED))).toBe('joining');
    expect(first.formedWith).toEqual(FORMED);
  });

  test('a lost link must be heard again: the peer may come back emptied', () => {
    const formation = new Formation(identity(1, 'a'), [1, 2, 3]);
    formation.hear(identity(2, 'b'));
    formation.lost(2);
    expect(formation.hear(identity(3, 'c'))).toBe('waiting');
    expect(formation.hear(identity(2, 'b2'))).toBe('formed');
    expect(formation.formedWith).toEqual({ 1: 'a', 2: 'b2', 3: 'c' });
  });

  test('in any order of hearing, replicas that form agree on who formed', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 })), { maxLength: 40 }), (meetings) => {
        const incarnations = ['a', 'b', 'c'];
        const all = incarnations.map((incarnation, at) => new Formation(identity(at + 1, incarnation), [1, 2, 3]));
        for (const [from, to] of meetings) {
          if (from === to) continue;
          const speaker = all[from] as Formation;
          (all[to] as Formation).hear(identity(from + 1, incarnations[from] as string, speaker.formedWith));
        }
        for (const formation of all) if (formation.formedWith) expect(formation.formedWith).toEqual(FORMED);
      }),
    );
  });
});
