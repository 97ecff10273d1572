import type { AllocateMessageQueueStrategy, SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { QUEUES, type Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, comeAndGo, ensureTopic, finishing, keepSending, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'ledger';
const GROUP = 'bookkeepers';
/** One of them in each run: all members say the same. */
const STRATEGIES: readonly AllocateMessageQueueStrategy[] = [
  'averagely',
  'averagelyByCircle',
  'consistentHash',
  'machineRoomNearby',
  'sticky',
];

interface Place {
  readonly brokerName: string;
  readonly queueId: number;
}

/**
 * Orderly consumption (F19) under the strategies of F07, into a store outside of the brokers that takes a write unless a higher
 * fencing token wrote to the queue before: no token has two owners, an owner handles one message of a queue at a time, and what is
 * taken of a queue is in order, without a gap.
 */
class FencedStore {
  readonly stored: SendResult[] = [];
  readonly #queues = new Map<string, { token: number; end: number }>();
  readonly #holders = new Map<string, string>();
  readonly #running = new Set<string>();
  /** Where a write left something out: right only when retention has cut it. */
  readonly #gaps: { readonly place: Parameters<Retained>[0]; readonly what: string }[] = [];
  #done = 0;

  begins(member: string, queue: Place): void {
    const key = `${member} ${nameOf(queue)}`;
    if (this.#running.has(key)) throw new Violation('two handlers', `${key} at the same time`);
    this.#running.add(key);
  }

  ends(member: string, queue: Place): void {
    this.#running.delete(`${member} ${nameOf(queue)}`);
  }

  /** @returns whether it was taken */
  write(member: string, queue: Place, offset: number, token: number): boolean {
    const name = nameOf(queue);
    const holder = this.#holders.get(`${name} ${token}`) ?? member;
    this.#holders.set(`${name} ${token}`, holder);
    if (holder !== member) throw new Violation('two owners', `${name}: ${holder} and ${member} both have token ${token}`);
    const state = this.#queues.get(name) ?? { token, end: 0 };
    this.#queues.set(name, state);
    if (token < state.token) return false;
    state.token = token;
    if (offset > state.end) {
      const what = `${name}: ${member} writes ${offset} under token ${token} after ${state.end - 1}`;
      this.#gaps.push({ place: { ...queue, topic: TOPIC, offset: offset - 1 }, what });
    }
    state.end = Math.max(state.end, offset + 1);
    return true;
  }

  unfinished(retained: Retained): string | null {
    for (const { place, what } of this.#gaps.splice(0)) if (retained(place)) throw new Violation('reordered', what);
    for (; this.#done < this.stored.length; this.#done++) {
      const { brokerName, topic, queueId, offset } = this.stored[this.#done] as SendResult;
      const end = this.#queues.get(nameOf({ brokerName, queueId }))?.end ?? 0;
      if (end <= (offset ?? 0) && retained({ brokerName, topic, queueId, offset: offset ?? 0 }))
        return `${brokerName}/${queueId}@${offset} was stored, and the store has only what is below ${end}`;
    }
    return null;
  }
}

const nameOf = ({ brokerName, queueId }: Place): string => `${brokerName}/${queueId}`;

async function produce(io: Io, stage: Stage, store: FencedStore): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const next = (number: number, n: number) => {
    const key = prng.between(1, 5);
    return { topic: TOPIC, body: encodeBody(number, key, n, 20), orderingKey: `${number}-${key}` };
  };
  await keepSending(
    { io, stage, prng, producer: client.producer() },
    20 + prng.exponential(100),
    next,
    (result) => void store.stored.push(result),
  );
}

async function consume(io: Io, stage: Stage, store: FencedStore, strategy: AllocateMessageQueueStrategy): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  await comeAndGo(io, stage, prng, () => {
    const consumer = client.consumer({
      group: GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      ordered: true,
      allocateMessageQueueStrategy: strategy,
      ...(strategy === 'machineRoomNearby' ? { brokerZones: {} } : {}),
      suspendCurrentQueueTimeMillis: 100,
      pullWaitMs: 1_000,
      handler: async ({ brokerName, queueId, offset }, { fencingToken }) => {
        const queue = { brokerName, queueId };
        const member = `${consumer.member} ${fencingToken}`;
        store.begins(member, queue);
        await sleep(io, prng.exponential(stage.open ? 30 : 2));
        store.ends(member, queue);
        if (!store.write(consumer.member, queue, offset, fencingToken)) throw new Error('fenced off');
        if (stage.open && prng.chance(0.02)) throw new Error('written, and not acknowledged');
      },
    });
    return consumer;
  });
}

export function makeOrderly(prng: Prng): Workload {
  const store = new FencedStore();
  const strategy = prng.pick(STRATEGIES);
  const consumers = Array.from({ length: prng.between(1, 3) }, () => (io: Io, stage: Stage) => consume(io, stage, store, strategy));
  return {
    topics: [TOPIC],
    actors: [(io, stage) => produce(io, stage, store), ...consumers],
    ...finishing(store),
  };
}
