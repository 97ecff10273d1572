import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestCluster } from '../e2e/test-cluster.ts';
import { numbers, runExample } from './run.ts';

const EXAMPLES = join(import.meta.dirname, '..', '..', 'examples');
const ORDERS = ['o-1', 'o-2', 'o-3'];

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

const run = (name: string): Promise<string[]> => runExample(name, cluster.local.endpoints);

// What waits for time to pass runs beside each other; what measures comes alone, below.
describe.concurrent('F53 examples', () => {
  test('decoupling: each service hears of each order, one that came later too', async () => {
    const lines = await run('decoupling');
    const added = lines.indexOf('a new service is added');
    const of = (service: string): string[] => lines.filter((line) => line.startsWith(`${service}: `));
    for (const order of ORDERS) {
      expect(of('order')).toContain(`order: ${order} is to be shipped`);
      expect(of('sms')).toContain(`sms: text sent for ${order}`);
      expect(lines.indexOf(`points: 10 points for ${order}`)).toBeGreaterThan(added);
    }
    expect(lines).toHaveLength(11);
  });

  test('log collection: one way, filtered by tag at the broker', async () => {
    expect(await run('log-collection')).toContain('archived 1000 lines, alarmed for 10');
  });

  test('batch migration: all rows, many in one transaction', async () => {
    const lines = await run('batch-migration');
    expect(lines).toEqual(['5000 rows sent in 10 batches', '5000 rows in the new database, many in one transaction']);
  });

  test('broadcast of a configuration change: every instance hears of it', async () => {
    const lines = await run('configuration-broadcast');
    expect(new Set(lines)).toEqual(new Set(['shop-1', 'shop-2', 'shop-3'].map((shop) => `${shop}: free-shipping is now from 50 €`)));
    expect(lines).toHaveLength(3);
  });

  test('recurring work: each run sends the next one', async () => {
    const lines = await run('recurring');
    expect(lines.slice(0, 4).map((line) => line.split(',')[0])).toEqual(['run 1', 'run 2', 'run 3', 'run 4']);
    // Never before it is due; that the machine is slow says nothing about the example.
    expect(numbers(lines, /^4 runs in (\d+) intervals$/)[0]).toBeGreaterThanOrEqual(3);
  });

  test('order lifecycle: in order for each order, past a failure', async () => {
    const lines = await run('order-lifecycle');
    expect(lines.slice(0, 6)).toEqual([1, 2, 3, 4, 5, 6].map((n) => `order ${n}: created → paid → shipped → delivered`));
    expect(lines[6]).toBe('1 step failed and was done again before anything behind it');
  });

  test('order time-out: who has not paid is cancelled, not before the time is over', async () => {
    const lines = await run('order-timeout');
    expect(new Set(lines.slice(0, 3))).toEqual(new Set(['o-1: cancelled', 'o-2: paid', 'o-3: cancelled']));
    expect(lines[3]).toBe('nobody was asked before the time was over');
  });

  test('transfer: the message and the database transaction, both or neither, and booked once', async () => {
    expect(await run('transfer')).toEqual([
      '30: commit',
      '500: rollback',
      '20: the process dies here',
      'bank A has 50, bank B has 50; bank A was asked what became of the last one',
    ]);
  });

  test('dead letters: repaired, replayed as the same message, kept as they were', async () => {
    expect(await run('dead-letters')).toEqual([
      'given up after 3 attempts: 2oo, from invoices',
      'booked meanwhile: 100, 300',
      'replayed: 200, as the same message',
      'the dead letter still says 2oo, replayed 1 time',
    ]);
  });

  test('F26 idempotence by unique key: a failed attempt and a second delivery change nothing', async () => {
    const lines = await run('idempotence-unique-key');
    expect(lines).toEqual(['ann has 60 points, after 4 attempts at 3 messages', 'ann has 60 points, after 3 duplicates']);
  });
});

describe('F53 examples that measure', () => {
  test('answering sooner: 300 ms of work without the queue, less with it', async () => {
    const lines = await run('answering-sooner');
    const [without] = numbers(lines, /^without the queue the customer waits (\d+) ms$/) as [number];
    const [withQueue] = numbers(lines, /^with the queue (\d+) ms$/) as [number];
    // Timers may be a millisecond early.
    expect(without).toBeGreaterThanOrEqual(297);
    expect(withQueue).toBeGreaterThanOrEqual(49);
    // Neither of the 200 ms is waited for.
    expect(withQueue).toBeLessThan(without - 150);
    expect(lines.at(-1)).toBe('and 5 texts and 5 times points were done afterwards');
  });

  test('peak shaving: drained at the stated rate, none lost', async () => {
    const [rate, stored, all] = numbers(await run('peak-shaving'), /at (\d+) orders\/s, none lost: (\d+) of (\d+)$/) as [
      number,
      number,
      number,
    ];
    expect([stored, all]).toEqual([1_500, 1_500]);
    expect(rate).toBeGreaterThanOrEqual(450);
    expect(rate).toBeLessThanOrEqual(550);
  });

  test('F27 scaling out: four members drain faster than one', async () => {
    const lines = await run('scaling-out');
    const [, times] = numbers(lines, /^4 members, 2 queues each: (\d+)\/s, ([\d.]+) times as many$/) as [number, number];
    expect(times).toBeGreaterThan(2);
    expect(lines.at(-1)).toBe('the backlog is gone');
  });
});

describe('F53 the folder', () => {
  test('every example is run by a test and has a row in its README', () => {
    const names = readdirSync(EXAMPLES).filter((name) => name.endsWith('.ts'));
    const tests = ['examples/examples.test.ts', 'stores/examples.test.ts'].map((path) =>
      readFileSync(join(import.meta.dirname, '..', path), 'utf8'),
    );
    const readme = readFileSync(join(EXAMPLES, 'README.md'), 'utf8');
    expect(names.filter((name) => !tests.some((text) => text.includes(`'${name.replace('.ts', '')}'`)))).toEqual([]);
    expect(names.filter((name) => !readme.includes(`(${name})`))).toEqual([]);
  });
});
