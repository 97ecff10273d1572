import type { TransactionOutcome, TransactionProducer } from '../../../src/client/transaction-producer.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import { QUEUES, type Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, ensureTopic, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'transfers';
const GROUP = 'bank';

type Outcome = Exclude<TransactionOutcome, 'unknown'>;
interface Place {
  readonly brokerName: string;
  readonly queueId: number;
  readonly offset: number;
}
const textOf = ({ brokerName, queueId, offset }: Place): string => `${brokerName}/${TOPIC}/${queueId}@${offset}`;

/**
 * Transactions (F14). The database of the application, which no fault reaches: a local transaction is decided once, by whoever comes
 * first. A message is seen if and only if its transaction was committed there, after that, and at one place; a transaction ends in
 * one way, whoever says so, and all of them end.
 */
class Database {
  /** By message id. */
  readonly #decided = new Map<string, Outcome>();
  readonly #seen = new Map<string, string>();
  /** Half messages that were acknowledged, and where they would go. */
  readonly #begun = new Map<string, Omit<Place, 'offset'>>();
  readonly #told = new Map<string, Outcome>();

  begun(msgId: string, queue: Omit<Place, 'offset'>): void {
    this.#begun.set(msgId, queue);
  }

  /** @returns what was decided first */
  decide(msgId: string, wish: Outcome): Outcome {
    const before = this.#decided.get(msgId);
    if (before === undefined) this.#decided.set(msgId, wish);
    return before ?? wish;
  }

  /** A broker confirmed this end. */
  ended(msgId: string, outcome: Outcome): void {
    const before = this.#told.get(msgId);
    if (before !== undefined && before !== outcome)
      throw new Violation('two outcomes', `${msgId} was confirmed as ${before}, and as ${outcome}`);
    this.#told.set(msgId, outcome);
  }

  seen(msgId: string, place: Place): void {
    const outcome = this.#decided.get(msgId);
    if (outcome !== 'commit') throw new Violation('half seen', `${msgId} at ${textOf(place)} is ${outcome ?? 'not decided'}`);
    const before = this.#seen.get(msgId);
    if (before !== undefined && before !== textOf(place))
      throw new Violation('seen twice', `${msgId} at ${before} and at ${textOf(place)}`);
    this.#seen.set(msgId, textOf(place));
  }

  unfinished(retained: Retained): string | null {
    for (const [msgId, queue] of this.#begun) {
      const outcome = this.#decided.get(msgId);
      if (outcome === undefined) return `nobody asked how the transaction of ${msgId} ended`;
      // Where it lies is not always known: what a queue has lost may have been it.
      const whole = retained({ ...queue, topic: TOPIC, offset: 0 });
      if (outcome === 'rollback' || this.#seen.has(msgId) || !whole) this.#begun.delete(msgId);
      else return `${msgId} was committed, and nobody has seen it`;
    }
    return null;
  }
}

async function transact(io: Io, stage: Stage, database: Database): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const wish = (): Outcome => (prng.chance(0.6) ? 'commit' : 'rollback');
  const producer = client.transactionProducer({
    group: GROUP,
    deliveryTimeoutMs: prng.pick([20_000, 5_000]),
    checkLocalTransaction: async ({ msgId }) => {
      await sleep(io, prng.exponential(30));
      return stage.open && prng.chance(0.2) ? 'unknown' : database.decide(msgId, wish());
    },
  });
  const number = stage.nextProducer();
  let n = 0;
  const meanMs = 60 + prng.exponential(200);
  while (stage.open) {
    const settled = stage.begin();
    stage.referee.fabricated.sent(number, n);
    void one(io, producer, encodeBody(number, 0, n++, 0), database, prng, wish())
      .catch((error: unknown) => {
        if (!(error instanceof LedgerError)) throw error;
      })
      .finally(settled);
    await sleep(io, prng.exponential(meanMs));
  }
}

async function one(io: Io, producer: TransactionProducer, body: Uint8Array, database: Database, prng: Prng, wish: Outcome): Promise<void> {
  const transaction = await producer.begin({ topic: TOPIC, body });
  const { msgId, brokerName, queueId } = transaction;
  database.begun(msgId, { brokerName, queueId });
  const end = async (outcome: Outcome): Promise<void> => {
    const offset = outcome === 'commit' ? await transaction.commit() : await transaction.rollback();
    database.ended(msgId, outcome);
    if (offset !== undefined) database.seen(msgId, { brokerName, queueId, offset });
  };
  await sleep(io, prng.exponential(prng.chance(0.2) ? 1_500 : 30));
  // It loses the thread: before its local transaction, or behind it.
  if (prng.chance(0.15)) return;
  const outcome = database.decide(msgId, wish);
  if (prng.chance(0.15)) return;
  await end(outcome);
  if (prng.chance(0.3)) await end(outcome);
  // A second opinion is nothing that a broker may take.
  if (prng.chance(0.3)) await end(outcome === 'commit' ? 'rollback' : 'commit');
}

/** Reads every queue from its beginning, on and on. */
async function read(io: Io, stage: Stage, database: Database): Promise<void> {
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const puller = client.pullConsumer();
  const queues = stage.groups.flatMap(({ brokerName }) =>
    Array.from({ length: QUEUES }, (_, queueId) => ({ topic: TOPIC, brokerName, queueId, next: 0 })),
  );
  for (;;) {
    for (const queue of queues) {
      const { brokerName, queueId } = queue;
      try {
        const { minOffset } = await puller.range(queue);
        const { messages, nextOffset } = await puller.pull(queue, Math.max(queue.next, minOffset));
        for (const { msgId, offset } of messages) database.seen(msgId, { brokerName, queueId, offset });
        queue.next = nextOffset;
      } catch (error) {
        if (!(error instanceof LedgerError)) throw error;
      }
    }
    await sleep(io, 150);
  }
}

export function makeTransactions(prng: Prng): Workload {
  const database = new Database();
  const transactors = Array.from({ length: prng.between(1, 3) }, () => (io: Io, stage: Stage) => transact(io, stage, database));
  return {
    // Soon, so that a run has many checks; never given up, so that what was decided to be committed is.
    config: { transactionTimeoutMs: 1_000, transactionCheckIntervalMs: 2_000, transactionCheckMax: 10_000 },
    topics: [TOPIC],
    actors: [...transactors, (io, stage) => read(io, stage, database)],
    unfinished: (retained) => database.unfinished(retained),
    judge: (retained) => {
      const left = database.unfinished(retained);
      if (left !== null) throw new Violation('all or nothing', left);
    },
  };
}
