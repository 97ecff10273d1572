import { describe, expect, test } from 'vitest';
import type { PeerIdentity } from '../../src/replica/formation.ts';
import { lostVoters } from '../../src/replica/majority-loss.ts';
import type { GroupMembership } from '../../src/replica/membership.ts';

const member = (replicaId: number) => ({ replicaId, incarnation: `old-${replicaId}`, host: 'h', port: 1 });
const membership: GroupMembership = {
  voters: [1, 2, 3],
  learners: [],
  outgoing: null,
  members: [1, 2, 3].map(member),
  replacing: [],
  epoch: 0,
};
const answers =
  (identities: Readonly<Record<number, Partial<PeerIdentity>>>) =>
  (id: number): PeerIdentity | null => {
    const known = identities[id];
    return known === undefined ? null : { replicaId: id, incarnation: `old-${id}`, formedWith: null, ...known };
  };

describe('voters whose directories are lost', () => {
  test('I5 F39 who answers with another, empty directory is lost; who is silent, or the same, is not', () => {
    expect(lostVoters(membership, 1, answers({}))).toEqual([]);
    expect(lostVoters(membership, 1, answers({ 2: {}, 3: {} }))).toEqual([]);
    expect(lostVoters(membership, 1, answers({ 2: { incarnation: 'new' } }))).toEqual([2]);
    expect(lostVoters(membership, 1, answers({ 2: { incarnation: 'new' }, 3: { incarnation: 'new', featureLevel: 1 } }))).toEqual([2, 3]);
    // It has applied a log in which it is the member under this id: it is this replica that is behind.
    expect(lostVoters(membership, 1, answers({ 2: { incarnation: 'new', featureLevel: 3 } }))).toEqual([]);
    // Both majorities of a change count.
    expect(lostVoters({ ...membership, voters: [1, 3], outgoing: [1, 2, 3] }, 1, answers({ 2: { incarnation: 'new' } }))).toEqual([2]);
  });
});
