import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { httpGet } from '../../src/cli/local-ports.ts';
import type { LedgerClient, Message, MessageQueue, ReceivedMessage } from '../../src/index.ts';
import { TestCluster, texts, until } from './test-cluster.ts';

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

const BODY_BYTES = 2_000;

/** One batch each, so that it is known which messages travel together. */
async function sendBatches(queue: MessageQueue, batches: readonly (readonly Omit<Message, 'topic' | 'queue'>[])[]): Promise<void> {
  const producer = client.producer();
  for (const batch of batches) await producer.sendBatch(batch.map((message) => ({ ...message, topic: queue.topic, queue })));
  await producer.close();
}

const padded = (text: string): string => text.padEnd(BODY_BYTES, '.');
const shown = (messages: readonly ReceivedMessage[]): string[] => texts(messages).map((text) => text.replace(/\.*$/, ''));

/** A counter of the leader's, of one topic. */
async function counted(name: string, topic: string): Promise<number> {
  const leader = (await cluster.local.leader()) as number;
  const page = await httpGet(`${cluster.local.replica(leader).adminUrl}/metrics`, 5_000);
  const lines = page?.text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(`topic="${topic}"`)) ?? [];
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

describe('filtering', () => {
  test('F24 tags, SQL and a function: what is asked for is handled, in order, and batches without a match stay at the broker', async () => {
    const [queue] = (await cluster.createTopic('f24')) as [MessageQueue];
    // Two of five batches have somebody from the EU that pays more than 100, one of them beside others.
    const orders = [
      ['eu', 50],
      ['us', 500],
      ['eu', 200],
      ['asia', 300],
      [null, 900],
    ] as const;
    await sendBatches(
      queue,
      orders.map(([region, amount], at) => [
        { body: padded(`m${at}`), tag: region ?? 'none', properties: { amount: String(amount), ...(region === null ? {} : { region }) } },
        ...(at === 2 ? [{ body: padded('beside'), tag: 'us', properties: { amount: '1', region: 'us' } }] : []),
      ]),
    );
    const consume = async (group: string, subscription: object, expected: readonly string[]): Promise<void> => {
      const got: ReceivedMessage[] = [];
      const consumer = client.consumer({
        group,
        subscriptions: [{ topic: 'f24', ...subscription }],
        consumeFromWhere: 'first',
        handler: (message) => void got.push(message),
      });
      await consumer.start();
      await until(`${group} has what it asked for`, () => got.length >= expected.length);
      // A filter moves the group past what it drops: nothing is left.
      await until(`${group} is at the end`, async () => (await client.admin().lag(group)) === 0);
      await consumer.close();
      expect(shown(got)).toEqual(expected);
    };
    const batchBytes = BODY_BYTES;
    const outBefore = await counted('rocketmq_throughput_out_total', 'f24');
    await consume('f24-sql', { sql: "amount > 100 AND region = 'eu'" }, ['m2']);
    const sqlBytes = (await counted('rocketmq_throughput_out_total', 'f24')) - outBefore;
    // The mixed batch alone, of two messages.
    expect(sqlBytes).toBeGreaterThan(2 * batchBytes);
    expect(sqlBytes).toBeLessThan(3 * batchBytes);
    const filtered = await counted('ledgermq_filtered_out_bytes_total', 'f24');
    expect(filtered).toBeGreaterThan(4 * batchBytes);
    expect(filtered).toBeLessThan(5 * batchBytes);
    await consume('f24-tags', { filter: 'us || asia' }, ['m1', 'beside', 'm3']);
    await consume('f24-null', { sql: "region IS NULL OR region NOT IN ('eu', 'us')" }, ['m3', 'm4']);
    await consume('f24-both', { filter: 'us', sql: 'amount > 100' }, ['m1']);
    const before = await counted('rocketmq_throughput_out_total', 'f24');
    await consume('f24-function', { filter: (message: ReceivedMessage) => message.text().startsWith('b') }, ['beside']);
    // A function is the client's own: everything travels.
    expect((await counted('rocketmq_throughput_out_total', 'f24')) - before).toBeGreaterThan(6 * batchBytes);
  });

  test('F24 a filter that fails is told, and loses nothing', async () => {
    const [queue] = (await cluster.createTopic('f24-throws')) as [MessageQueue];
    await sendBatches(queue, [[{ body: 'a' }, { body: 'b' }, { body: 'c' }]]);
    const got: string[] = [];
    const errors: unknown[] = [];
    const consumer = client.consumer({
      group: 'f24-throws',
      subscriptions: [
        {
          topic: 'f24-throws',
          filter: (message) => {
            if (message.text() === 'b') throw new Error('no idea');
            return message.text() === 'c';
          },
        },
      ],
      consumeFromWhere: 'first',
      handler: (message) => void got.push(message.text()),
      onError: (error) => errors.push(error),
    });
    await consumer.start();
    await until('both are handled', () => got.length === 2);
    await consumer.close();
    expect(got).toEqual(['b', 'c']);
    expect(errors).toEqual([new Error('no idea')]);
  });

  test('F24 a member that filters otherwise is told so, and given nothing while the other one is there', async () => {
    await cluster.createTopic('f24-alike');
    const errors: unknown[] = [];
    const member = (sql: string) =>
      client.consumer({
        group: 'f24-alike',
        subscriptions: [{ topic: 'f24-alike', sql }],
        handler: () => {},
        onError: (error) => errors.push((error as { code?: string }).code),
      });
    const [first, other] = [member('a = 1'), member('a = 2')];
    await first.start();
    await until('the first one has the queue', () => first.assignment.length === 1);
    await other.start();
    await until('the other one is told', () => errors.length > 0);
    expect([errors[0], other.assignment]).toEqual(['GROUP_MODE_CONFLICT', []]);
    await first.close();
    await until('then it is its turn', () => other.assignment.length === 1);
    await other.close();
  });

  test('F24 explicit pulls and the command line filter as well; what does not parse is refused before the network', async () => {
    const [queue] = (await cluster.createTopic('f24-pull')) as [MessageQueue];
    await sendBatches(queue, [
      [
        { body: 'a', tag: 'A' },
        { body: 'b', tag: 'two words' },
      ],
      [{ body: 'c', properties: { n: '7' } }],
    ]);
    const puller = client.pullConsumer();
    const pulled = await puller.pull(queue, 0, { sql: 'n BETWEEN 5 AND 9' });
    expect([texts(pulled.messages), pulled.nextOffset]).toEqual([['c'], 3]);
    expect(texts((await puller.pull(queue, 0, { filter: (message) => message.offset === 1 })).messages)).toEqual(['b']);
    await expect(puller.pull(queue, 0, { sql: 'n =' })).rejects.toMatchObject({ code: 'BAD_FILTER' });
    const subscribe = (): unknown => client.consumer({ group: 'f24-bad', subscriptions: [{ topic: 'f24-pull', sql: 'n =' }] });
    expect(subscribe).toThrow(expect.objectContaining({ code: 'BAD_FILTER', detail: expect.stringContaining('character 4') }));
    const consumed = async (filter: string): Promise<string> => {
      const group = `f24-cli-${filter.length}`;
      const ran = await cluster.cli('consume', 'f24-pull', '--group', group, '--from', 'first', '--max', '1', '--filter', filter);
      return ran.stdout;
    };
    expect(await Promise.all([consumed('A || Z'), consumed("TAGS = 'two words'"), consumed('n > 5')])).toEqual(['a\n', 'b\n', 'c\n']);
    expect((await cluster.cli('consume', 'f24-pull', '--group', 'g', '--filter', 'n >')).exit).toBe(2);
  });
});
