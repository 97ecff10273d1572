import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient, MessageHandler } from '../../src/index.ts';
import type { TestCluster } from '../e2e/test-cluster.ts';

const TOPICS = ['orders', 'mixed', 'failing', 'slow', 'later', 'payments'] as const;
const ROUND_MS = 100;
/** Broken attempts are over soon. */
const FAST = { reconsumeBackoff: 'exponential', reconsumeBackoffBaseMs: 50, reconsumeBackoffJitter: false } as const;

/**
 * Uses everything that has a metric, a little, all the time: sends, filters, failures, dead letters, lag, delays, transactions,
 * quotas, refused connections.
 */
export class Load {
  readonly #cluster: TestCluster;
  readonly #client: LedgerClient;
  readonly #greedy: LedgerClient;
  #stopped = false;
  #loops: Promise<void>[] = [];

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
    this.#client = cluster.client();
    this.#greedy = cluster.client({ clientId: 'greedy' });
  }

  async start(): Promise<void> {
    for (const topic of TOPICS) await this.#cluster.createTopic(topic, 2);
    await this.#cluster.json('quota', 'set', '--client', 'greedy', '--messages-per-s', '2');
    await this.#consume();
    const producer = this.#client.producer();
    const greedy = this.#greedy.producer({ deliveryTimeoutMs: 2_000 });
    const paid = this.#client.transactionProducer({ group: 'payers', checkLocalTransaction: async () => 'unknown' });
    let round = 0;
    this.#loops = [
      this.#repeat(async () => {
        round++;
        await Promise.all([
          ...Array.from({ length: 10 }, (_, i) => producer.send({ topic: 'orders', body: `order ${i}`.repeat(20) })),
          producer.send({ topic: 'mixed', body: 'x', tag: round % 10 === 0 ? 'wanted' : 'other' }),
          producer.send({ topic: 'failing', body: 'x' }),
          producer.send({ topic: 'slow', body: 'x' }),
          producer.send({ topic: 'later', body: 'x', delayMs: 300 }),
        ]);
        await paid.sendInTransaction({ topic: 'payments', body: 'x' }, async () => (round % 2 === 0 ? 'commit' : 'rollback'));
        if (round % 20 === 1) await paid.begin({ topic: 'payments', body: 'nobody knows' });
      }),
      this.#repeat(async () => {
        await Promise.allSettled(Array.from({ length: 20 }, () => greedy.send({ topic: 'orders', body: 'too many' })));
      }),
      this.#repeat(() => this.#knock()),
    ];
  }

  /** Ends the load; what it has made stays. @throws what a loop failed with */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#loops);
    await Promise.all([this.#client.close(), this.#greedy.close()]);
  }

  async #consume(): Promise<void> {
    const client = this.#client;
    const start = (group: string, topic: string, handler: MessageHandler, more: object = {}): Promise<void> =>
      client
        .consumer({ ...FAST, group, subscriptions: [{ topic, ...more }], consumeFromWhere: 'first', maxReconsumeTimes: 1, handler })
        .start();
    await start('billing', 'orders', () => undefined);
    await start('choosers', 'mixed', () => undefined, { filter: 'wanted' });
    await start('unlucky', 'failing', () => {
      throw new Error('never');
    });
    await start('slow', 'slow', () => sleep(1_000).then(() => undefined));
    await start('later', 'later', () => undefined);
    await start('payers', 'payments', () => undefined);
  }

  /** Somebody who speaks another language, and somebody who asks for what is not there. */
  async #knock(): Promise<void> {
    for (const endpoint of this.#cluster.local.endpoints) {
      const socket = new WebSocket(endpoint);
      await new Promise<void>((resolve) => {
        socket.onopen = () => socket.send(new Uint8Array([1, 2, 3]));
        socket.onclose = () => resolve();
        socket.onerror = () => resolve();
      });
    }
    await this.#client
      .admin()
      .message('00'.repeat(16))
      .catch(() => undefined);
  }

  async #repeat(work: () => Promise<unknown>): Promise<void> {
    while (!this.#stopped) {
      await work();
      await sleep(ROUND_MS);
    }
  }
}
