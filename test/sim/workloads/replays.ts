import type { DeadLetter } from '../../../src/client/dead-letter.ts';
import type { DeadLetterChanges, ReplayedLetter } from '../../../src/client/dead-letter-replay.ts';
import type { DeadLetters } from '../../../src/client/dead-letters.ts';
import type { ReceivedMessage } from '../../../src/client/message.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import { dlqTopicOf } from '../../../src/protocol/names.ts';
import type { Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { decodeBody, encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, comeAndGo, ensureTopic, finishing, keepSending, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'mended';
const GROUP = 'menders';
const QUEUES = 2;
/** Every third message is given up by its handler, until somebody replays it. */
const BAD = 3;

interface Place {
  readonly brokerName: string;
  readonly queueId: number;
  readonly offset: number;
}
const nameOf = ({ brokerName, queueId, offset }: Place): string => `${brokerName}/${queueId}@${offset}`;
const letterName = ({ brokerName, offset }: { brokerName: string; offset: number }): string => `${brokerName}:${offset}`;

/**
 * Dead letters that are browsed and replayed (F23): a letter stays what and where it was, and is listed while it is retained; a replay that
 * was confirmed is stored once, in the queue where the message was first, under its id, is noted, and is given to the group; one
 * whose answer was lost is stored once or not at all (docs/guide/dead-letters.md).
 */
class ReplayReferee {
  readonly #letters = new Map<string, { readonly text: string; readonly offset: number; readonly brokerName: string }>();
  /** By letter: where its replays were stored, as was said. */
  readonly #replays = new Map<string, ReplayedLetter[]>();
  /** By message id: all that was begun. */
  readonly #begun = new Map<string, number>();
  /** What lies where, as it was read; and where each message lies. */
  readonly #read = new Map<string, string>();
  readonly #copies = new Map<string, number>();
  readonly #handled = new Set<string>();
  /** Everything was listed once more after the last replay. */
  browsedInTheEnd = false;

  isReplayed(msgId: string): boolean {
    return this.#begun.has(msgId);
  }

  handled(place: Place): void {
    this.#handled.add(nameOf(place));
  }

  read(message: ReceivedMessage): void {
    const place = nameOf({ ...message.queue, offset: message.offset });
    const { msgId } = message;
    const before = this.#read.get(place);
    if (before === msgId) return;
    if (before !== undefined) throw new Violation('readers disagree', `${place}: ${before} for one, ${msgId} for another`);
    this.#read.set(place, msgId);
    const copies = (this.#copies.get(msgId) ?? 0) + 1;
    this.#copies.set(msgId, copies);
    const begun = this.#begun.get(msgId) ?? 0;
    if (copies > 1 + begun) throw new Violation('replayed twice', `${msgId} lies at ${copies} places, ${begun} replays of it were begun`);
  }

  /** Before a listing: what must be in it as far as it is retained then. */
  known(): ReadonlySet<string> {
    return new Set(this.#letters.keys());
  }

  letter(letter: DeadLetter): void {
    const { msgId, origin, attempts, deadTimeMs, message, brokerName, offset } = letter;
    const name = letterName(letter);
    const text = JSON.stringify([msgId, origin, attempts, deadTimeMs]);
    const before = this.#letters.get(name);
    if (before !== undefined && before.text !== text) throw new Violation('letter changed', `${name}: ${before.text}, then ${text}`);
    this.#letters.set(name, { text, offset, brokerName });
    const there = this.#read.get(nameOf(origin)) ?? msgId;
    if (message.topic !== TOPIC || there !== msgId)
      throw new Violation('letter changed', `${name} is ${msgId} of ${message.topic}, and ${there} lies at its origin ${nameOf(origin)}`);
    const confirmed = this.#replays.get(name)?.length ?? 0;
    if (letter.replays < confirmed)
      throw new Violation('not noted', `${name} was replayed ${confirmed} times, ${letter.replays} are noted`);
  }

  /** @param expected what known() said before @param listed all that there was */
  listed(expected: ReadonlySet<string>, listed: ReadonlySet<string>, retained: Retained): void {
    for (const name of expected) {
      const { brokerName, offset } = this.#letters.get(name) as { brokerName: string; offset: number };
      if (!listed.has(name) && retained({ brokerName, topic: dlqTopicOf(GROUP), queueId: 0, offset }))
        throw new Violation('lost', `the dead letter ${name} is retained, and is not listed`);
    }
  }

  begins(letter: DeadLetter): void {
    this.#begun.set(letter.msgId, (this.#begun.get(letter.msgId) ?? 0) + 1);
  }

  stored(letter: DeadLetter, at: ReplayedLetter): void {
    const { origin, msgId } = letter;
    if (at.brokerName !== origin.brokerName || at.queueId !== origin.queueId || at.msgId !== msgId)
      throw new Violation('replayed elsewhere', `${msgId} of ${nameOf(origin)} was replayed as ${at.msgId} to ${nameOf(at)}`);
    const name = letterName(letter);
    this.#replays.set(name, [...(this.#replays.get(name) ?? []), at]);
  }

  unfinished(retained: Retained): string | null {
    if (!this.browsedInTheEnd) return 'the dead letters were not listed in the end';
    for (const [name, stored] of this.#replays) {
      for (const at of stored) {
        if (!retained({ ...at, topic: TOPIC })) continue;
        const there = this.#read.get(nameOf(at));
        if (there !== undefined && there !== at.msgId)
          throw new Violation('lost', `${name} was replayed to ${nameOf(at)}, where ${there} is`);
        if (there === undefined) return `${name} was replayed to ${nameOf(at)}, and nothing is read there`;
        if (!this.#handled.has(nameOf(at))) return `${name} was replayed to ${nameOf(at)}, and nobody has consumed it`;
      }
    }
    return null;
  }
}

async function produce(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const next = (number: number, n: number) => ({ topic: TOPIC, body: encodeBody(number, 0, n, prng.between(0, 200)) });
  await keepSending({ io, stage, prng, producer: client.producer() }, 40 + prng.exponential(150), next, () => {});
}

async function consume(io: Io, stage: Stage, referee: ReplayReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  await comeAndGo(io, stage, prng, () =>
    client.consumer({
      group: GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      maxReconsumeTimes: 0,
      handler: async ({ msgId, queue, offset, body }) => {
        await sleep(io, prng.exponential(5));
        referee.handled({ ...queue, offset });
        if (decodeBody(body).n % BAD === 0 && !referee.isReplayed(msgId)) throw new Error('cannot be handled');
      },
    }),
  );
}

/** Reads every queue from its beginning, on and on. */
async function read(io: Io, stage: Stage, referee: ReplayReferee): Promise<void> {
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const puller = client.pullConsumer();
  const queues = stage.groups.flatMap(({ brokerName }) =>
    Array.from({ length: QUEUES }, (_, queueId) => ({ topic: TOPIC, brokerName, queueId, next: 0 })),
  );
  for (;;) {
    for (const queue of queues) {
      try {
        const { minOffset } = await puller.range(queue);
        const { messages, nextOffset } = await puller.pull(queue, Math.max(queue.next, minOffset));
        for (const message of messages) referee.read(message);
        queue.next = nextOffset;
      } catch (error) {
        if (!(error instanceof LedgerError)) throw error;
      }
    }
    await sleep(io, 200);
  }
}

async function mend(io: Io, stage: Stage, referee: ReplayReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const deadLetters = client.admin().deadLetters(GROUP);
  const number = stage.nextProducer();
  let n = 0;
  /** As it was, or with another body. */
  const changes = (): DeadLetterChanges => {
    if (prng.chance(0.7)) return {};
    stage.referee.fabricated.sent(number, n);
    return { body: encodeBody(number, 0, n++, 20) };
  };
  for (;;) {
    const closing = !stage.open;
    try {
      const letters = await browse(stage, referee, deadLetters);
      if (closing) referee.browsedInTheEnd = true;
      const wanted = letters.filter(({ replays }) => replays === 0 || prng.chance(0.05));
      if (stage.open && wanted.length > 0) {
        if (prng.chance(0.7)) await replayOne(referee, deadLetters, prng.pick(wanted), changes());
        else await replayMany(referee, deadLetters, new Set(prng.shuffle(wanted).slice(0, 5).map(letterName)), changes);
      }
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
    await sleep(io, prng.exponential(closing ? 2_000 : 500));
  }
}

async function browse(stage: Stage, referee: ReplayReferee, deadLetters: DeadLetters): Promise<DeadLetter[]> {
  const expected = referee.known();
  const letters: DeadLetter[] = [];
  for await (const letter of deadLetters) {
    referee.letter(letter);
    letters.push(letter);
  }
  referee.listed(expected, new Set(letters.map(letterName)), stage.retained);
  return letters;
}

async function replayOne(referee: ReplayReferee, deadLetters: DeadLetters, letter: DeadLetter, changes: DeadLetterChanges): Promise<void> {
  referee.begins(letter);
  referee.stored(letter, await deadLetters.replay(letter, changes));
}

/** Those, in one call; it says how many there were, not where they are. */
async function replayMany(
  referee: ReplayReferee,
  deadLetters: DeadLetters,
  names: ReadonlySet<string>,
  changes: () => DeadLetterChanges,
): Promise<void> {
  let begun = 0;
  const replayed = await deadLetters.replayAll({
    filter: (letter) => names.has(letterName(letter)),
    changes: (letter) => {
      begun++;
      referee.begins(letter);
      return changes();
    },
  });
  if (replayed !== begun) throw new Violation('replayed twice', `${begun} letters were replayed, ${replayed} was the answer`);
}

export function makeReplays(prng: Prng): Workload {
  const referee = new ReplayReferee();
  const consumers = Array.from({ length: prng.between(1, 2) }, () => (io: Io, stage: Stage) => consume(io, stage, referee));
  return {
    actors: [
      (io, stage) => produce(io, stage),
      ...consumers,
      (io, stage) => read(io, stage, referee),
      (io, stage) => mend(io, stage, referee),
    ],
    ...finishing(referee),
  };
}
