import { describe, expect, test } from 'vitest';
import { Link } from '../../src/client/link.ts';
import { LedgerClient } from '../../src/index.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { ERRORS, errorCodeOf, LedgerError } from '../../src/protocol/errors.ts';
import { encodeProperties } from '../../src/protocol/properties.ts';
import { type BatchMessage, encodeBatch } from '../../src/protocol/record-batch-encoder.ts';
import { Op, type RequestOp, type Requests, type Responses } from '../../src/protocol/requests.ts';
import { TestGroup } from './group.ts';

const MIB = 1024 * 1024;
const TIMEOUT_MS = 10_000;
const HELLO = { clientId: 'raw', namespace: '', zone: '', agent: 'raw' };
const LINK = {
  hello: HELLO,
  requestTimeoutMs: TIMEOUT_MS,
  reconnect: { baseMs: 50, factor: 2, capMs: 500, jitter: false },
  keepAliveMs: 5_000,
  maxFrameBytes: 64 * MIB,
  maxPendingRequests: 1_024,
};

/** One connection that sends what it is told, without the client's own checks. */
class RawConnection {
  readonly link: Link;
  #ids = 0;

  constructor(endpoint: string) {
    this.link = new Link(endpoint, nodeIo(), LINK, { onReady: () => {}, onLost: () => {}, onPush: () => {} });
  }

  async open(): Promise<void> {
    expect(await new Promise<boolean>((resolve) => this.link.whenReady(TIMEOUT_MS, resolve))).toBe(true);
  }

  /** @returns the answer, or the code of the refusal */
  ask<O extends RequestOp>(op: O, body: Requests[O], raw?: Uint8Array): Promise<Responses[O] | string> {
    return new Promise((resolve) => {
      this.link.request(op, body, TIMEOUT_MS, (error, answer) => resolve(error === null ? (answer as Responses[O]) : error.code), raw);
    });
  }

  /** @returns the offset, or the code of the refusal */
  async send(
    topic: string,
    message: Partial<BatchMessage> = {},
    change: (batch: Uint8Array) => void = () => {},
    queueId = 0,
  ): Promise<number | string> {
    const idHigh = Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9);
    const header = { producerId: 0, producerEpoch: 0, firstSequence: 0, idHigh, idLow: this.#ids++ };
    const batch = encodeBatch([{ body: new Uint8Array(10), bornTimeMs: 1, ...message }], header).bytes.slice();
    change(batch);
    const answer = await this.ask(Op.send, { oneWay: false, replication: 0, parts: [{ topic, queueId, sizeBytes: batch.length }] }, batch);
    if (typeof answer === 'string') return answer;
    const [result] = answer.results;
    return result?.error === 0 ? result.baseOffset : errorCodeOf(result?.error ?? ERRORS.INTERNAL.number);
  }
}

describe('large and bad messages', () => {
  test('F15 the broker refuses each with a code of its own; what is in flight beside it on the connection is stored', async () => {
    await using group = await TestGroup.make('silent');
    await group.start(1, 2, 3);
    await group.ready();
    await using client = new LedgerClient({ endpoints: group.endpoints() });
    await client.admin().createTopic('orders', { queues: 1 });
    const leader = (await client.admin().clusterStatus()).brokers[0]?.leader as number;
    const raw = new RawConnection(group.endpoints()[leader - 1] as string);
    await raw.open();
    const { generation } = raw.link;
    const bad: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['MESSAGE_TOO_LARGE', () => raw.send('orders', { body: new Uint8Array(4 * MIB + 1) })],
      ['MESSAGE_TOO_LARGE', () => raw.send('orders', { body: new Uint8Array(6 * MIB) })],
      ['MESSAGE_TOO_LARGE', () => raw.send('orders', { properties: encodeProperties([['p', 'x'.repeat(32_768)]]) })],
      ['CORRUPT_BATCH', () => raw.send('orders', {}, (batch) => batch.fill(0xff, batch.length - 4))],
      ['CORRUPT_BATCH', () => raw.send('orders', {}, (batch) => batch.fill(0xff, 4, 8))],
      ['TOPIC_NOT_FOUND', () => raw.send('')],
      ['TOPIC_NOT_FOUND', () => raw.send('no such topic')],
      ['TOPIC_NOT_FOUND', () => raw.send('x'.repeat(300))],
      ['BAD_REQUEST', () => raw.send('x'.repeat(600))],
      ['QUEUE_NOT_FOUND', () => raw.send('orders', {}, () => {}, 7)],
      ...['', 'two words', 'x'.repeat(128), '%RETRY%g', 'SCHEDULE_TOPIC_XXXX', 'späße'].map(
        (topic) =>
          ['BAD_NAME', () => raw.ask(Op.topicCreate, { topic, queues: 1, perm: 6, messageType: 'normal', replication: 0 })] as const,
      ),
      ...['', 'two words', 'x'.repeat(256), 'TOOLS_CONSUMER'].map(
        (name) =>
          [
            'BAD_NAME',
            () => raw.ask(Op.groupJoin, { group: name, member: 'm', topics: ['orders'], strategy: 'sticky', sessionTimeoutMs: 0 }),
          ] as const,
      ),
      ['BAD_NAME', () => raw.ask(Op.groupJoin, { group: 'g', member: '', topics: ['orders'], strategy: 'sticky', sessionTimeoutMs: 0 })],
      ['BAD_NAME', () => raw.ask(Op.groupResetOffset, { group: 'two words', topic: 'orders', queueId: 0, offset: 0 })],
    ];
    // A good one after each bad one, none waits for the other.
    const answers = bad.map(([, send]) => [send(), raw.send('orders')] as const);
    expect(await Promise.all(answers.map(([refused]) => refused))).toEqual(bad.map(([code]) => code));
    expect(await Promise.all(answers.map(([, stored]) => stored))).toEqual(bad.map((_, i) => i));
    // The largest that is allowed.
    expect(await raw.send('orders', { body: new Uint8Array(4 * MIB) })).toBe(bad.length);
    expect([raw.link.ready, raw.link.generation]).toEqual([true, generation]);
    raw.link.close();
  }, 60_000);

  test('F15 the client refuses what it can see to be bad before anything goes out, and its other sends go on', async () => {
    await using client = new LedgerClient({ endpoints: 'ws://127.0.0.1:1', requestTimeoutMs: 100 });
    const producer = client.producer({ deliveryTimeoutMs: 200 });
    const code = (work: () => Promise<unknown>): Promise<string> =>
      work().then(
        () => 'sent',
        (error: unknown) => (error as LedgerError).code,
      );
    // Nobody listens there: only what was refused before the network has another code than those of the network.
    const bad: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['BAD_NAME', () => producer.send({ topic: '', body: 'x' })],
      ['BAD_NAME', () => producer.send({ topic: 'x'.repeat(128), body: 'x' })],
      ['BAD_NAME', () => producer.send({ topic: 'two words', body: 'x' })],
      ['BAD_NAME', () => producer.send({ topic: 'SCHEDULE_TOPIC_XXXX', body: 'x' })],
      ['MESSAGE_TOO_LARGE', () => producer.send({ topic: 't', body: new Uint8Array(4 * MIB + 1) })],
      ['MESSAGE_TOO_LARGE', () => producer.send({ topic: 't', body: 'x', properties: { p: 'x'.repeat(32_768) } })],
      ['BAD_NAME', () => producer.send({ topic: 't', body: 'x', properties: { ['p'.repeat(0)]: 'x' } })],
    ];
    expect(await Promise.all(bad.map(([, send]) => code(send)))).toEqual(bad.map(([expected]) => expected));
    expect(() => client.consumer({ group: '', topics: ['t'], handler: () => {} })).toThrow(LedgerError);
    expect(() => client.consumer({ group: 'x'.repeat(256), topics: ['t'], handler: () => {} })).toThrow(LedgerError);
    expect(await code(() => producer.send({ topic: 't', body: 'x' }))).not.toBe('sent');
  }, 30_000);
});
