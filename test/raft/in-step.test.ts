import { expect, test } from 'vitest';
import type { AppendRequest } from '../../src/raft/types.ts';
import { Scenario } from './scenario.ts';

/** What a rollout goes by before it takes the next replica away. */
test('F41 F35 a follower is in step when it holds what its leader knew to be committed, not when it has merely heard of it', () => {
  const scenario = new Scenario();
  scenario.cluster(3, {});
  scenario.elect(1);
  scenario.settle();
  const follower = scenario.at(3).raft;
  expect([1, 2, 3].map((id) => [scenario.at(id).raft.isVoter, scenario.at(id).raft.holdsCommitted])).toEqual(Array(3).fill([true, true]));

  const { term, commitIndex } = follower;
  // A gap before it: refused, but it tells how far the leader is.
  const append: AppendRequest = {
    type: 'appendRequest',
    from: 1,
    to: 3,
    term,
    prevIndex: 89,
    prevTerm: term,
    firstIndex: 90,
    lastIndex: 89,
    groups: [],
    commitIndex: 80,
  };
  scenario.at(3).step(append);
  expect(append.prevIndex).toBeGreaterThan(commitIndex);
  expect(follower.holdsCommitted).toBe(false);
  // Heartbeats tell nothing of the log.
  scenario.at(3).step({ type: 'heartbeatRequest', from: 1, to: 3, term, commitIndex, readContext: 0 });
  expect(follower.holdsCommitted).toBe(false);
  // A new leader's word counts anew, once it has sent of its log.
  scenario.at(3).step({ type: 'heartbeatRequest', from: 2, to: 3, term: term + 1, commitIndex, readContext: 0 });
  expect(follower.holdsCommitted).toBe(false);
  const held = { prevIndex: commitIndex, firstIndex: commitIndex + 1, lastIndex: commitIndex, commitIndex };
  scenario.at(3).step({ ...append, ...held, from: 2, term: term + 1 });
  expect(follower.holdsCommitted).toBe(true);
});
