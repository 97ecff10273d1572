import { expect } from 'vitest';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { formatMessageId } from '../../src/protocol/message-id.ts';
import type { PullResponse } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';
import { TimerHarness } from './timer-harness.ts';

export const SEGMENT = 16_384;
export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
const HIGH = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
export const idOf = (low: number): string => formatMessageId({ high: HIGH, low });

/** A leader whose log keeps 72 hours; U is what fills it. */
export class FilledLog extends TimerHarness {
  #filled = 1_000_000;

  constructor(level: number = FEATURE_LEVELS.keeping) {
    super({ T: 2, U: 1 }, SEGMENT);
    this.command({ type: 'featureLevelRaise', level });
  }

  get start(): number {
    return this.broker.machine.startPosition();
  }

  /** A day passes for each two segments. */
  async fill(days: number): Promise<void> {
    for (let day = 0; day < days; day++) {
      for (let i = 0; i < 4; i++) this.broker.sent(this.session, 'U', 0, makeBatch({ bodyBytes: 8_000, idLow: this.#filled++ }));
      await this.pass(DAY, DAY / 4);
    }
  }

  /** A check of retention begins, and so many entries later its leader is none any more; it leads again without what it could not commit. */
  async loseLeadershipAfter(entries: number, idLow: number): Promise<void> {
    for (let i = 0; i < 2; i++) this.broker.sent(this.session, 'U', 0, makeBatch({ bodyBytes: 8_000, idLow }));
    const { replica, clock } = this.broker;
    replica.passTime(DAY / 2);
    clock.advance(DAY / 2);
    for (let i = 0; i < entries; i++) {
      await new Promise(setImmediate);
      clock.runDeferred();
      if (entries % 3 > 0 || i < entries - 1) replica.commit();
    }
    replica.truncateFrom(replica.appliedIndex() + 1);
    replica.follow(replica.role().term + 1);
    replica.leadReady();
    await this.settle();
  }

  async ask(op: Parameters<TimerHarness['broker']['request']>[1], body: unknown): Promise<unknown> {
    const id = this.broker.request(this.session, op, body as never);
    await this.settle();
    return this.session.answers.get(id);
  }

  /** First bytes of the bodies that a queue shows. */
  async bodies(queueId = 0, topic = 'T', offset = 0): Promise<number[]> {
    const id = this.broker.pull(this.session, { topic, queueId, offset });
    await this.settle();
    const { batches } = this.session.answers.get(id) as PullResponse;
    const raw = this.session.raws.get(id) as Uint8Array;
    let at = 0;
    return batches.map(({ sizeBytes }) => {
      at += sizeBytes;
      return raw[at - 1] as number;
    });
  }

  /** Another replica, which has the log from its start on and the state that stood there. */
  expectTheSameElsewhere(): void {
    const { replica, machine } = this.broker;
    const all = replica.positions;
    const first = all.findIndex((position) => position >= this.start);
    const before = new BrokerStateMachine({ brokerName: 'broker-a', queues: new MemoryQueues(), ids: new MemoryIds() });
    replica.replay(before, 1, first);
    before.onSegmentStart(this.start);
    const queues = new MemoryQueues();
    const other = new BrokerStateMachine({ brokerName: 'broker-a', queues, ids: new MemoryIds() });
    other.restore(before.snapshot());
    replica.replay(other, first + 1, all.length);
    expect(other.digest()).toBe(machine.digest());
    expect(Buffer.from(other.snapshot()).equals(Buffer.from(machine.snapshot()))).toBe(true);
    // Every unit that waits, or that a queue shows, is there without the log that was cut.
    for (const topic of machine.topics.all()) {
      for (const { queueId, logMinOffset } of topic.queues) {
        const wanted = this.broker.queues.queue(topic.name, topic.id, queueId).rows.filter(({ baseOffset }) => baseOffset >= logMinOffset);
        const found = queues.queue(topic.name, topic.id, queueId).rows.filter(({ baseOffset }) => baseOffset >= logMinOffset);
        expect([topic.name, queueId, found]).toEqual([topic.name, queueId, wanted]);
      }
    }
  }
}
