import { CommittedChecker } from '../checkers/committed.ts';
import { FabricatedChecker } from '../checkers/fabricated.ts';
import { LeadersChecker } from '../checkers/leaders.ts';
import { OffsetBackChecker } from '../checkers/offset-back.ts';
import { OwnersChecker } from '../checkers/owners.ts';
import { ProgressChecker, type ReplicaView } from '../checkers/progress.ts';
import { ReadersChecker } from '../checkers/readers.ts';
import { SyncedChecker } from '../checkers/synced.ts';
import type { Seen } from '../checkers/violation.ts';
import { Referee } from '../referee.ts';
import { type Canary, patch } from './canary.ts';

/** Checkers that see wrongly: one that never speaks would look the same as a broker that is right. */
export const CHECKER_CANARIES: readonly Canary[] = [
  {
    name: 'a checker that hears of an acknowledgement never given',
    breaks: 'the checker "lost" itself',
    caughtBy: ['lost', 'not live'],
    firstSeed: 1,
    seeds: 3,
    plant: () =>
      patch(
        Referee.prototype,
        'group',
        (original) =>
          function (this: Referee, ...args: never[]) {
            this.acked.push({ queue: 'a/quick/0', offset: 1_000_000, identity: 'forged' });
            return original.apply(this, args);
          },
      ),
  },
  {
    name: 'a checker that believes every disk is empty',
    breaks: 'the checker "not synced" itself',
    caughtBy: ['not synced'],
    firstSeed: 1,
    seeds: 3,
    plant: () =>
      patch(
        SyncedChecker.prototype,
        'clientAck',
        (original) =>
          function (this: SyncedChecker, replicaId: number) {
            original.call(this, replicaId, -1);
          },
      ),
  },
  {
    name: 'a checker that takes every leader for two',
    breaks: 'the checker "two leaders" itself',
    caughtBy: ['two leaders'],
    firstSeed: 1,
    seeds: 3,
    plant: () => {
      let other = 0;
      return patch(
        LeadersChecker.prototype,
        'leads',
        (original) =>
          function (this: LeadersChecker, _replicaId: number, term: number) {
            original.call(this, other++ % 2, term);
          },
      );
    },
  },
  {
    name: 'a checker that knows of no message',
    breaks: 'the checker "fabricated" itself',
    caughtBy: ['fabricated'],
    firstSeed: 1,
    seeds: 5,
    plant: () =>
      patch(
        FabricatedChecker.prototype,
        'seen',
        (original) =>
          function (this: FabricatedChecker, seen: Seen) {
            original.call(this, { ...seen, body: { ...seen.body, n: seen.body.n + 1_000_000 } });
          },
      ),
  },
  {
    name: 'a checker that sees every message anew',
    breaks: 'the checker "readers disagree" itself',
    caughtBy: ['readers disagree'],
    firstSeed: 1,
    seeds: 5,
    plant: () => {
      let other = 0;
      return patch(
        ReadersChecker.prototype,
        'seen',
        (original) =>
          function (this: ReadersChecker, seen: Seen) {
            original.call(this, { ...seen, fingerprint: other++ });
          },
      );
    },
  },
  {
    name: 'a checker that is shown older offsets',
    breaks: 'the checker "offset gone back" itself',
    caughtBy: ['offset gone back'],
    firstSeed: 1,
    seeds: 5,
    plant: () =>
      patch(
        OffsetBackChecker.prototype,
        'fetched',
        (original) =>
          function (this: OffsetBackChecker, group: string, queue: string, floor: number, offset: number) {
            original.call(this, group, queue, floor, Math.min(offset, floor - 1));
          },
      ),
  },
  {
    name: 'a checker that takes every owner for another',
    breaks: 'the checker "two owners" itself',
    caughtBy: ['two owners'],
    firstSeed: 1,
    seeds: 5,
    plant: () => {
      let other = 0;
      return patch(
        OwnersChecker.prototype,
        'accepted',
        (original) =>
          function (this: OwnersChecker, group: string, queue: string, _member: string, epoch: number, newest: number) {
            original.call(this, group, queue, String(other++), epoch, newest);
          },
      );
    },
  },
  {
    name: 'a checker that sees indexes fall',
    breaks: 'the checker "went back" itself',
    caughtBy: ['went back'],
    firstSeed: 1,
    seeds: 5,
    plant: () => {
      let other = 0;
      return patch(
        ProgressChecker.prototype,
        'saw',
        (original) =>
          function (this: ProgressChecker, replicaId: number, view: ReplicaView) {
            original.call(this, replicaId, { ...view, appliedIndex: view.appliedIndex - (other++ % 2) });
          },
      );
    },
  },
  {
    name: 'a checker that counts the replica into its digest',
    breaks: 'the checker "state differs" itself',
    caughtBy: ['state differs'],
    firstSeed: 1,
    seeds: 5,
    plant: () =>
      patch(
        CommittedChecker.prototype,
        'digest',
        (original) =>
          function (this: CommittedChecker, replicaId: number, index: number, digest: number) {
            original.call(this, replicaId, index, digest + replicaId);
          },
      ),
  },
];
