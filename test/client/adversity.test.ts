import { describe, expect, test } from 'vitest';
import type { Consumer } from '../../src/client/consumer.ts';
import { consumerSettings } from '../../src/client/consumer-settings.ts';
import { HandlerRunner } from '../../src/client/handler-runner.ts';
import type { LedgerClient } from '../../src/client/ledger-client.ts';
import { ReceivedBatch } from '../../src/client/message.ts';
import type { ConsumerOptions } from '../../src/client/options.ts';
import { ProcessQueue } from '../../src/client/process-queue.ts';
import type { Producer } from '../../src/client/producer.ts';
import type { LedgerError } from '../../src/protocol/errors.ts';
import { type Assignment, Op } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';

function assignment(epoch: number, committedOffset: number, revoking = false, own = 1): Assignment {
  const queue = { topic: 't', queueId: 0 };
  return { group: 'cg', member: '', epoch, queues: [{ ...queue, committedOffset, epoch: own }], revoking: revoking ? [queue] : [] };
}
const AT = { topic: 't', brokerName: 'g', queueId: 0 };
const numbered = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `m${from + i}`);

interface Setup {
  readonly group: ScriptedGroup;
  readonly client: LedgerClient;
  readonly producer: Producer;
  produce(bodies: readonly string[]): Promise<void>;
  consumer(options: Partial<ConsumerOptions>): Promise<Consumer>;
}
async function setup(first: Assignment | null = null): Promise<Setup> {
  const group = new ScriptedGroup();
  group.assignment = first;
  const io = { clock: group.clock, net: group.net, random: { u32: () => 7, unit: () => 0.5, fill: () => {} } };
  const client = group.client({ io });
  const producer = client.producer({ deliveryTimeoutMs: 5_000 });
  const produce = async (bodies: readonly string[]): Promise<void> => {
    for (const body of bodies) void producer.send({ topic: 't', body, queue: AT });
    await group.clock.run(50);
  };
  const consumer = async (options: Partial<ConsumerOptions>): Promise<Consumer> => {
    const made = client.consumer({ group: 'cg', topics: ['t'], consumeFromWhere: 'first', ...options });
    const started = made.start();
    await group.clock.run(100);
    await started;
    return made;
  };
  return { group, client, producer, produce, consumer };
}

describe('consumer', () => {
  test('F21 a pull that was on its way when buffered messages were given back skips none of them', async () => {
    const { group, produce, consumer } = await setup(assignment(1, 0));
    const seen: string[] = [];
    const done: (() => void)[] = [];
    const handler = (message: { text(): string }): Promise<void> => {
      seen.push(message.text());
      return new Promise((resolve) => done.push(resolve));
    };
    await consumer({ handler, concurrency: 1 });
    await produce(numbered(5));
    group.refuseCommits = 'FENCED';
    done[0]?.();
    await group.clock.run(500);
    group.refuseCommits = null;
    await produce(['m5']);
    for (let i = 1; i < 6; i++) {
      done[i]?.();
      await group.clock.run(2_000);
    }
    expect(seen).toEqual(numbered(6));
    expect(group.committed.get(0)).toBe(6);
  });

  test('I8 F17 long polls that a broker cannot hold are no storm', async () => {
    const { group, produce, consumer } = await setup(assignment(1, 0));
    group.holdsPulls = false;
    const seen: string[] = [];
    await consumer({ handler: (message) => void seen.push(message.text()) });
    await group.clock.run(10_000);
    expect(group.requests.filter(({ op }) => op === Op.pull).length).toBeLessThan(50);
    await produce(numbered(3));
    await group.clock.run(1_000);
    expect(seen).toEqual(numbered(3));
  });

  test('F06 a queue given back before its start was known takes no offset with it', async () => {
    const { group, consumer } = await setup(assignment(1, -1));
    group.assignment = assignment(1, -1, true);
    await consumer({ handler: () => {} });
    await group.clock.run(500);
    const releases = group.requests.filter(({ op }) => op === Op.groupRelease).map(({ body }) => body);
    expect(releases).toMatchObject([{ queues: [{ offset: -1 }] }]);
  });

  test('F07 a message that failed while its queue was to go is tried again when the queue stays', async () => {
    const { group, produce, consumer } = await setup(assignment(1, 0));
    const attempts: number[] = [];
    await consumer({
      handler: (_message, { reconsumeTimes }) => {
        attempts.push(reconsumeTimes);
        if (reconsumeTimes === 0) throw new Error('once');
      },
      reconsumeBackoffBaseMs: 500,
    });
    await produce(['m0']);
    group.assign(assignment(2, 0, true));
    await group.clock.run(2_000);
    expect(attempts).toEqual([0]);
    group.assign(assignment(3, 0));
    await group.clock.run(2_000);
    expect(attempts).toEqual([0, 1]);
    expect(group.committed.get(0)).toBe(1);
  });

  test('F07 an assignment that crosses a release does not deliver again what is done', async () => {
    const { group, produce, consumer } = await setup(assignment(1, 0));
    const seen: string[] = [];
    await consumer({ handler: (message) => void seen.push(message.text()), commitIntervalMs: 60_000 });
    await produce(numbered(5));
    group.swallowReleases = true;
    group.assign(assignment(2, 0, true));
    await group.clock.run(50);
    group.assign(assignment(3, 0));
    await group.clock.run(1_000);
    expect(seen).toEqual(numbered(5));
    group.assign(assignment(4, 5, false, 4));
    await produce(['m5']);
    await group.clock.run(1_000);
    expect(seen).toEqual(numbered(6));
  });

  test('an onError that throws ends neither the retry nor the consumer', async () => {
    const { group, produce, consumer } = await setup(assignment(1, 0));
    const thrown: unknown[] = [];
    const defer = group.clock.defer.bind(group.clock);
    group.clock.defer = (callback) =>
      defer(() => {
        try {
          callback();
        } catch (error) {
          thrown.push(error);
        }
      });
    let calls = 0;
    const onError = (): void => {
      throw new Error('bad listener');
    };
    await consumer({
      onError,
      handler: () => {
        calls += 1;
        if (calls === 1) throw new Error('once');
      },
    });
    await produce(['m0']);
    await group.clock.run(3_000);
    expect(calls).toBe(2);
    expect(group.committed.get(0)).toBe(1);
    expect(thrown).toMatchObject([{ message: 'bad listener' }]);
  });

  test('F06 a short session has heartbeats to match; one that cannot live is refused', () => {
    const given = { group: 'cg', topics: ['t'] };
    expect(consumerSettings(given).heartbeatIntervalMs).toBe(3_000);
    expect(consumerSettings({ ...given, sessionTimeoutMs: 120_000, heartbeatIntervalMs: 30_000 }).heartbeatIntervalMs).toBe(30_000);
    expect(consumerSettings({ ...given, sessionTimeoutMs: 1_500 }).heartbeatIntervalMs).toBe(500);
    expect(() => consumerSettings({ ...given, sessionTimeoutMs: 2_000, heartbeatIntervalMs: 3_000 })).toThrow('BAD_REQUEST');
  });

  test('start() that found no broker can be called again', async () => {
    const group = new ScriptedGroup();
    group.assignment = assignment(1, 0);
    for (const id of [1, 2, 3]) group.kill(id);
    const consumer = group.client().consumer({ group: 'cg', topics: ['t'], handler: () => {} });
    const first = consumer.start().catch((error: LedgerError) => error.code);
    await group.clock.run(30_000);
    expect(await first).toBe('NO_ROUTE');
    for (const endpoint of group.endpoints) group.listen(endpoint);
    const second = consumer.start();
    await group.clock.run(10_000);
    await second;
    expect(consumer.assignment).toHaveLength(1);
  });

  test('F07 two clients with one client id are two members', () => {
    const group = new ScriptedGroup();
    const other = new ScriptedGroup();
    other.client().consumer({ group: 'cg', topics: ['t'] });
    const io = { clock: group.clock, net: group.net, random: { u32: () => 7, unit: () => 0.5, fill: () => {} } };
    const a = group.client().consumer({ group: 'cg', topics: ['t'] });
    const b = group.client({ io }).consumer({ group: 'cg', topics: ['t'] });
    expect(a.member).not.toBe(b.member);
  });

  test('a loop over buffered messages lets sockets and heartbeats come in between', () => {
    const clock = new ManualClock();
    const settings = consumerSettings({ group: 'cg', topics: ['t'] });
    const runner = new HandlerRunner({ clock } as never, settings, { finished: () => {} }, { sendBack: null, onAttemptsExhausted: null });
    const queue = new ProcessQueue(AT, null, 1, 0);
    queue.add(new ReceivedBatch(makeBatch({ count: 600 }), AT, 0, 1));
    runner.offer(queue);
    let taken = 0;
    while (!(runner.next() instanceof Promise)) taken += 1;
    expect(taken).toBe(256);
  });
});

describe('producer', () => {
  test('F09 a callback that throws keeps no other answer of its frame from being told', async () => {
    const { group, producer, produce } = await setup();
    await produce(['warm']);
    const thrown: unknown[] = [];
    const defer = group.clock.defer.bind(group.clock);
    group.clock.defer = (callback) =>
      defer(() => {
        try {
          callback();
        } catch (error) {
          thrown.push(error);
        }
      });
    const told: string[] = [];
    producer.send({ topic: 't', body: 'a', queue: AT }, () => {
      throw new Error('bad callback');
    });
    producer.send({ topic: 't', body: 'b', queue: AT }, (error) => told.push(error === null ? 'stored' : error.code));
    await group.clock.run(100);
    expect(told).toEqual(['stored']);
    expect(thrown).toMatchObject([{ message: 'bad callback' }]);
  });

  test('F09 close() does not wait for ever for one-way messages that find no leader', async () => {
    const { group, producer, produce } = await setup();
    await produce(['warm']);
    for (const id of [1, 2, 3]) group.kill(id);
    await group.clock.run(100);
    producer.sendOneWay({ topic: 't', body: 'lost' });
    let closed = false;
    void producer.close().then(() => {
      closed = true;
    });
    await group.clock.run(6_000);
    expect(closed).toBe(true);
  });

  test('close() called twice waits twice, of the client too', async () => {
    const { group, client, producer, produce } = await setup();
    await produce(['warm']);
    group.script = () => 'swallow';
    const sent = producer.send({ topic: 't', body: 'x', queue: AT }).catch((error: LedgerError) => error.code);
    void producer.close();
    void client.close();
    const closed: string[] = [];
    void producer.close().then(() => closed.push('producer'));
    void client.close().then(() => closed.push('client'));
    await group.clock.run(1_000);
    expect(closed).toEqual([]);
    await group.clock.run(6_000);
    expect(closed).toEqual(['producer', 'client']);
    expect(await sent).toBe('OUTCOME_UNKNOWN');
  });

  test('many sends that wait for room and are refused when they get it do not overflow the stack', async () => {
    const group = new ScriptedGroup();
    const producer = group.client().producer({
      maxBufferedMessages: 1,
      messageQueueSelector: (queues, _message, arg) => {
        if (arg === 'bad') throw new Error('no queue');
        return queues[0] as never;
      },
    });
    const first = producer.send({ topic: 't', body: 'warm', orderingKey: 'k' });
    const codes: string[] = [];
    const waiting = Array.from({ length: 20_000 }, () =>
      producer.send({ topic: 't', body: 'x' }, 'bad' as unknown).catch((error: LedgerError) => codes.push(error.code)),
    );
    await group.clock.run(100);
    await first;
    await Promise.all(waiting);
    expect(new Set(codes)).toEqual(new Set(['BAD_REQUEST']));
    expect(producer.bufferedBytes).toBe(0);
  });
});
