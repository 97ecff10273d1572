import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Consumer, LedgerClient, MessageQueue } from '../../src/index.ts';
import { dense, drain, texts, until } from '../e2e/test-cluster.ts';

const IN_FLIGHT = 16;
/** Between two sends of a loop: a steady stream, not a measurement. */
const PAUSE_MS = 2;

/** Producers that keep sends on their way to their queues, and one consumer group over all of them; every outcome is kept. */
export class Load {
  readonly failures: unknown[] = [];
  readonly #topic: string;
  readonly #offsets: number[][] = [];
  /** Per queue: what the group's handlers were given, in order. */
  readonly #consumed: number[][] = [];
  readonly #loops: Promise<void>[];
  readonly #consumers: readonly Consumer[];
  #running = true;

  /** One producer and one member of the group by each client; queue q is written by client q mod clients. */
  constructor(topic: string, clients: readonly LedgerClient[], queues: number) {
    this.#topic = topic;
    const producers = clients.map((client) => client.producer());
    this.#loops = Array.from({ length: queues }, async (_, queueId) => {
      this.#offsets[queueId] = [];
      this.#consumed[queueId] = [];
      const producer = producers[queueId % producers.length] as (typeof producers)[number];
      const window: Promise<void>[] = [];
      for (let number = 0; this.#running; number++) {
        window.push(
          producer.send({ topic, body: `m${number}`, queue: { topic, brokerName: 'a', queueId } }).then(
            ({ offset }) => {
              (this.#offsets[queueId] as number[])[number] = offset as number;
            },
            (error: unknown) => void this.failures.push(error),
          ),
        );
        if (window.length >= IN_FLIGHT) await window.shift();
        await sleep(PAUSE_MS);
      }
      await Promise.all(window);
    });
    this.#consumers = clients.map((client) =>
      client.consumer({
        group: `${topic}-readers`,
        topics: [topic],
        consumeFromWhere: 'first',
        ordered: true,
        handler: (message) => void this.#consumed[message.queueId]?.push(message.offset),
      }),
    );
  }

  async start(): Promise<void> {
    for (const consumer of this.#consumers) await consumer.start();
    await this.progress();
  }

  /** Returns when every queue has taken and delivered `count` more. */
  async progress(count = 50): Promise<void> {
    const wanted = this.#offsets.map((offsets) => offsets.length + count);
    await until('every queue takes more', () => this.#offsets.every((offsets, at) => offsets.length >= (wanted[at] as number)), 30_000);
    await until(
      'the group reads on',
      () => this.#consumed.every((offsets, at) => (offsets.at(-1) ?? -1) + 1 >= (wanted[at] as number)),
      60_000,
    );
  }

  /**
   * Ends the load and checks all of it: no send failed; each queue holds exactly what was sent, in the order of the calls, at the
   * acknowledged offsets; the group was given every message, none before its predecessors.
   */
  async check(client: LedgerClient): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
    expect(this.failures).toEqual([]);
    for (const [queueId, offsets] of this.#offsets.entries()) {
      const queue: MessageQueue = { topic: this.#topic, brokerName: 'a', queueId };
      const stored = await drain(client, queue);
      expect(offsets).toEqual(dense(offsets.length));
      expect(texts(stored)).toEqual(dense(offsets.length).map((number) => `m${number}`));
      const consumed = this.#consumed[queueId] as number[];
      await until(`the group has read queue ${queueId}`, () => consumed.at(-1) === offsets.length - 1, 60_000);
      let next = 0;
      for (const offset of consumed) {
        expect(offset).toBeLessThanOrEqual(next);
        next = Math.max(next, offset + 1);
      }
    }
    await Promise.all(this.#consumers.map((consumer) => consumer.close()));
  }
}
