import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { QUEUES, type Stage } from '../actors.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, comeAndGo, ensureTopic, finishing, keepSending, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'notices';
/** The observer of all clients knows it: under it nobody owns a queue. */
export const BROADCAST_GROUP = 'everybody';
const MEMBERS = ['one', 'two'] as const;

/** Broadcasting (F18): whatever dies, every member gets every message; offsets are kept at the brokers, under its own name. */
class BroadcastReferee {
  readonly stored: SendResult[] = [];
  readonly handled = new Set<string>();
  #done = 0;

  unfinished(retained: Retained): string | null {
    for (; this.#done < this.stored.length; this.#done++) {
      const { brokerName, topic, queueId, offset } = this.stored[this.#done] as SendResult;
      const place = { brokerName, topic, queueId, offset: offset ?? 0 };
      const missing = MEMBERS.find((member) => !this.handled.has(`${member} ${placeName(place)}`));
      if (missing !== undefined && retained(place)) return `${placeName(place)} was stored, and member ${missing} has not got it`;
    }
    return null;
  }
}

const placeName = ({ brokerName, queueId, offset }: { brokerName: string; queueId: number; offset: number }): string =>
  `${brokerName}/${queueId}@${offset}`;

async function produce(io: Io, stage: Stage, referee: BroadcastReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const next = (number: number, n: number) => ({ topic: TOPIC, body: encodeBody(number, 0, n, 20) });
  await keepSending(
    { io, stage, prng, producer: client.producer() },
    30 + prng.exponential(150),
    next,
    (result) => void referee.stored.push(result),
  );
}

async function consume(io: Io, stage: Stage, referee: BroadcastReferee, instanceName: string): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const join = () =>
    client.consumer({
      group: BROADCAST_GROUP,
      topics: [TOPIC],
      messageModel: 'broadcasting',
      consumeFromWhere: 'first',
      offsetStore: 'broker',
      instanceName,
      persistConsumerOffsetIntervalMs: prng.pick([100, 1_000]),
      pullWaitMs: 1_000,
      handler: async (message) => {
        await sleep(io, prng.exponential(2));
        referee.handled.add(`${instanceName} ${placeName(message)}`);
      },
    });
  await comeAndGo(io, stage, prng, join);
}

export function makeBroadcasting(): Workload {
  const referee = new BroadcastReferee();
  return {
    topics: [TOPIC],
    actors: [
      (io, stage) => produce(io, stage, referee),
      ...MEMBERS.map((member) => (io: Io, stage: Stage) => consume(io, stage, referee, member)),
    ],
    ...finishing(referee),
  };
}
