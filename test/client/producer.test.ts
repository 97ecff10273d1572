import { describe, expect, test } from 'vitest';
import type { ProducerOptions } from '../../src/client/options.ts';
import type { Producer } from '../../src/client/producer.ts';
import type { SendResult } from '../../src/client/types.ts';
import type { LedgerError } from '../../src/protocol/errors.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';

async function connected(options: ProducerOptions = {}, queues = 1): Promise<{ group: ScriptedGroup; producer: Producer }> {
  const group = new ScriptedGroup();
  group.queues = queues;
  const producer = group.client().producer(options);
  const warm = producer.send({ topic: 't', body: 'warm', queue: { topic: 't', brokerName: 'g', queueId: 0 } });
  await group.clock.run(100);
  await warm;
  group.sent.length = 0;
  return { group, producer };
}

interface Outcome {
  readonly results: (SendResult | LedgerError)[];
}
function sendAll(producer: Producer, bodies: readonly string[], queueId = 0): Outcome {
  const results: (SendResult | LedgerError)[] = [];
  bodies.forEach((body, i) => {
    producer.send({ topic: 't', body, queue: { topic: 't', brokerName: 'g', queueId } }).then(
      (result) => {
        results[i] = result;
      },
      (error: LedgerError) => {
        results[i] = error;
      },
    );
  });
  return { results };
}
const numbered = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `m${from + i}`);

describe('batching', () => {
  test('F11 sends of one turn leave in one batch and resolve with their own id and offset', async () => {
    const { group, producer } = await connected();
    const { results } = sendAll(producer, numbered(10));
    await group.clock.run(10);
    expect(group.sent.map(({ bodies }) => bodies)).toEqual([numbered(10)]);
    const sent = results as SendResult[];
    expect(sent.map(({ offset }) => offset)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(new Set(sent.map(({ msgId }) => msgId)).size).toBe(10);
    expect(sent[0]?.msgId).toMatch(/^[0-9A-F]{32}$/);
  });

  test('F11 at most 8 batches are in flight for a queue; what comes meanwhile gathers in the next', async () => {
    const { group, producer } = await connected();
    group.script = () => 'swallow';
    for (let i = 0; i < 20; i++) {
      sendAll(producer, [`m${i}`]);
      await group.clock.run(2);
    }
    expect(group.sent).toHaveLength(8);
    group.script = () => null;
    group.net.reset('ws://a:1');
    await group.clock.run(1_000);
    expect(group.bodies()).toEqual(['warm', ...numbered(20)]);
    expect(group.sent.at(-1)?.bodies).toEqual(numbered(12, 8));
  });

  test('F12 batches of many queues share a frame', async () => {
    const { group, producer } = await connected({}, 100);
    for (let i = 0; i < 100; i++) sendAll(producer, ['x'], i);
    await group.clock.run(10);
    expect(group.sent).toHaveLength(100);
    expect(new Set(group.sent.map(({ frame }) => frame)).size).toBe(1);
  });

  test('F05 unkeyed sends stay on a queue until its batch closes, then take the next', async () => {
    const { group, producer } = await connected({}, 4);
    for (let turn = 0; turn < 4; turn++) {
      for (let i = 0; i < 5; i++) void producer.send({ topic: 't', body: `${turn}/${i}` });
      await group.clock.run(5);
    }
    expect(group.sent.map(({ bodies }) => bodies.length)).toEqual([5, 5, 5, 5]);
    expect(new Set(group.sent.map(({ queueId }) => queueId)).size).toBe(4);
  });

  test('F11 sendBatch is one batch, apart from single sends', async () => {
    const { group, producer } = await connected();
    const queue = { topic: 't', brokerName: 'g', queueId: 0 };
    const single = producer.send({ topic: 't', body: 'a', queue });
    const batch = producer.sendBatch(['b', 'c'].map((body) => ({ topic: 't', body, queue })));
    const after = producer.send({ topic: 't', body: 'd', queue });
    await group.clock.run(10);
    expect(group.sent.map(({ bodies }) => bodies)).toEqual([['a'], ['b', 'c'], ['d']]);
    expect((await batch).map(({ offset }) => offset)).toEqual([2, 3]);
    expect((await single).offset).toBe(1);
    expect((await after).offset).toBe(4);
  });

  test('F11 lingerMs gathers several turns', async () => {
    const { group, producer } = await connected({ lingerMs: 20 });
    await group.clock.run(100);
    group.sent.length = 0;
    for (let i = 0; i < 5; i++) {
      sendAll(producer, [`m${i}`]);
      await group.clock.run(3);
    }
    await group.clock.run(50);
    expect(group.sent.map(({ bodies }) => bodies)).toEqual([numbered(5)]);
  });

  test('F09 one-way: stored, nothing answered, no sequence', async () => {
    const { group, producer } = await connected();
    producer.sendOneWay({ topic: 't', body: 'x' });
    await group.clock.run(10);
    expect(group.bodies()).toEqual(['warm', 'x']);
    expect(producer.bufferedBytes).toBe(0);
  });

  test('F09 the callback form tells result and error', async () => {
    const { group, producer } = await connected();
    const told: unknown[] = [];
    producer.send({ topic: 't', body: 'x' }, (error, result) => told.push(error ?? result?.offset));
    producer.send({ topic: '', body: 'x' }, (error, result) => told.push(error?.code ?? result));
    await group.clock.run(10);
    expect(told).toEqual(['BAD_NAME', 1]);
    // Also of what the broker refuses, later.
    group.script = () => 'NO_PERMISSION';
    producer.send({ topic: 't', body: 'x' }, (error, result) => told.push(error?.code ?? result));
    await group.clock.run(10);
    expect(told).toEqual(['BAD_NAME', 1, 'NO_PERMISSION']);
  });

  test('F15 bad names and sizes are refused before the network', async () => {
    const { group, producer } = await connected({ maxMessageBytes: 100 });
    const bad = [
      producer.send({ topic: 'no spaces', body: '' }),
      producer.send({ topic: 't', body: 'x'.repeat(101) }),
      producer.send({ topic: 't', body: '', properties: { TAGS: 'x' } }),
      producer.send({ topic: 't', body: '', tag: 'a|b' }),
      producer.send({ topic: 't', body: '', keys: ['a b'] }),
    ];
    const codes = (await Promise.allSettled(bad)).map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'sent'));
    expect(codes).toEqual(['BAD_NAME', 'MESSAGE_TOO_LARGE', 'BAD_NAME', 'BAD_NAME', 'BAD_NAME']);
    expect(group.sent).toHaveLength(0);
  });

  test('F15 what is too large is told with its size and the limit', async () => {
    const { producer } = await connected({ maxMessageBytes: 100 });
    const text = (send: Promise<unknown>): Promise<string> => send.then(String, (error: LedgerError) => error.message);
    const large = { topic: 't', body: 'x'.repeat(101) };
    expect(await text(producer.send(large))).toBe('MESSAGE_TOO_LARGE: a body of 101 bytes; the limit is 100');
    const properties = { p: 'x'.repeat(40_000) };
    expect(await text(producer.send({ topic: 't', body: '', properties }))).toBe(
      'MESSAGE_TOO_LARGE: properties, tag and keys of 40004 bytes; the limit is 32767',
    );
    const many = Array.from({ length: 65_536 }, () => ({ topic: 't', body: '' }));
    expect(await text(producer.sendBatch(many))).toMatch(/a batch of 65536 messages, \d+ bytes; the limits are 65535 messages, \d+ bytes$/);
  });

  test('F09 a result can be spread and turned to JSON: it holds what it says', async () => {
    const { group, producer } = await connected();
    const sent = producer.send({ topic: 't', body: 'x' });
    await group.clock.run(10);
    const result = await sent;
    expect({ ...result }).toEqual({ msgId: expect.stringMatching(/^[0-9A-F]{32}$/), topic: 't', brokerName: 'g', queueId: 0, offset: 1 });
    expect(JSON.parse(JSON.stringify(result))).toEqual({ ...result });
  });

  test('F11 send() waits at maxBufferedBytes and goes on when there is room', async () => {
    const { group, producer } = await connected({ maxBufferedBytes: 10_000 });
    const { results } = sendAll(
      producer,
      Array.from({ length: 50 }, () => 'x'.repeat(1_000)),
    );
    expect(producer.bufferedBytes).toBeLessThan(12_000);
    await group.clock.run(100);
    expect(results.filter((result) => 'offset' in result)).toHaveLength(50);
    expect(group.bodies()).toHaveLength(51);
  });

  test('credit: unanswered bytes stay below the window', async () => {
    const group = new ScriptedGroup();
    group.sendWindowBytes = 5_000;
    group.queues = 10;
    const producer = group.client().producer();
    await group.clock.run(50);
    group.script = () => 'swallow';
    for (let i = 0; i < 10; i++) sendAll(producer, ['x'.repeat(2_000)], i);
    await group.clock.run(50);
    expect(group.sent).toHaveLength(2);
    group.script = () => null;
    group.net.reset('ws://a:1');
    await group.clock.run(1_000);
    expect([...group.stored.keys()].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });
});

describe('lost answers and new leaders', () => {
  test('F10 stored but unanswered: sent again under its sequence, stored once, in order', async () => {
    const { group, producer } = await connected();
    group.script = ({ bodies }) => (bodies[0] === 'm1' ? 'storeAndSwallow' : null);
    const first = sendAll(producer, ['m0']);
    await group.clock.run(2);
    const rest: Outcome[] = [];
    for (const body of ['m1', 'm2', 'm3']) {
      rest.push(sendAll(producer, [body]));
      await group.clock.run(1);
    }
    group.script = () => null;
    group.net.reset('ws://a:1');
    await group.clock.run(1_000);
    expect(group.bodies()).toEqual(['warm', 'm0', 'm1', 'm2', 'm3']);
    expect([first, ...rest].map(({ results: [result] }) => (result as SendResult).offset)).toEqual([1, 2, 3, 4]);
  });

  test('F10 F12 a killed leader: all goes to the next one in order, redirects use up no retry', async () => {
    const { group, producer } = await connected({ retryTimesWhenSendFailed: 0 });
    group.script = () => 'swallow';
    const outcomes: Outcome[] = [];
    for (let i = 0; i < 12; i++) {
      outcomes.push(sendAll(producer, [`m${i}`]));
      await group.clock.run(1);
    }
    group.script = () => null;
    group.kill(1);
    await group.clock.run(500);
    group.elect(3);
    await group.clock.run(3_000);
    expect(group.bodies()).toEqual(['warm', ...numbered(12)]);
    expect(outcomes.map(({ results: [result] }) => (result as SendResult).offset)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
    expect(group.sent.at(-1)?.endpoint).toBe('ws://c:1');
  });

  test('F10 a leader that goes silent is left as soon as another one leads', async () => {
    const { group, producer } = await connected();
    group.net.silence('ws://a:1');
    const outcome = sendAll(producer, ['m0']);
    await group.clock.run(2_000);
    group.elect(2);
    await group.clock.run(15_000);
    expect((outcome.results[0] as SendResult).offset).toBe(1);
    expect(group.bodies()).toEqual(['warm', 'm0']);
  });

  test('F10 unanswered until the delivery deadline: OUTCOME_UNKNOWN, and the queue goes on in a new epoch', async () => {
    const { group, producer } = await connected({ deliveryTimeoutMs: 5_000, sendTimeoutMs: 1_000 });
    group.script = () => 'swallow';
    const outcome = sendAll(producer, ['m0']);
    await group.clock.run(1_500);
    const behind = sendAll(producer, ['m1']);
    await group.clock.run(3_000);
    expect(outcome.results).toHaveLength(0);
    await group.clock.run(1_000);
    expect((outcome.results[0] as LedgerError).code).toBe('OUTCOME_UNKNOWN');
    expect((outcome.results[0] as LedgerError).causes.length).toBeGreaterThan(1);
    expect((behind.results[0] as LedgerError).code).toBe('OUTCOME_UNKNOWN');
    group.script = () => null;
    const next = sendAll(producer, ['m2']);
    await group.clock.run(2_000);
    expect((next.results[0] as SendResult).offset).toBe(1);
    expect(group.sent.at(-1)).toMatchObject({ epoch: 1, sequence: 0 });
  });

  test('F10 2 retries are 3 attempts, then RETRIES_EXHAUSTED with every cause', async () => {
    const { group, producer } = await connected();
    group.script = () => 'DISK_FULL';
    const outcome = sendAll(producer, ['m0']);
    await group.clock.run(10_000);
    const error = outcome.results[0] as LedgerError;
    expect(error.code).toBe('RETRIES_EXHAUSTED');
    expect(error.causes.map(({ code }) => code)).toEqual(['DISK_FULL', 'DISK_FULL', 'DISK_FULL']);
    expect(group.sent).toHaveLength(3);
  });

  test('F10 backoff without jitter: 1, 2, 4, 8, 16 s', async () => {
    const options = { retryTimesWhenSendFailed: 5, retryBackoffBaseMs: 1_000, retryJitter: false, deliveryTimeoutMs: 60_000 };
    const { group, producer } = await connected(options);
    group.script = () => 'DISK_FULL';
    sendAll(producer, ['m0']);
    await group.clock.run(60_000);
    const times = group.sent.map(({ atMs }) => atMs);
    expect(times.slice(1).map((at, i) => Math.floor((at - (times[i] as number)) / 100) * 100)).toEqual([
      1_000, 2_000, 4_000, 8_000, 16_000,
    ]);
  });

  test('F10 a refusal in the middle: what is behind it is stored in order under a new epoch, nothing twice', async () => {
    const { group, producer } = await connected();
    group.script = ({ bodies }) => (bodies[0] === 'm1' ? 'MESSAGE_TOO_LARGE' : null);
    const outcomes: Outcome[] = [];
    const queue = { topic: 't', brokerName: 'g', queueId: 0 };
    const whole = numbered(4).map((body) => producer.sendBatch([{ topic: 't', body, queue }]));
    const settled = Promise.allSettled(whole);
    await group.clock.run(2_000);
    void outcomes;
    expect((await settled).map((result) => (result.status === 'fulfilled' ? result.value[0]?.offset : result.reason.code))).toEqual([
      1,
      'MESSAGE_TOO_LARGE',
      2,
      3,
    ]);
    expect(group.bodies()).toEqual(['warm', 'm0', 'm2', 'm3']);
  });

  test('a topic that does not exist is TOPIC_NOT_FOUND', async () => {
    const { group, producer } = await connected();
    const outcome = producer.send({ topic: 'missing', body: '' }).catch((error: LedgerError) => error.code);
    await group.clock.run(1_000);
    expect(await outcome).toBe('TOPIC_NOT_FOUND');
  });
});
