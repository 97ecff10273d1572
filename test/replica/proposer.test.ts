import { describe, expect, test } from 'vitest';
import type { ClosedGroup } from '../../src/log/types.ts';
import { MAX_GROUPS_IN_FLIGHT, Proposer } from '../../src/replica/proposer.ts';
import { EntryType } from '../../src/replica/types.ts';
import { bodyOf } from '../log/support.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { leaderLog } from './support.ts';

async function rig() {
  const clock = new ManualClock();
  const { log } = await leaderLog(clock);
  const closed: ClosedGroup[] = [];
  const state = { term: 1, allowed: true };
  const proposer = new Proposer({
    clock,
    log,
    leadingTerm: () => state.term,
    canPropose: () => state.allowed,
    logTimeMs: () => 1000,
    closed: (group) => closed.push(group),
  });
  const propose = (seed: number, sizeBytes = 100) => {
    const { body, checksum } = bodyOf(seed, sizeBytes);
    return proposer.propose(EntryType.batch, 1, 0, checksum, body);
  };
  return { clock, log, closed, state, proposer, propose };
}

describe('proposer', () => {
  test('what is proposed in one turn is one group', async () => {
    const { clock, closed, propose } = await rig();
    expect([propose(1), propose(2), propose(3)]).toEqual([1, 2, 3]);
    expect(closed).toEqual([]);
    await clock.run(0);
    expect(closed.map(({ meta }) => [meta.firstIndex, meta.lastIndex])).toEqual([[1, 3]]);
  });

  test('with enough groups on their way the open one waits for a commit', async () => {
    const { clock, closed, proposer, propose } = await rig();
    for (let i = 1; i <= MAX_GROUPS_IN_FLIGHT; i++) {
      propose(i);
      await clock.run(0);
    }
    propose(10);
    await clock.run(0);
    expect(closed.length).toBe(MAX_GROUPS_IN_FLIGHT);
    proposer.committed(1);
    expect(closed.length).toBe(MAX_GROUPS_IN_FLIGHT + 1);
  });

  test('a group that append() closed because it was full is handed to Raft at once, not at the end of the turn', async () => {
    const { log, closed, propose } = await rig();
    propose(1, 900_000);
    propose(2, 900_000);
    expect(closed.map(({ meta }) => meta.lastIndex)).toEqual([1]);
    // So nothing that Raft does not know is in the log when leadership ends now.
    expect(log.lastIndex).toBe(1);
  });

  test('after leadership ended the open group is dropped and nothing is laid', async () => {
    const { clock, log, closed, state, proposer, propose } = await rig();
    propose(1);
    state.term = 0;
    proposer.reset();
    expect(propose(2)).toBe('notLeader');
    await clock.run(1);
    expect(closed).toEqual([]);
    expect(log.lastIndex).toBe(0);
    expect(log.openBytes).toBe(0);
  });

  test('bounds of the core refuse before anything is laid', async () => {
    const { log, state, propose } = await rig();
    state.allowed = false;
    expect(propose(1)).toBe('tooManyUncommitted');
    expect(log.openBytes).toBe(0);
  });
});
