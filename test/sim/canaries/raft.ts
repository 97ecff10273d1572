import { CommitLog } from '../../../src/log/commit-log.ts';
import { Election } from '../../../src/raft/election.ts';
import { Quorum } from '../../../src/raft/quorum.ts';
import { Applier } from '../../../src/replica/applier.ts';
import { ReadBarriers } from '../../../src/replica/read-barriers.ts';
import { type Canary, patch } from './canary.ts';

/** Consensus done wrong. */
export const RAFT_CANARIES: readonly Canary[] = [
  {
    name: 'one replica is a majority',
    breaks: 'Raft: commit and election need a majority',
    caughtBy: ['two leaders', 'not synced', 'uncommitted shown', 'lost', 'state differs', 'readers disagree', 'AssertionError'],
    firstSeed: 1,
    seeds: 20,
    plant: () =>
      patch(
        Quorum.prototype,
        'reached',
        () =>
          function (this: Quorum, values: Float64Array) {
            return Math.max(...this.voters.map((id) => values[id] as number));
          },
      ),
  },
  {
    name: 'a vote goes to a log that is behind',
    breaks: 'Raft 5.4.1: only to a log at least as up-to-date',
    caughtBy: ['lost', 'state differs', 'uncommitted shown', 'readers disagree', 'AssertionError', 'Error', 'not live', 'went back'],
    firstSeed: 1,
    seeds: 100,
    plant: () => patch(Election.prototype, 'mayGrant', () => () => true),
  },
  {
    name: 'a conflicting tail is not cut',
    breaks: 'Raft 5.3: conflicting entries are deleted',
    caughtBy: ['Error', 'AssertionError', 'state differs', 'lost', 'not identical', 'not live'],
    firstSeed: 1,
    seeds: 100,
    plant: () => patch(CommitLog.prototype, 'truncateFrom', () => () => Promise.resolve()),
  },
  {
    name: 'a deposed leader answers from memory',
    breaks: 'FAULTS 12: offsets are read through ReadIndex',
    caughtBy: ['offset gone back'],
    firstSeed: 1,
    seeds: 200,
    plant: () => patch(ReadBarriers.prototype, 'add', () => (done: (ok: boolean) => void) => done(true)),
  },
  {
    name: "the leader's disk alone commits",
    breaks: 'I2: on a majority, and nothing before the commit index is shown',
    caughtBy: ['uncommitted shown', 'not synced'],
    firstSeed: 1,
    seeds: 20,
    plant: () => {
      const majority = Quorum.prototype.reached;
      const removeTally = patch(
        Quorum.prototype,
        'tally',
        () =>
          function (this: Quorum, votes: Float64Array) {
            return majority.call(this, votes) >= 1 ? 'won' : 'open';
          },
      );
      const removeReached = patch(
        Quorum.prototype,
        'reached',
        () =>
          function (this: Quorum, values: Float64Array) {
            return Math.max(...this.voters.map((id) => values[id] as number));
          },
      );
      return () => {
        removeReached();
        removeTally();
      };
    },
  },
  {
    name: 'one entry more than committed is applied',
    breaks: 'Raft, figure 2: lastApplied stays at or below commitIndex',
    caughtBy: ['went back', 'uncommitted shown', 'not synced', 'state differs', 'AssertionError', 'Error', 'LogCorrupt'],
    firstSeed: 1,
    seeds: 10,
    plant: () =>
      patch(
        Applier.prototype,
        'commit',
        (original) =>
          function (this: Applier, commitIndex: number) {
            original.call(this, commitIndex + 1);
          },
      ),
  },
];
