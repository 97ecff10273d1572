import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { ReceivedBatch } from '../../src/client/message.ts';
import {
  type ConsumeContext,
  type IdempotentOptions,
  idempotent,
  idempotentInTransaction,
  MAX_IDEMPOTENCE_KEY_LENGTH,
  type MarkStore,
  MemoryMarks,
  type MessageHandler,
  type ReceivedMessage,
  SqliteMarks,
} from '../../src/index.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

const QUEUE = { topic: 't', brokerName: 'g', queueId: 0 };
const LEASE_MS = 30_000;
const [M0, M1, M2] = [0, 1, 2].map((at) => new ReceivedBatch(makeBatch({ count: 3 }), QUEUE, 0, 1).at(at)) as [
  ReceivedMessage,
  ReceivedMessage,
  ReceivedMessage,
];

function contextOf(change: Partial<ConsumeContext> = {}): ConsumeContext {
  return {
    group: 'cg',
    queue: QUEUE,
    reconsumeTimes: 0,
    fencingToken: 1,
    signal: new AbortController().signal,
    ackIndex: null,
    delayLevelWhenNextConsume: 0,
    suspendCurrentQueueTimeMillis: null,
    ...change,
  };
}

/** A store of which single operations fail. */
class BreakingMarks implements MarkStore {
  readonly inner: MarkStore;
  broken: (keyof MarkStore)[] = [];
  constructor(inner: MarkStore) {
    this.inner = inner;
  }
  claim: MarkStore['claim'] = (...args) => this.#do('claim', () => this.inner.claim(...args));
  renew: MarkStore['renew'] = (...args) => this.#do('renew', () => this.inner.renew(...args));
  complete: MarkStore['complete'] = (...args) => this.#do('complete', () => this.inner.complete(...args));
  release: MarkStore['release'] = (...args) => this.#do('release', () => this.inner.release(...args));
  async #do<T>(operation: keyof MarkStore, call: () => Promise<T>): Promise<T> {
    if (this.broken.includes(operation)) throw new Error(`no ${operation}`);
    return call();
  }
}

interface Bench {
  readonly clock: ManualClock;
  readonly store: BreakingMarks;
  readonly runs: string[];
  readonly duplicates: string[];
  readonly errors: string[];
  /** A handler of its own, as another member of the group has. */
  member(handler: MessageHandler, options?: Partial<IdempotentOptions>): MessageHandler;
}

function bench(maxMarks?: number): Bench {
  const clock = new ManualClock();
  const store = new BreakingMarks(new MemoryMarks({ clock, ...(maxMarks === undefined ? {} : { maxMarks }) }));
  const runs: string[] = [];
  const duplicates: string[] = [];
  const errors: string[] = [];
  const io = { clock, random: new SeededRandom() };
  return {
    clock,
    store,
    runs,
    duplicates,
    errors,
    member(handler, options = {}) {
      const onDuplicate = (message: ReceivedMessage): void => void duplicates.push(message.msgId);
      const onError = (error: unknown): void => void errors.push((error as Error).message);
      return idempotent({ store, io, onDuplicate, onError, ...options }, (message, context) => {
        runs.push(message.msgId);
        return handler(message, context);
      });
    },
  };
}

/** A promise and the ways to settle it. */
function gate(): { readonly promise: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { promise, open: resolve };
}
const outcome = (promise: Promise<void> | void): Promise<string> =>
  Promise.resolve(promise).then(
    () => 'done',
    (error: unknown) => (error as Error).message,
  );

describe('F26 idempotent handlers', () => {
  test('delivered twice is handled once, by message id or by a business key, each group for itself', async () => {
    const { member, runs, duplicates } = bench();
    const byId = member(() => undefined);
    for (const message of [M0, M1, M0, M1]) await byId(message, contextOf());
    expect(runs).toEqual([M0.msgId, M1.msgId]);
    expect(duplicates).toEqual([M0.msgId, M1.msgId]);
    await byId(M0, contextOf({ group: 'another' }));
    expect(runs).toHaveLength(3);
    const byOrder = member(() => undefined, { key: ({ offset }) => `order-${Math.min(offset, 1)}` });
    for (const message of [M0, M1, M2]) await byOrder(message, contextOf());
    expect(runs.slice(3)).toEqual([M0.msgId, M1.msgId]);
  });

  test('what failed or was refused is handled again at once; what is done stays done for retainMs', async () => {
    const { member, runs, clock } = bench();
    let how: 'throw' | 'refuse' | 'do' = 'throw';
    const handle = member(
      (_message, context) => {
        if (how === 'throw') throw new Error('not now');
        if (how === 'refuse') context.ackIndex = -1;
      },
      { retainMs: 60_000 },
    );
    await expect(handle(M0, contextOf())).rejects.toThrow('not now');
    how = 'refuse';
    await handle(M0, contextOf());
    how = 'do';
    await handle(M0, contextOf());
    await handle(M0, contextOf());
    expect(runs).toHaveLength(3);
    await clock.run(59_999);
    await handle(M0, contextOf());
    expect(runs).toHaveLength(3);
    await clock.run(2);
    await handle(M0, contextOf());
    expect(runs).toHaveLength(4);
  });

  test('a duplicate waits for the outcome of the attempt that runs, also past the lease, which is renewed', async () => {
    const { member, runs, duplicates, clock } = bench();
    const work = gate();
    const first = outcome(member(() => work.promise)(M0, contextOf()));
    const second = outcome(member(() => undefined, { waitMs: 10 * LEASE_MS })(M0, contextOf()));
    await clock.run(5 * LEASE_MS);
    expect(runs).toHaveLength(1);
    work.open();
    await clock.run(2_000);
    expect(await first).toBe('done');
    expect(await second).toBe('done');
    expect(runs).toHaveLength(1);
    expect(duplicates).toEqual([M0.msgId]);
    expect(clock.armedCount).toBe(0);
  });

  test('the claim of a dead process ends with its lease: its message is not lost, and not taken for done', async () => {
    const { member, store, runs, clock } = bench();
    // It claimed, and was never heard of again.
    await store.claim(`cg/${M0.msgId}`, 'dead', LEASE_MS);
    const handle = member(() => undefined);
    const taken = outcome(handle(M0, contextOf()));
    await clock.run(LEASE_MS - 1_500);
    expect(runs).toHaveLength(0);
    await clock.run(3_000);
    expect(await taken).toBe('done');
    expect(runs).toHaveLength(1);
  });

  test('a duplicate that waited long enough, or whose queue went, is a failed attempt and not an acknowledgement', async () => {
    const { member, store, clock, runs } = bench();
    await store.claim(`cg/${M0.msgId}`, 'at work', 10 * LEASE_MS);
    const waited = outcome(member(() => undefined, { waitMs: 1_000 })(M0, contextOf()));
    const lost = new AbortController();
    const gone = outcome(member(() => undefined)(M0, contextOf({ signal: lost.signal })));
    await clock.run(500);
    lost.abort();
    await clock.run(0);
    expect(await gone).toContain('IN_PROGRESS');
    await clock.run(501);
    expect(await waited).toContain('IN_PROGRESS');
    expect(runs).toEqual([]);
    expect(clock.armedCount).toBe(0);
  });

  test('no answer before the work: not handled; after the work: acknowledged all the same, and told', async () => {
    const { member, store, runs, errors } = bench();
    const handle = member(() => undefined);
    store.broken = ['claim'];
    await expect(handle(M0, contextOf())).rejects.toThrow('no claim');
    expect(runs).toEqual([]);
    store.broken = ['complete'];
    await handle(M0, contextOf());
    expect(runs).toHaveLength(1);
    expect(errors).toEqual(['no complete']);
    // What failed is told by its own error, not by that of the mark.
    store.broken = ['release'];
    const failing = member(() => Promise.reject(new Error('not now')));
    await expect(failing(M1, contextOf())).rejects.toThrow('not now');
    expect(errors).toEqual(['no complete', 'no release']);
  });

  test('a lease that cannot be renewed is told, and the work is marked as done at its end whoever has claimed it since', async () => {
    const { member, store, runs, errors, clock } = bench();
    const work = gate();
    store.broken = ['renew'];
    const slept = outcome(member(() => work.promise)(M0, contextOf()));
    await clock.run(LEASE_MS - 1);
    expect(errors).toContain('no renew');
    store.broken = [];
    await clock.run(1);
    const again = gate();
    const other = outcome(member(() => again.promise)(M0, contextOf()));
    await clock.run(LEASE_MS);
    expect(runs).toHaveLength(2);
    expect(errors.at(-1)).toContain('was lost while its work runs');
    work.open();
    expect(await slept).toBe('done');
    expect(await store.claim(`cg/${M0.msgId}`, 'third', LEASE_MS)).toBe('done');
    again.open();
    expect(await other).toBe('done');
  });

  test('a message without a key, or with an over-long one, is refused: it would be a duplicate of all others', async () => {
    const { member, runs } = bench();
    for (const key of ['', 'x'.repeat(MAX_IDEMPOTENCE_KEY_LENGTH + 1), undefined as unknown as string]) {
      await expect(member(() => undefined, { key: () => key })(M0, contextOf())).rejects.toThrow('BAD_REQUEST');
    }
    expect(runs).toEqual([]);
    expect(() => member(() => undefined, { leaseMs: 99 })).toThrow('BAD_REQUEST');
    expect(() => member(() => undefined, { leaseMs: 1_000, retainMs: 1_000 })).toThrow('BAD_REQUEST');
  });

  test('memory is bounded: the oldest mark is forgotten first, claims never', async () => {
    const { member, store, runs, clock } = bench(2);
    const handle = member(() => undefined);
    for (const message of [M0, M1, M2]) await handle(message, contextOf());
    expect((store.inner as MemoryMarks).size).toBe(2);
    await handle(M2, contextOf());
    expect(runs).toHaveLength(3);
    await handle(M0, contextOf());
    expect(runs).toHaveLength(4);
    await Promise.all(['a', 'b'].map((mark) => store.claim(mark, 'o', LEASE_MS)));
    await expect(store.claim('c', 'o', LEASE_MS)).rejects.toThrow('TOO_MANY');
    await clock.run(LEASE_MS);
    expect(await store.claim('c', 'o', LEASE_MS)).toBe('claimed');
  });
});

describe('F26 a unique key in the transaction of the work: SQLite', () => {
  function sqlite() {
    const database = new DatabaseSync(':memory:');
    database.exec('CREATE TABLE accounts (name TEXT PRIMARY KEY, points INTEGER NOT NULL)');
    database.exec("INSERT INTO accounts VALUES ('ann', 0)");
    const store = new SqliteMarks(database);
    const count = (text: string): number => Number(Object.values(database.prepare(text).get() as object)[0]);
    return {
      database,
      store,
      points: () => count('SELECT points FROM accounts'),
      marks: () => count('SELECT count(*) FROM ledgermq_done'),
    };
  }
  const EARN = 'UPDATE accounts SET points = points + 1';

  test('delivered twice changes the database once, and a failed or refused attempt leaves nothing behind', async () => {
    const { store, points, marks } = sqlite();
    const duplicates: string[] = [];
    let how: 'throw' | 'refuse' | 'do' = 'throw';
    const handle = idempotentInTransaction({ store, onDuplicate: ({ msgId }) => void duplicates.push(msgId) }, (_message, tx, context) => {
      tx.exec(EARN);
      if (how === 'throw') throw new Error('not now');
      if (how === 'refuse') context.ackIndex = -1;
    });
    await expect(handle(M0, contextOf())).rejects.toThrow('not now');
    how = 'refuse';
    await handle(M0, contextOf());
    expect([points(), marks()]).toEqual([0, 0]);
    how = 'do';
    for (const message of [M0, M0, M1]) await handle(message, contextOf());
    expect([points(), marks()]).toEqual([2, 2]);
    expect(duplicates).toEqual([M0.msgId]);
  });

  test('an asynchronous handler is refused by the compiler, and rolled back', async () => {
    const { store, points, marks } = sqlite();
    // @ts-expect-error: what runs after an await would not be in the transaction
    const handle = idempotentInTransaction({ store }, async (_message, tx) => {
      tx.exec(EARN);
    });
    await expect(handle(M0, contextOf())).rejects.toThrow('synchronous');
    expect([points(), marks()]).toEqual([0, 0]);
  });

  test('marks are kept until they are pruned, by their age; a table name cannot be a statement', async () => {
    const { database, store, marks } = sqlite();
    await store.once('cg', 'old', () => undefined);
    database.exec('UPDATE ledgermq_done SET done_at_s = done_at_s - 100');
    await store.once('cg', 'new', () => undefined);
    expect(store.prune(101_000)).toBe(0);
    expect(store.prune(99_000)).toBe(1);
    expect(marks()).toBe(1);
    expect(await store.once('cg', 'new', () => undefined)).toBe(false);
    for (const table of ['a b', 'x;drop', 'A', '']) expect(() => new SqliteMarks(database, { table })).toThrow('BAD_NAME');
  });
});
