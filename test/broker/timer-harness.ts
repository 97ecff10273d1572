import { readU32 } from '../../src/base/bytes.ts';
import { type Command, encodeCommand } from '../../src/broker/commands.ts';
import { type DeliveryRow, encodeDelivery } from '../../src/broker/delivery.ts';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import type { BrokerLimits } from '../../src/broker/limits.ts';
import type { PulledBatch } from '../../src/protocol/pulled-batch.ts';
import { BatchFlag, sealBatch, setDeferral } from '../../src/protocol/record-batch.ts';
import type { PullResponse } from '../../src/protocol/requests.ts';
import { EntryType } from '../../src/replica/types.ts';
import { type BatchOptions, BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import type { FakeSession } from '../support/fake-session.ts';

export type Delay = { readonly level: number } | { readonly delayMs: number } | { readonly deliverAt: number };

export function delayed(delay: Delay, options: BatchOptions = {}): Uint8Array {
  const batch = makeBatch(options);
  if ('level' in delay) setDeferral(batch, BatchFlag.delayLevel, delay.level);
  else if ('delayMs' in delay) setDeferral(batch, BatchFlag.delayMs, delay.delayMs);
  else setDeferral(batch, BatchFlag.deliverAt, delay.deliverAt);
  sealBatch(batch);
  return batch;
}

/** A leader whose group knows delays; time passes for its clock and for the log alike. */
export class TimerHarness {
  readonly broker: BrokerHarness;
  readonly session: FakeSession;
  #idLow = 0;

  constructor(topics: Record<string, number> = { T: 2 }, segmentBytes?: number, limits: Partial<BrokerLimits> = {}) {
    this.broker = BrokerHarness.ready(topics, limits, segmentBytes);
    this.command({ type: 'featureLevelRaise', level: FEATURE_LEVELS.messaging });
    this.session = this.broker.session();
  }

  get now(): number {
    return this.broker.replica.logTimeMs();
  }

  /** @param rows what it places, as a delivery entry */
  command(command: Command, rows: readonly DeliveryRow[] = []): void {
    const bare = encodeCommand(command);
    const body = rows.length === 0 ? bare : encodeDelivery(bare, rows);
    this.broker.replica.propose(rows.length === 0 ? EntryType.command : EntryType.delivery, 0, 0, readU32(body, 0), body);
    this.broker.replica.settle();
  }

  /** @returns [error, base offset] */
  send(delay: Delay, options: BatchOptions = {}, queueId = 0, topic = 'T'): unknown[] {
    const idLow = options.idLow ?? this.#idLow;
    this.#idLow = idLow + (options.count ?? 1);
    return this.broker.sent(this.session, topic, queueId, delayed(delay, { ...options, idLow }));
  }

  /** What is proposed by what was applied is applied too, until nothing new comes. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 2; quiet++) {
      const before = this.broker.replica.positions.length;
      // Once all promises that stand are settled.
      await new Promise(setImmediate);
      this.broker.clock.runDeferred();
      this.broker.replica.settle();
      if (this.broker.replica.positions.length > before) quiet = 0;
    }
  }

  /** @param stepMs of the log's and the broker's clock alike */
  async pass(ms: number, stepMs = ms): Promise<void> {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.broker.replica.passTime(stepMs);
      this.broker.clock.advance(stepMs);
      await this.settle();
    }
  }

  pulled(queueId = 0, offset = 0, topic = 'T'): readonly PulledBatch[] {
    const id = this.broker.pull(this.session, { topic, queueId, offset });
    return (this.session.answers.get(id) as PullResponse).batches;
  }

  /** Messages that the queue has. */
  delivered(queueId = 0, topic = 'T'): number {
    return this.broker.machine.topics.named(topic)?.queues[queueId]?.nextOffset ?? 0;
  }
}
