import type { ResetTarget } from '../../../src/client/backlog.ts';
import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import { type GroupDescription, Op } from '../../../src/protocol/requests.ts';
import { EveryReplica, QUEUES, type Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, comeAndGo, ensureTopic, finishing, keepSending, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'rewound';
const GROUP = 'rewinders';
/** Between two looks at what is committed: what a member was told of the first one has arrived. */
const HEARD_MS = 1_000;

interface Queue {
  readonly brokerName: string;
  readonly queueId: number;
}
const nameOf = ({ brokerName, queueId }: Queue): string => `${brokerName}/${queueId}`;

/** A reset that was confirmed. */
interface Reset {
  /** When it was asked for. */
  readonly at: number;
  readonly offset: number;
  /** Ownerships with a higher epoch began with it or after it. */
  readonly epoch: number;
  /** No ownership with a lower epoch, or this one, began after it was asked for. */
  readonly epochBefore: number;
  /** Every member had been told that more than this was committed: none may take it for what it has done and not committed yet. */
  readonly isBack: boolean;
}

/** What was given to handlers of one queue, and how the last reset ended; null: it is under way, or nobody knows. */
class QueueLedger {
  readonly queue: Queue;
  reset: Reset | null = { at: 0, offset: 0, epoch: -1, epochBefore: -1, isBack: false };
  /** By offset: when last, and stored when. */
  readonly handled = new Map<number, { readonly at: number; readonly storeTimeMs: number }>();
  /** Of ownerships that may have begun with the last reset: the end of what they were given. */
  handledSince = 0;
  /** Offsets that were acknowledged to a producer. */
  readonly stored: number[] = [];
  /** Committed, as it was seen since the last reset, long enough ago. */
  heard: { readonly offset: number; readonly atMs: number } | null = null;

  constructor(queue: Queue) {
    this.queue = queue;
  }
}

/**
 * Resets of a group's offsets while its members go on (F27): after one that was confirmed no ownership begins before its offset, nothing
 * less is committed, and nothing more than what was given since; everything from there on is given again. Of what a member has done
 * and not committed yet nothing is repeated (docs/guide/backlog.md): what it knows to be committed is looked at before.
 */
class ResetReferee {
  readonly #queues = new Map<string, QueueLedger>();
  /** Counts everything that happens. */
  #now = 0;

  of(queue: Queue): QueueLedger {
    const known = this.#queues.get(nameOf(queue)) ?? new QueueLedger(queue);
    this.#queues.set(nameOf(queue), known);
    return known;
  }

  stored({ brokerName, queueId, offset }: SendResult): void {
    this.of({ brokerName, queueId }).stored.push(offset ?? 0);
  }

  given(queue: Queue, offset: number, storeTimeMs: number, epoch: number): void {
    const ledger = this.of(queue);
    const { reset } = ledger;
    if (reset !== null && epoch > reset.epoch && offset < reset.offset) {
      const what = `${nameOf(queue)} was reset to ${reset.offset}, and ${offset} is given under epoch ${epoch}, after ${reset.epoch}`;
      throw new Violation('reset lost', what);
    }
    ledger.handled.set(offset, { at: ++this.#now, storeTimeMs });
    if (reset === null || epoch > reset.epochBefore) ledger.handledSince = Math.max(ledger.handledSince, offset + 1);
  }

  begins(queue: Queue): number {
    const ledger = this.of(queue);
    ledger.reset = null;
    ledger.handledSince = 0;
    return ++this.#now;
  }

  ends(queue: Queue, reset: Reset): void {
    const ledger = this.of(queue);
    ledger.reset = reset;
    ledger.heard = null;
  }

  /** @param committed as the leader said after the last reset was confirmed */
  committed(queue: Queue, committed: number, nowMs: number, retained: Retained): void {
    const ledger = this.of(queue);
    const { reset, handledSince } = ledger;
    if (reset === null) return;
    if (committed < reset.offset && reset.at > 0)
      throw new Violation('reset lost', `${nameOf(queue)} was reset to ${reset.offset}, and ${committed} is committed`);
    const isWhole = retained({ ...queue, topic: TOPIC, offset: reset.offset });
    if (reset.isBack && isWhole && committed > Math.max(reset.offset, handledSince)) {
      const what = `${committed} is committed, and only what is before ${handledSince} was given since`;
      throw new Violation('reset lost', `${nameOf(queue)} was reset to ${reset.offset}, ${what}`);
    }
    ledger.heard ??= { offset: committed, atMs: nowMs };
  }

  /** Was the offset the right one? @param storedBefore the end of what was acknowledged before the question */
  chosen(queue: Queue, to: ResetTarget, offset: number, storedBefore: number, retained: Retained): void {
    const wrong = (what: string): never => {
      throw new Violation('wrong reset', `${nameOf(queue)} was reset to ${JSON.stringify(to)}, which is ${offset}: ${what}`);
    };
    if (to === 'first' && offset > 0 && retained({ ...queue, topic: TOPIC, offset: offset - 1 })) wrong(`${offset - 1} is retained`);
    if (to === 'last' && offset < storedBefore) wrong(`${storedBefore - 1} was stored`);
    if (typeof to === 'string' || 'offset' in to) return;
    for (const [other, { storeTimeMs }] of this.of(queue).handled) {
      if (other < offset && storeTimeMs >= to.timeMs && retained({ ...queue, topic: TOPIC, offset: other }))
        wrong(`${other} was stored at ${storeTimeMs}`);
      if (other >= offset && storeTimeMs < to.timeMs) wrong(`${other} was stored at ${storeTimeMs}`);
    }
  }

  unfinished(retained: Retained): string | null {
    for (const { queue, reset, stored, handled } of this.#queues.values()) {
      if (reset === null) return `nobody knows how the last reset of ${nameOf(queue)} ended`;
      for (const offset of stored) {
        if (offset < reset.offset || !retained({ ...queue, topic: TOPIC, offset })) continue;
        const at = handled.get(offset)?.at ?? -1;
        if (at < 0) return `${nameOf(queue)}@${offset} was stored, and is given to nobody`;
        if (reset.isBack && at < reset.at) return `${nameOf(queue)} was reset to ${reset.offset}, and ${offset} is not given again`;
      }
    }
    return null;
  }
}

async function produce(io: Io, stage: Stage, referee: ResetReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const next = (number: number, n: number) => ({ topic: TOPIC, body: encodeBody(number, 0, n, 20) });
  const stored = (result: SendResult): void => referee.stored(result);
  await keepSending({ io, stage, prng, producer: client.producer() }, 20 + prng.exponential(100), next, stored);
}

async function consume(io: Io, stage: Stage, referee: ResetReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  await comeAndGo(io, stage, prng, () =>
    client.consumer({
      group: GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      ordered: prng.chance(0.5),
      pullWaitMs: 1_000,
      handler: async ({ brokerName, queueId, offset, storeTimeMs }, { fencingToken }) => {
        referee.given({ brokerName, queueId }, offset, storeTimeMs, fencingToken);
        await sleep(io, prng.exponential(stage.open ? 10 : 1));
      },
    }),
  );
}

/** The group as the leader of that broker group describes it now; null: no leader was met. */
async function describe(replicas: EveryReplica, brokerName: string): Promise<GroupDescription | null> {
  for (let tries = 6; tries > 0; tries--) {
    try {
      return (await replicas.of(brokerName).request(Op.groupDescribe, { group: GROUP })).body;
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
  }
  return null;
}

const ownersOf = (description: GroupDescription): string =>
  JSON.stringify([description.members.map(({ member }) => member), description.queues.map(({ owner }) => owner)]);

/** Looks at what is committed, and moves it, one queue at a time. */
async function operate(io: Io, stage: Stage, referee: ResetReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const replicas = new EveryReplica(io, stage, prng);
  const queues = stage.groups.flatMap(({ brokerName }) => Array.from({ length: QUEUES }, (_, queueId) => ({ brokerName, queueId })));
  const meanMs = prng.pick([300, 1_000]);
  for (;;) {
    await sleep(io, prng.exponential(meanMs));
    const queue = stage.open ? prng.pick(queues) : (queues.find((one) => referee.of(one).reset === null) ?? prng.pick(queues));
    const before = await describe(replicas, queue.brokerName);
    if (before !== null) {
      for (const { topic, queueId, committedOffset } of before.queues)
        if (topic === TOPIC) referee.committed({ ...queue, queueId }, committedOffset, io.clock.monotonicMs(), stage.retained);
    }
    const unknown = referee.of(queue).reset === null;
    if (unknown || (stage.open && prng.chance(0.6))) await reset({ io, stage, prng, referee, replicas }, client, queue, before);
  }
}

interface Office {
  readonly io: Io;
  readonly stage: Stage;
  readonly prng: Prng;
  readonly referee: ResetReferee;
  readonly replicas: EveryReplica;
}

async function reset(
  { io, stage, prng, referee, replicas }: Office,
  client: ReturnType<typeof clientOf>,
  queue: Queue,
  before: GroupDescription | null,
): Promise<void> {
  const ledger = referee.of(queue);
  const storedBefore = ledger.stored.reduce((end, offset) => Math.max(end, offset + 1), 0);
  const to = drawTarget(prng, ledger, storedBefore);
  const committed = before?.queues.find(({ topic, queueId }) => topic === TOPIC && queueId === queue.queueId)?.committedOffset ?? -1;
  const { heard } = ledger;
  const at = referee.begins(queue);
  try {
    const outcome = await client.admin().resetOffsets(GROUP, TOPIC, to, queue);
    const [done] = outcome.queues;
    if (done === undefined) return;
    const { offset } = done;
    referee.chosen(queue, to, offset, storedBefore, stage.retained);
    // Twice more was committed: an answer that was lost on its way to the member does not matter.
    const told = heard !== null && heard.atMs + HEARD_MS < io.clock.monotonicMs() && heard.offset > offset && committed > heard.offset;
    const after = await describe(replicas, queue.brokerName);
    const still = before !== null && after !== null && ownersOf(before) === ownersOf(after);
    const epoch = still ? before.epoch : (after?.epoch ?? Number.POSITIVE_INFINITY);
    referee.ends(queue, { at, offset, epoch, epochBefore: before?.epoch ?? -1, isBack: told });
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
  }
}

function drawTarget(prng: Prng, { handled }: QueueLedger, end: number): ResetTarget {
  const times = [...handled.values()];
  const what = prng.pick(['first', 'first', 'last', 'time', 'offset'] as const);
  if (what === 'time' && times.length > 0) return { timeMs: prng.pick(times).storeTimeMs };
  if (what === 'offset') return { offset: prng.between(0, end) };
  return what === 'last' ? 'last' : 'first';
}

export function makeResets(prng: Prng): Workload {
  const referee = new ResetReferee();
  const consumers = Array.from({ length: prng.between(1, 2) }, () => (io: Io, stage: Stage) => consume(io, stage, referee));
  return {
    topics: [TOPIC],
    actors: [(io, stage) => produce(io, stage, referee), (io, stage) => operate(io, stage, referee), ...consumers],
    ...finishing(referee),
  };
}
