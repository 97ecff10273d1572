import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Link } from '../../src/client/link.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { ERRORS, LedgerError } from '../../src/protocol/errors.ts';
import { Op, ReplicationMode, type RequestOp, type Requests, type Responses } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { dense, drain, numbered, TestCluster, texts, until } from './test-cluster.ts';

/** FAULTS 12 asks for 10 s: `LEDGERMQ_PAUSE_MS=10000 npm test -- test/e2e/paused-leader`. */
const PAUSE_MS = Number(process.env['LEDGERMQ_PAUSE_MS'] ?? 3_000);
const PATIENCE_MS = 60_000 + PAUSE_MS;
const BEFORE = 10;
const MEANWHILE = 20;

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

type Outcome<O extends RequestOp> = LedgerError | Responses[O];

/** What one replica says, and nobody else: no redirect, nothing is tried again. */
class OneReplica {
  readonly #link: Link;
  readonly #ready = Promise.withResolvers<void>();

  constructor(endpoint: string) {
    const hello = { clientId: 'one-replica', namespace: '', zone: '', agent: 'test' };
    const reconnect = { baseMs: 100, factor: 2, capMs: 1_000, jitter: true };
    const bounds = { keepAliveMs: PATIENCE_MS, maxFrameBytes: 16 * 1024 * 1024, maxPendingRequests: 100 };
    this.#link = new Link(
      endpoint,
      nodeIo(),
      { hello, reconnect, requestTimeoutMs: PATIENCE_MS, ...bounds },
      { onReady: () => this.#ready.resolve(), onLost: () => undefined, onPush: () => undefined },
    );
    this.#link.connect();
  }

  ready(): Promise<void> {
    return this.#ready.promise;
  }

  ask<O extends RequestOp>(op: O, body: Requests[O], raw?: Uint8Array): Promise<Outcome<O>> {
    return new Promise((resolve) => {
      this.#link.request(op, body, PATIENCE_MS, (error, answer) => resolve(error ?? (answer as Responses[O])), raw);
    });
  }

  close(): void {
    this.#link.close();
  }
}

/** A refusal says nothing; what is said must hold. */
function unlessRefused<O extends RequestOp>(outcome: Outcome<O>, check: (body: Responses[O]) => void): void {
  if (!(outcome instanceof LedgerError)) check(outcome);
}

test(
  'FAULTS 12 a leader that was paused and wakes acknowledges nothing, shows what was committed, and reads nothing from its old state',
  async () => {
    const client = cluster.client();
    const [queue] = await cluster.createTopic('paused');
    if (queue === undefined) throw new Error('a queue');
    const producer = client.producer({ deliveryTimeoutMs: 60_000 });
    const send = (names: readonly string[]) => Promise.all(names.map((body) => producer.send({ topic: 'paused', body, queue })));
    await send(numbered(BEFORE));
    const puller = client.pullConsumer();
    await puller.commit('readers', queue, 5);
    const leader = await cluster.local.waitLeader();
    const old = new OneReplica(cluster.local.endpoints[leader - 1] as string);
    await old.ready();

    cluster.local.replica(leader).signal('SIGSTOP');
    // They lie in its socket: the first thing that it sees when it wakes, before it has heard of anybody.
    const ghost = makeBatch({ idLow: 77, bodyBytes: 50 });
    const part = { topic: 'paused', queueId: 0, sizeBytes: ghost.length };
    const pull = { topic: 'paused', queueId: 0, maxBytes: 1 << 20, maxMessages: 1_000, group: '', member: '', epoch: 0, tagHashes: [] };
    const asked = Promise.all([
      old.ask(Op.send, { oneWay: false, replication: ReplicationMode.topicMinimum, parts: [part] }, ghost),
      old.ask(Op.pull, { ...pull, offset: 0, waitMs: 0 }),
      old.ask(Op.pull, { ...pull, offset: BEFORE, waitMs: 30_000 }),
      old.ask(Op.offsetFetch, { group: 'readers', queues: [{ topic: 'paused', queueId: 0 }] }),
      old.ask(Op.queueRange, { topic: 'paused', queueId: 0, timeMs: 0 }),
      old.ask(Op.topicList, { topics: [] }),
    ]);
    await Promise.all([send(numbered(MEANWHILE, BEFORE)), sleep(PAUSE_MS)]);
    await puller.commit('readers', queue, BEFORE);
    await client.admin().createTopic('made-meanwhile', { queues: 1 });

    cluster.local.replica(leader).signal('SIGCONT');
    const [sent, shown, waited, offsets, range, topics] = await asked;
    unlessRefused<typeof Op.send>(sent, ({ results }) => expect(results[0]?.error).not.toBe(0));
    for (const pulled of [shown, waited]) {
      unlessRefused<typeof Op.pull>(pulled, ({ nextOffset, maxOffset }) => {
        expect(nextOffset).toBeLessThanOrEqual(maxOffset);
        expect([BEFORE, BEFORE + MEANWHILE]).toContain(maxOffset);
      });
    }
    unlessRefused<typeof Op.offsetFetch>(offsets, (body) => expect(body.offsets).toEqual([BEFORE]));
    unlessRefused<typeof Op.queueRange>(range, ({ maxOffset }) => expect(maxOffset).toBe(BEFORE + MEANWHILE));
    unlessRefused<typeof Op.topicList>(topics, (body) => expect(body.topics.map(({ topic }) => topic)).toContain('made-meanwhile'));
    const said = [sent, shown, waited, offsets, range, topics].map((one) => (one instanceof LedgerError ? one.code : 'answered'));
    console.log(`a leader that was paused for ${PAUSE_MS} ms: ${said.join(', ')}`);
    if (!(sent instanceof LedgerError)) {
      const code = sent.results[0]?.error as number;
      expect(Object.values(ERRORS).some(({ number }) => number === code)).toBe(true);
    }

    await until('it serves again', async () => (await cluster.local.replica(leader).isReady()) === true);
    const stored = await drain(client, queue);
    expect(texts(stored)).toEqual(numbered(BEFORE + MEANWHILE));
    expect(stored.map(({ offset }) => offset)).toEqual(dense(BEFORE + MEANWHILE));
    expect(await cluster.json('verify')).toMatchObject({ identical: true });
    old.close();
  },
  PATIENCE_MS + 60_000,
);
