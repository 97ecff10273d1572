import { Groups } from '../../src/broker/groups.ts';
import { Producers } from '../../src/broker/producers.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { queueKey } from '../../src/broker/topics.ts';
import { SendQueue } from '../../src/client/send-queue.ts';
import type { Io } from '../../src/io/io.ts';
import { CommitLog } from '../../src/log/commit-log.ts';
import { StoredConsumeQueue } from '../../src/log/consume-queue.ts';
import { HardStateFile } from '../../src/log/hard-state.ts';
import { Election } from '../../src/raft/election.ts';
import { Quorum } from '../../src/raft/quorum.ts';
import { RaftDriver } from '../../src/replica/driver.ts';
import { ReadBarriers } from '../../src/replica/read-barriers.ts';
import { type AppliedEntry, EntryType } from '../../src/replica/types.ts';
import type { StartBroker } from './broker-hook.ts';
import { startBroker } from './broker-process.ts';
import { LeadersChecker } from './checkers/leaders.ts';
import { SyncedChecker } from './checkers/synced.ts';
import type { FaultKind } from './fault-plan.ts';
import { Referee } from './referee.ts';
import { type SeedFailure, trySeed } from './run-seeds.ts';

/** A bug put in on purpose, at a seam, and who must find it. */
export interface Canary {
  readonly name: string;
  /** The promise that it breaks. */
  readonly breaks: string;
  /** Checkers (or errors) any of which counts as found. */
  readonly caughtBy: readonly string[];
  readonly firstSeed: number;
  readonly seeds: number;
  /** Puts it in and tells how to take it out again. */
  plant(): () => void;
  /** Instead of the real one. */
  readonly startBroker?: StartBroker;
  /** Faults without which it hardly shows: on in each of its seeds. */
  readonly faults?: readonly FaultKind[];
}

/** Runs the canary's seeds until one fails. @returns that failure; null when the bug was not found */
export async function runCanary(canary: Canary): Promise<SeedFailure | null> {
  const remove = canary.plant();
  try {
    for (let seed = canary.firstSeed; seed < canary.firstSeed + canary.seeds; seed++) {
      const { failure } = await trySeed(seed, canary.startBroker ?? startBroker, undefined, canary.faults);
      if (failure !== null) return failure;
    }
    return null;
  } finally {
    remove();
  }
}

// biome-ignore lint/suspicious/noExplicitAny: a patched method has whatever parameters the original has
type AnyMethod = (...args: any[]) => any;

/** Replaces a method; `make` gets the original and returns the replacement. */
function patch<T extends object, K extends keyof T & string>(
  target: T,
  name: K,
  make: (original: AnyMethod) => (this: T, ...args: never[]) => unknown,
): () => void {
  const original = target[name] as AnyMethod;
  Object.defineProperty(target, name, { value: make(original), configurable: true, writable: true });
  return () => Object.defineProperty(target, name, { value: original, configurable: true, writable: true });
}

/** A disk that says "done" when a log write begins. */
function hastyDisk(io: Io): Io {
  const disk = Object.create(io.disk) as Io['disk'];
  for (const name of ['mkdir', 'list', 'exists', 'rename', 'remove', 'syncDirectory', 'space', 'bootId', 'allocateAligned'] as const) {
    Object.defineProperty(disk, name, { value: (io.disk[name] as AnyMethod).bind(io.disk) });
  }
  disk.open = async (path, options) => {
    const file = await io.disk.open(path, options);
    if (!path.includes('/commitlog/') || options.durable !== true) return file;
    return {
      path: file.path,
      alignmentBytes: file.alignmentBytes,
      write: (bytes, position) => {
        file.write(bytes.slice(), position).catch(() => {});
        return Promise.resolve();
      },
      read: (into, position) => file.read(into, position),
      sync: () => file.sync(),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
    };
  };
  return { clock: io.clock, random: io.random, net: io.net, disk };
}

const nothing = (): (() => void) => () => {};

export const CANARIES: readonly Canary[] = [
  {
    name: 'a follower acknowledges on receipt',
    breaks: 'FAULTS 1: no append reply before its write is synced',
    caughtBy: ['not synced'],
    firstSeed: 1,
    seeds: 10,
    plant: () =>
      patch(
        RaftDriver.prototype,
        'stepAppend',
        (original) =>
          function (this: RaftDriver, message: { lastIndex: number; term: number; groups: unknown }, bytes: Uint8Array) {
            const fault = original.call(this, message, bytes);
            if (fault === null && bytes.length > 0) this.stored(message.lastIndex, message.term);
            return fault;
          },
      ),
  },
  {
    name: 'an unsynced write counts',
    breaks: 'I2: synced before it is acknowledged',
    caughtBy: ['not synced', 'uncommitted shown'],
    firstSeed: 1,
    seeds: 10,
    plant: nothing,
    startBroker: (io, ...rest) => startBroker(hastyDisk(io), ...rest),
  },
  {
    name: 'a vote is spoken before it is on the disk',
    breaks: 'FAULTS 4: term and vote on stable storage before they are spoken of',
    caughtBy: ['not synced'],
    firstSeed: 1,
    seeds: 10,
    plant: () =>
      patch(
        HardStateFile.prototype,
        'save',
        (original) =>
          function (this: HardStateFile, ...args: never[]) {
            (original.apply(this, args) as Promise<void>).catch(() => {});
            return Promise.resolve();
          },
      ),
  },
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
    name: 'duplicates are not recognised',
    breaks: 'F10: a message is stored once however often it is sent',
    caughtBy: ['duplicated', 'reordered'],
    firstSeed: 1,
    seeds: 60,
    plant: () =>
      patch(
        Producers.prototype,
        'check',
        (original) =>
          function (this: Producers, ...args: never[]) {
            const verdict = original.apply(this, args) as Producers['verdict'];
            verdict.duplicate = false;
            verdict.error = null;
            return verdict;
          },
      ),
  },
  {
    name: 'a resent batch gets a new sequence',
    breaks: 'F10: the same bytes go again under the same sequence',
    caughtBy: ['duplicated', 'reordered'],
    firstSeed: 1,
    seeds: 60,
    plant: () =>
      patch(
        SendQueue.prototype,
        'unanswered',
        (original) =>
          function (this: SendQueue, ...args: never[]) {
            original.apply(this, args);
            const [batch] = args as unknown as [{ forgetSequence(): void }];
            batch.forgetSequence();
          },
      ),
  },
  {
    name: 'an offset commit is not fenced',
    breaks: 'I7: assignment epochs fence',
    caughtBy: ['two owners', 'offset gone back'],
    firstSeed: 80,
    seeds: 250,
    faults: ['isolate', 'clientCrash', 'reset', 'loss'],
    plant: () =>
      patch(
        Groups.prototype,
        'commit',
        (original) =>
          function (this: Groups, commit: readonly [string, string, readonly (readonly [number, number, number, number])[]]) {
            const [name, member, offsets] = commit;
            const group = this.named(name);
            if (group === undefined || member === '') return original.call(this, commit);
            return offsets.map((offset) => {
              const owned = group.owned.get(queueKey(offset[0], offset[1]));
              const asOwner = owned === undefined ? offset : [offset[0], offset[1], offset[2], owned.ownerEpoch];
              return original.call(this, [name, owned?.owner ?? member, [asOwner]])[0] as number;
            });
          },
      ),
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
    name: 'the ConsumeQueue is one message off',
    breaks: 'F16: offsets lead to their messages',
    caughtBy: ['readers disagree', 'offset gap', 'lost', 'uncommitted shown', 'AssertionError', 'Error', 'not live'],
    firstSeed: 1,
    seeds: 10,
    plant: () => {
      let calls = 0;
      return patch(
        StoredConsumeQueue.prototype,
        'append',
        (original) =>
          function (this: StoredConsumeQueue, ...args: never[]) {
            const [baseOffset, ...rest] = args as unknown as [number, ...number[]];
            calls++;
            return original.call(this, calls % 50 === 0 ? baseOffset + 1 : baseOffset, ...rest);
          },
      );
    },
  },
  {
    name: 'the state depends on the machine',
    breaks: 'I6: the state machine is deterministic',
    caughtBy: ['state differs'],
    firstSeed: 1,
    seeds: 10,
    plant: () => {
      const machines = new WeakMap<object, number>();
      let count = 0;
      return patch(
        BrokerStateMachine.prototype,
        'apply',
        (original) =>
          function (this: BrokerStateMachine, entry: AppliedEntry) {
            const machine = machines.get(this) ?? count++;
            machines.set(this, machine);
            // One machine forgets an entry now and then.
            const forgotten = machine % 2 === 1 && entry.index % 40 === 0;
            original.call(this, forgotten ? { ...entry, type: EntryType.noop } : entry);
          },
      );
    },
  },
  {
    name: 'replicas see different log times',
    breaks: 'I6: time comes in through entries',
    caughtBy: ['state differs'],
    firstSeed: 1,
    seeds: 10,
    plant: () => {
      const skews = new WeakMap<object, number>();
      let count = 0;
      return patch(
        BrokerStateMachine.prototype,
        'apply',
        (original) =>
          function (this: BrokerStateMachine, entry: AppliedEntry) {
            const skewMs = skews.get(this) ?? count++ % 2;
            skews.set(this, skewMs);
            original.call(this, { ...entry, logTimeMs: entry.logTimeMs + skewMs });
          },
      );
    },
  },
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
];
