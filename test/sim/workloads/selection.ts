import type { LedgerClient } from '../../../src/client/ledger-client.ts';
import type { Message, SendResult, Subscription } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { QUEUES, type Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, comeAndGo, ensureTopic, finishing, insist, keepSending, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'parts';
const TAGS = ['red', 'green', 'blue'] as const;
const KEYS = 5;
const MAX_AMOUNT = 9;
/** Of a search. */
const PAGE = 64;

interface Part {
  readonly tag: string;
  readonly amount: number;
  readonly key: string;
}

interface Selection {
  readonly group: string;
  readonly subscription: Omit<Subscription, 'topic'>;
  readonly wants: (part: Part) => boolean;
}

/** By tag, by expression, by both. */
const SELECTIONS: readonly Selection[] = [
  { group: 'not-green', subscription: { filter: 'red || blue' }, wants: ({ tag }) => tag !== 'green' },
  { group: 'many', subscription: { sql: 'amount > 6' }, wants: ({ amount }) => amount > 6 },
  {
    group: 'some-blue',
    subscription: { filter: 'blue', sql: "amount BETWEEN 2 AND 5 OR KEYS = 'k-1'" },
    wants: ({ tag, amount, key }) => tag === 'blue' && ((amount >= 2 && amount <= 5) || key === 'k-1'),
  },
];

interface Place {
  readonly brokerName: string;
  readonly queueId: number;
  readonly offset: number;
}

interface Stored extends Part {
  readonly place: Place;
}

const nameOf = ({ brokerName, queueId, offset }: Place): string => `${brokerName}/${queueId}@${offset}`;

/** Filters (F24), compressed bodies (F46) and search by key (F30): who selects is given everything that was selected, and nothing else. */
class SelectionReferee {
  readonly stored: Stored[] = [];
  readonly #given = new Set<string>();
  /** By key: what a search that began after the last send was given. */
  readonly found = new Map<string, ReadonlySet<string>>();
  #wrong: string | null = null;

  given({ group, wants }: Selection, part: Part, place: Place): void {
    if (!wants(part)) this.#wrong ??= `group ${group} was given ${nameOf(place)}: ${part.tag}, ${part.amount}, ${part.key}`;
    this.#given.add(`${group} ${nameOf(place)}`);
  }

  unfinished(retained: Retained): string | null {
    if (this.#wrong !== null) throw new Violation('not selected', this.#wrong);
    for (const { place, ...part } of this.stored) {
      if (!retained({ ...place, topic: TOPIC })) continue;
      const lacking = SELECTIONS.find(({ group, wants }) => wants(part) && !this.#given.has(`${group} ${nameOf(place)}`));
      if (lacking !== undefined) return `${nameOf(place)} was stored, and group ${lacking.group} has not got it`;
      if (this.found.get(part.key)?.has(nameOf(place)) !== true) return `${nameOf(place)} was stored, and is not found by ${part.key}`;
    }
    return null;
  }
}

async function produce(io: Io, stage: Stage, referee: SelectionReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const sent = new Map<string, Part>();
  const compressed = prng.chance(0.7);
  const producer = client.producer({
    compressMsgBodyOverHowmuch: compressed ? prng.pick([0, 100]) : 1 << 20,
    lingerMs: prng.pick([0, 20]),
  });
  const next = (number: number, n: number): Message => {
    const part = { tag: prng.pick(TAGS), amount: prng.between(0, MAX_AMOUNT), key: `k-${prng.between(0, KEYS - 1)}` };
    sent.set(`${number}:${n}`, part);
    const { tag, amount, key } = part;
    return { topic: TOPIC, body: encodeBody(number, 0, n, prng.pick([20, 300])), tag, keys: [key], properties: { amount: String(amount) } };
  };
  const stored = ({ brokerName, queueId, offset }: SendResult, number: number, n: number): void => {
    referee.stored.push({ ...(sent.get(`${number}:${n}`) as Part), place: { brokerName, queueId, offset: offset ?? 0 } });
  };
  await keepSending({ io, stage, prng, producer }, 20 + prng.exponential(100), next, stored);
}

async function consume(io: Io, stage: Stage, referee: SelectionReferee, selection: Selection): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const join = () =>
    client.consumer({
      group: selection.group,
      subscriptions: [{ topic: TOPIC, ...selection.subscription }],
      consumeFromWhere: 'first',
      pullWaitMs: 1_000,
      handler: ({ brokerName, queueId, offset, tag, keys, properties }) => {
        const part = { tag: tag ?? '', amount: Number(properties['amount']), key: keys[0] ?? '' };
        referee.given(selection, part, { brokerName, queueId, offset });
      },
    });
  await comeAndGo(io, stage, prng, join);
}

/** Everything with this key, page by page. */
async function searchFor(io: Io, client: LedgerClient, key: string): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const from = cursor;
    const page = await insist(io, () =>
      client.admin().queryMessages({ topic: TOPIC, key, max: PAGE, ...(from === undefined ? {} : { cursor: from }) }),
    );
    for (const message of page.messages) {
      if (!message.keys.includes(key)) throw new Violation('not selected', `a search for ${key} found ${nameOf(message)}`);
      found.add(nameOf(message));
    }
    cursor = page.next;
    // A group without a leader: the next page asks it again.
    if (page.status === 'failed') await sleep(io, 500);
  }
  return found;
}

/** Looks for one key now and then, since the index is written and cut under it; for every key once nothing new is sent. */
async function search(io: Io, stage: Stage, referee: SelectionReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  while (stage.open) {
    await searchFor(io, client, `k-${prng.between(0, KEYS - 1)}`);
    await sleep(io, 2_000);
  }
  for (;;) {
    for (let k = 0; k < KEYS; k++) referee.found.set(`k-${k}`, await searchFor(io, client, `k-${k}`));
    await sleep(io, 1_000);
  }
}

export function makeSelection(): Workload {
  const referee = new SelectionReferee();
  return {
    topics: [TOPIC],
    actors: [
      (io, stage) => produce(io, stage, referee),
      (io, stage) => search(io, stage, referee),
      ...SELECTIONS.map((selection) => (io: Io, stage: Stage) => consume(io, stage, referee, selection)),
    ],
    ...finishing(referee),
  };
}
