import { Groups } from '../../../src/broker/groups.ts';
import { Producers } from '../../../src/broker/producers.ts';
import { BrokerStateMachine } from '../../../src/broker/state-machine.ts';
import { queueKey } from '../../../src/broker/topics.ts';
import { SendQueue } from '../../../src/client/send-queue.ts';
import { StoredConsumeQueue } from '../../../src/log/consume-queue.ts';
import { type AppliedEntry, EntryType } from '../../../src/replica/types.ts';
import { type Canary, patch } from './canary.ts';

/** Messages, offsets and owners done wrong, at the broker and at the client. */
export const BROKER_CANARIES: readonly Canary[] = [
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
    name: 'a gap in a sequence is taken',
    breaks: 'F10, F12: what comes after a lost batch is refused until that one has come',
    caughtBy: ['reordered', 'duplicated'],
    firstSeed: 1,
    seeds: 150,
    faults: ['kill', 'reset', 'transfer'],
    plant: () =>
      patch(
        Producers.prototype,
        'check',
        (original) =>
          function (this: Producers, ...args: never[]) {
            const verdict = original.apply(this, args) as Producers['verdict'];
            if (verdict.error === 'OUT_OF_SEQUENCE' || verdict.error === 'UNKNOWN_PRODUCER') verdict.error = null;
            return verdict;
          },
      ),
  },
];
