import { describe, expect, test } from 'vitest';
import { LedgerClient } from '../../src/index.ts';
import { TestGroup } from './group.ts';

const MARKER = 'XYZZY-7f3a';

describe('logs of a server', () => {
  test('F40 logs: a marker in a body, a key, a property and an ordering key is in no log of three replicas', async () => {
    await using group = await TestGroup.make('trace');
    await group.start(1, 2, 3);
    await group.ready();
    await using client = new LedgerClient({ endpoints: group.endpoints() });
    await client.admin().createTopic('orders', { queues: 1 });
    const message = {
      topic: 'orders',
      body: `body ${MARKER}`,
      keys: [`key-${MARKER}`],
      properties: { secret: MARKER },
      orderingKey: MARKER,
    };
    const { msgId } = await client.producer().send(message);
    expect((await client.admin().message(msgId)).text()).toBe(`body ${MARKER}`);
    const consumer = client.consumer({ group: 'billing', topics: ['orders'], consumeFromWhere: 'first' });
    for await (const { properties } of consumer) {
      expect(JSON.stringify(properties)).toContain(MARKER);
      break;
    }
    await consumer.close();
    await expect(client.producer().send({ ...message, topic: 'no-such-topic' })).rejects.toThrow();
    await client.admin().transferLeadership('a');
    const text = group.lines.join('');
    expect(text).not.toContain(MARKER);
    expect(text).not.toContain(Buffer.from(MARKER).toString('base64').slice(0, 12));
    expect(text).not.toContain(Buffer.from(MARKER).toString('hex'));

    const events = group.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    for (const line of group.lines) expect(line.indexOf('\n')).toBe(line.length - 1);
    for (const event of events) {
      expect(event).toMatchObject({ level: expect.any(String), time: expect.any(Number), broker: 'a', replica: expect.any(Number) });
    }
    for (const name of ['recovered', 'formed', 'role', 'topic put', 'transfer asked for']) {
      expect(events.map(({ event }) => event)).toContain(name);
    }
    // An administrative request is found again by client and request id.
    expect(events.find(({ event }) => event === 'topic put')).toMatchObject({
      topic: 'orders',
      requestId: expect.any(Number),
      client: client.clientId,
      address: expect.stringContaining('127.0.0.1'),
    });
  });

  test('F40 logs: logLevel leaves out what is less severe', async () => {
    await using group = await TestGroup.make('warn');
    await group.start(1, 2, 3);
    await group.ready();
    expect(group.lines).toEqual([]);
  });
});
