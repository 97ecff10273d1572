import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, test } from 'vitest';
import { LedgerClient } from '../src/index.ts';
import { startTestBroker } from '../src/testing.ts';

const directories = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('ledgermq-test-'));

describe('startTestBroker', () => {
  test('two at once, each with its own topics; stop() leaves nothing behind', async () => {
    const before = directories();
    const [first, second] = await Promise.all([startTestBroker({ topics: { orders: 2 } }), startTestBroker()]);
    expect(first.endpoint).not.toBe(second.endpoint);
    const client = new LedgerClient({ endpoints: first.endpoint });
    expect(await client.producer().send({ topic: 'orders', body: 'hello' })).toMatchObject({ topic: 'orders', offset: 0 });
    const other = new LedgerClient({ endpoints: second.endpoint });
    expect(await other.admin().topics()).toEqual([]);
    await Promise.all([client.close(), other.close()]);
    const made = directories().filter((name) => !before.includes(name));
    expect(made.length).toBeGreaterThanOrEqual(2);
    await Promise.all([first.stop(), first.stop(), second.stop()]);
    // Other tests may have theirs at the same time: of these two at least, nothing is left.
    expect(made.filter((name) => existsSync(`${tmpdir()}/${name}`)).length).toBeLessThanOrEqual(made.length - 2);
  });

  test('a topic that cannot be made fails the start', async () => {
    await expect(startTestBroker({ topics: { '%RETRY%x': 1 } })).rejects.toMatchObject({ code: 'BAD_NAME' });
  });
});
