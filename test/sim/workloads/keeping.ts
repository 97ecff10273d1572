import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { QUEUES, type Stage } from '../actors.ts';
import { queueName, Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, ensureTopic, insist, keepSending, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'shelved';
const DAY_MS = 24 * 3_600_000;
const MIB = 1024 * 1024;
/** Of what is over it the oldest goes, and nobody can say which that is. */
const NARROW_BYTES = 20_000;

/**
 * A topic that is kept for longer than the log (F34): with a quota that nothing reaches everything that was ever acknowledged is retained,
 * however often the log was cut; with a narrow one what is retained is whole. What a reader is shown is checked with all other topics.
 */
class KeepingReferee {
  readonly #stored: SendResult[] = [];
  /** A full disk keeps nothing that could go. */
  mayShorten = false;
  isSet = false;

  stored(result: SendResult): void {
    this.#stored.push(result);
  }

  unfinished(): string | null {
    return this.isSet ? null : 'the longer retention is not set everywhere';
  }

  judge(retained: Retained): void {
    if (this.mayShorten) return;
    for (const { brokerName, queueId, offset } of this.#stored) {
      const place = { brokerName, topic: TOPIC, queueId, offset: offset ?? 0 };
      if (!retained(place)) throw new Violation('not kept', `${brokerName}/${queueId}@${offset} is gone, and was to be kept`);
    }
  }
}

async function produce(io: Io, stage: Stage, referee: KeepingReferee, maxBytes: number): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  referee.mayShorten = maxBytes === NARROW_BYTES || stage.faults.has('diskFull');
  while (!referee.isSet) {
    const { done } = await insist(io, () => client.admin().setRetention(TOPIC, { retentionMs: DAY_MS, maxBytes }));
    referee.isSet = done.length === stage.groups.length;
    if (!referee.isSet) await sleep(io, 200);
  }
  const next = (number: number, n: number) => ({ topic: TOPIC, body: encodeBody(number, 0, n, prng.pick([20, 400])) });
  const stored = (result: SendResult): void => {
    referee.stored(result);
    const { brokerName, queueId, offset, msgId } = result;
    stage.referee.acked.push({ queue: queueName(brokerName, TOPIC, queueId), offset: offset ?? -1, identity: msgId });
  };
  await keepSending({ io, stage, prng, producer: client.producer() }, 30 + prng.exponential(150), next, stored);
}

export function makeKeeping(prng: Prng): Workload {
  const referee = new KeepingReferee();
  const maxBytes = prng.pick([64 * MIB, 64 * MIB, NARROW_BYTES]);
  return {
    topics: [TOPIC],
    actors: [(io, stage) => produce(io, stage, referee, maxBytes)],
    unfinished: () => referee.unfinished(),
    judge: (retained) => referee.judge(retained),
  };
}
