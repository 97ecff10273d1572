import { LedgerClient } from '../../../src/client/ledger-client.ts';
import type { QuotaLimits, QuotaSubject } from '../../../src/client/quotas.ts';
import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import type { Quota } from '../../../src/protocol/requests.ts';
import { QUEUES, type Stage } from '../actors.ts';
import { type FinalLog, queueName, Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, ensureTopic, type InTheEnd, sleep, type Workload } from './workload.ts';

const NAMESPACE = 'metered';
const TOPIC = `${NAMESPACE}%bulk`;
const CLIENTS = ['hog-1', 'hog-2'] as const;
const SUBJECTS: readonly QuotaSubject[] = [{ client: 'hog-1' }, { client: 'hog-*' }, { namespace: NAMESPACE }];
const MAX_BATCH_MESSAGES = 8;
/** A full bucket has a quarter of a second (docs/guide/quotas.md). */
const BURST_SECONDS = 0.25;
/** A clock of a broker may be that much too fast. */
const FASTEST_CLOCK = 1.2;
const NO_LIMIT = -1;

const keyOf = (subject: QuotaSubject): string => ('client' in subject ? `client ${subject.client}` : `namespace ${subject.namespace}`);

/** What is known of a subject at a broker group: its limits, that it has none, or nothing, since a change was not answered. */
type Known = QuotaLimits | 'none' | 'unknown';

/** At one broker group, since the last change: who may have sent how much, and what was stored. */
interface Span {
  readonly sinceMs: number;
  readonly terms: number;
  /** By client. */
  readonly stored: Map<string, number>;
}

/**
 * Quotas that come, change and go while producers send above them (F44): between two changes no more is stored than the rate allows, a
 * send that is given up was not stored unless it says that nobody knows, and in the end every replica has the quotas that were confirmed.
 */
class QuotaReferee {
  readonly #known = new Map<string, Known>();
  readonly #spans = new Map<string, Span>();
  /** `producer:n` of what was refused for good. */
  readonly #refused = new Map<string, string>();
  /** No change is on its way. */
  isCalm = true;

  #of(brokerName: string, subject: QuotaSubject): Known {
    return this.#known.get(`${brokerName} ${keyOf(subject)}`) ?? 'none';
  }

  /** A change is asked for: until it is answered nothing can be said. */
  changing(stage: Stage, subject: QuotaSubject): void {
    this.judgeSpans(stage);
    this.isCalm = false;
    this.#spans.clear();
    for (const { brokerName } of stage.groups) this.#known.set(`${brokerName} ${keyOf(subject)}`, 'unknown');
  }

  /** @param done groups that said that they have it. Of one that is down the client may not even know (seeds 166, 669) */
  changed(stage: Stage, subject: QuotaSubject, limits: QuotaLimits | 'none', done: ReadonlySet<string>): void {
    this.isCalm = stage.groups.every(({ brokerName }) => done.has(brokerName));
    for (const { brokerName, terms } of stage.groups) {
      if (done.has(brokerName)) this.#known.set(`${brokerName} ${keyOf(subject)}`, limits);
      this.#spans.set(brokerName, { sinceMs: stage.nowMs, terms, stored: new Map() });
    }
  }

  /** @returns what stored() is to be told */
  sends(): ReadonlyMap<string, Span> {
    return new Map(this.#spans);
  }

  stored(client: string, { brokerName }: SendResult, spans: ReadonlyMap<string, Span>): void {
    const span = this.#spans.get(brokerName);
    // One that was sent before the last change may have been let through before it.
    if (span !== undefined && spans.get(brokerName) === span) span.stored.set(client, (span.stored.get(client) ?? 0) + 1);
  }

  refused(producer: number, n: number, error: LedgerError): void {
    this.#refused.set(`${producer}:${n}`, error.message);
  }

  /** Before a change, and at the end. */
  judgeSpans(stage: Stage): void {
    for (const { brokerName, terms } of stage.groups) {
      const span = this.#spans.get(brokerName);
      if (span === undefined) continue;
      const seconds = (stage.nowMs - span.sinceMs) / 1_000;
      // Every leader begins with full buckets.
      const leaders = terms - span.terms + 1;
      for (const { who, limits, messages } of this.#limited(brokerName, span)) {
        const rate = limits.messagesPerSecond ?? NO_LIMIT;
        if (rate === NO_LIMIT) continue;
        const allowed = leaders * (Math.max(1, rate * BURST_SECONDS) + MAX_BATCH_MESSAGES) + rate * seconds * FASTEST_CLOCK + 1;
        if (messages <= allowed) continue;
        const what = `${messages} messages in ${seconds.toFixed(1)} s and ${leaders} terms at ${rate} a second`;
        throw new Violation('over quota', `${who} at ${brokerName}: ${what}`);
      }
    }
  }

  #limited(brokerName: string, { stored }: Span): { readonly who: string; readonly limits: QuotaLimits; readonly messages: number }[] {
    const limited: { who: string; limits: QuotaLimits; messages: number }[] = [];
    const count = (who: string, known: Known, clients: readonly string[]): void => {
      const messages = clients.reduce((sum, client) => sum + (stored.get(client) ?? 0), 0);
      if (typeof known === 'object') limited.push({ who, limits: known, messages });
    };
    const own = this.#of(brokerName, { client: 'hog-1' });
    const all = this.#of(brokerName, { client: 'hog-*' });
    count('hog-1', own, ['hog-1']);
    const shared = own === 'none' ? CLIENTS : (['hog-2'] as const);
    if (typeof all === 'object' && all.each === true) for (const client of shared) count(client, all, [client]);
    else count('hog-*', all, shared);
    count(NAMESPACE, this.#of(brokerName, { namespace: NAMESPACE }), CLIENTS);
    return limited;
  }

  unfinished(): string | null {
    return this.isCalm ? null : 'a change of a quota is not confirmed everywhere';
  }

  judge(brokerNames: readonly string[], { quotasAt }: InTheEnd): void {
    for (const brokerName of brokerNames) {
      for (const subject of SUBJECTS) {
        const known = this.#of(brokerName, subject);
        const found = quotasAt(brokerName).find(({ kind, name }) => `${kind} ${name}` === keyOf(subject));
        if (known === 'unknown' || sameLimits(known, found)) continue;
        const what = `${JSON.stringify(known)} was confirmed, and ${JSON.stringify(found ?? 'none')} is there`;
        throw new Violation('quotas differ', `${keyOf(subject)} at ${brokerName}: ${what}`);
      }
    }
  }

  shown(log: FinalLog): void {
    for (const [queue, { messages }] of log.queues) {
      for (const { body, offset } of messages) {
        const error = this.#refused.get(`${body.producer}:${body.n}`);
        if (error !== undefined) throw new Violation('refused and stored', `${queue}@${offset}: the send of it ended with ${error}`);
      }
    }
  }
}

function sameLimits(known: Exclude<Known, 'unknown'>, found: Quota | undefined): boolean {
  if (known === 'none' || found === undefined) return known === 'none' && found === undefined;
  const { messagesPerSecond = NO_LIMIT, bytesPerSecond = NO_LIMIT, each = false } = known;
  return found.messagesPerSecond === messagesPerSecond && found.bytesPerSecond === bytesPerSecond && found.each === each;
}

/** Sends more than any quota allows; what is over the quota waits, and is given up at its deadline. */
async function produce(io: Io, stage: Stage, referee: QuotaReferee, clientId: string): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = new LedgerClient({ endpoints: stage.endpoints, clientId, io });
  await ensureTopic(io, client, TOPIC, QUEUES);
  const producer = client.producer({ deliveryTimeoutMs: prng.pick([3_000, 10_000]), maxBatchMessages: MAX_BATCH_MESSAGES });
  const number = stage.nextProducer();
  const burst = prng.pick([1, 4, 10]);
  let n = 0;
  const sendOne = (): void => {
    const own = n++;
    stage.referee.fabricated.sent(number, own);
    const settled = stage.begin();
    const spans = referee.sends();
    producer
      .send({ topic: TOPIC, body: encodeBody(number, 0, own, prng.pick([20, 300])) })
      .then(
        (result) => {
          const { brokerName, queueId, offset, msgId } = result;
          stage.referee.acked.push({ queue: queueName(brokerName, TOPIC, queueId), offset: offset ?? -1, identity: msgId });
          referee.stored(clientId, result, spans);
        },
        (error: unknown) => {
          if (!(error instanceof LedgerError)) throw error;
          if (error.code !== 'OUTCOME_UNKNOWN') referee.refused(number, own, error);
        },
      )
      .finally(settled);
  };
  while (stage.open) {
    for (let i = prng.between(1, burst); i > 0; i--) sendOne();
    await sleep(io, prng.exponential(20 * burst));
  }
}

/** Sets, changes and removes, one at a time; when no new work may begin nothing is limited any more. */
async function operate(io: Io, stage: Stage, referee: QuotaReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  for (;;) {
    await sleep(io, stage.open ? 200 + prng.exponential(1_500) : 200);
    if (!stage.open) {
      for (const subject of SUBJECTS) await change(stage, referee, client, subject, 'none');
      while (!referee.isCalm) for (const subject of SUBJECTS) await change(stage, referee, client, subject, 'none');
      await new Promise<void>(() => {});
    }
    const limits: QuotaLimits | 'none' = prng.chance(0.25)
      ? 'none'
      : {
          messagesPerSecond: prng.pick([2, 10, 40]),
          ...(prng.chance(0.3) ? { bytesPerSecond: prng.pick([1_000, 50_000]) } : {}),
        };
    const subject = prng.pick(SUBJECTS);
    const each = limits !== 'none' && 'client' in subject && subject.client === 'hog-*' && prng.chance(0.5);
    await change(stage, referee, client, subject, each ? { ...limits, each } : limits);
  }
}

async function change(
  stage: Stage,
  referee: QuotaReferee,
  client: LedgerClient,
  subject: QuotaSubject,
  limits: QuotaLimits | 'none',
): Promise<void> {
  referee.changing(stage, subject);
  try {
    const admin = client.admin();
    const { done } = limits === 'none' ? await admin.removeQuota(subject) : await admin.setQuota(subject, limits);
    referee.changed(stage, subject, limits, new Set(done));
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
  }
}

export function makeQuotas(_prng: Prng, brokerNames: readonly string[]): Workload {
  const referee = new QuotaReferee();
  return {
    topics: [TOPIC],
    actors: [
      (io, stage) => operate(io, stage, referee),
      ...CLIENTS.map((clientId) => (io: Io, stage: Stage) => produce(io, stage, referee, clientId)),
    ],
    unfinished: () => referee.unfinished(),
    judge: (_retained, inTheEnd) => referee.judge(brokerNames, inTheEnd),
    shown: (log) => referee.shown(log),
  };
}
