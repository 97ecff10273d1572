import type { Io } from '../../../src/io/io.ts';
import { Leader } from '../../../src/raft/leader.ts';
import { Memberships } from '../../../src/raft/memberships.ts';
import { Quorum } from '../../../src/raft/quorum.ts';
import type { Membership } from '../../../src/raft/types.ts';
import { startBroker } from '../broker-process.ts';
import type { FaultKind } from '../fault-plan.ts';
import { type Canary, nothing, patch } from './canary.ts';

const FAULTS: readonly FaultKind[] = ['members', 'isolate', 'frozenDisk', 'slowDisk'];

/** Replaces a getter of a class. */
function patchGetter<T extends object>(target: T, name: keyof T & string, get: (this: T) => unknown): () => void {
  const original = Object.getOwnPropertyDescriptor(target, name) as PropertyDescriptor;
  Object.defineProperty(target, name, { get, configurable: true });
  return () => Object.defineProperty(target, name, original);
}

/** A machine whose random bytes are those of every life and every disk before. */
function repeatingIo(io: Io, replicaId: number): Io {
  const fill = (bytes: Uint8Array): void => void bytes.fill(replicaId);
  return { ...io, random: { u32: () => io.random.u32(), unit: () => io.random.unit(), fill } };
}

/** Changes of who belongs to the group done wrong. */
export const MEMBERSHIP_CANARIES: readonly Canary[] = [
  {
    name: 'a majority of both sets together decides while joint',
    breaks: 'Raft, section 6: a joint decision needs a majority of each set',
    caughtBy: ['wrong membership', 'not synced', 'uncommitted shown'],
    firstSeed: 1,
    seeds: 100,
    faults: FAULTS,
    plant: () =>
      patch(
        Quorum.prototype,
        'reached',
        () =>
          function (this: Quorum, values: Float64Array) {
            const reached = this.voters.map((id) => values[id] as number).sort((a, b) => a - b);
            return reached[reached.length - (reached.length >> 1) - 1] ?? Number.NEGATIVE_INFINITY;
          },
      ),
  },
  {
    name: 'a membership counts when it is committed',
    breaks: 'Raft, section 6: a membership counts from the moment that it is in the log',
    caughtBy: ['wrong membership', 'not synced', 'uncommitted shown'],
    firstSeed: 1,
    seeds: 100,
    faults: FAULTS,
    plant: () => {
      const newest = Object.getOwnPropertyDescriptor(Memberships.prototype, 'current')?.get as () => Membership;
      const waiting = new WeakMap<Memberships, { readonly committed: Membership; readonly index: number }>();
      const removals = [
        patch(
          Memberships.prototype,
          'append',
          (original) =>
            function (this: Memberships, index: number, membership: Membership) {
              waiting.set(this, { committed: waiting.get(this)?.committed ?? newest.call(this), index });
              original.call(this, index, membership);
            },
        ),
        patch(
          Memberships.prototype,
          'committed',
          (original) =>
            function (this: Memberships, commitIndex: number) {
              if (commitIndex >= (waiting.get(this)?.index ?? 0)) waiting.delete(this);
              original.call(this, commitIndex);
            },
        ),
        patchGetter(Memberships.prototype, 'current', function () {
          return waiting.get(this)?.committed ?? newest.call(this);
        }),
      ];
      return () => {
        for (const remove of removals) remove();
      };
    },
  },
  {
    name: 'a change is laid before the one before is committed',
    breaks: 'thesis 4.1: one change of membership at a time',
    caughtBy: ['wrong membership'],
    firstSeed: 1,
    seeds: 100,
    faults: FAULTS,
    plant: () => patchGetter(Leader.prototype, 'mayChangeMembership', () => true),
  },
  {
    name: 'an emptied directory comes back as the one that it was',
    breaks: 'I5: who lost its directory is another replica, and does not vote under its id',
    caughtBy: ['wrong incarnation', 'not live'],
    firstSeed: 1,
    seeds: 60,
    faults: ['emptied'],
    startBroker: (io, config, ended, event) => startBroker(repeatingIo(io, config.replicaId), config, ended, event),
    plant: nothing,
  },
];
