import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient } from '../client/ledger-client.ts';
import type { SendResult } from '../client/types.ts';
import { AdminSession } from './admin-session.ts';
import { connectClient, ensureTopic, waitUntil } from './client.ts';
import { DeliveryCheck, GapMeter } from './delivery-check.ts';
import type { DemoMessage } from './demo-input.ts';
import type { LocalCluster } from './local-cluster.ts';
import { grouped } from './output.ts';
import { type VerifyResult, verifyReplicas } from './verify-replicas.ts';

const TOPIC = 'demo';
const GROUP = 'demo-consumers';
const QUEUES = 12;
const CONSUMERS = 3;
const MAX_IN_FLIGHT = 1024;
/** The killed replica stays away this long at least, so that the others are seen to go on without it. */
const AWAY_MS = 1000;
/** After the last message: time in which a duplicate would still arrive. */
const SETTLE_MS = 500;
/** Nothing new for this long, longer than a session: what is missing does not come any more. */
const STALLED_MS = 20_000;
const MAX_DIFFERENT_NOTES = 20;
/** Property that carries the message's number. */
const NUMBER = 'demoNumber';

export interface Killed {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly afterMessages: number;
}

export interface DemoReport {
  readonly sent: number;
  readonly consumed: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  /** Longest pause between two acknowledgements of the killed leader's group, from the kill on: the other groups go on meanwhile. */
  readonly gapMs: number;
  /** Acknowledged messages per second, the gap included. */
  readonly msgsPerS: number;
  readonly keys: number;
  readonly sendErrors: number;
  readonly killed: Killed;
  /** Of each broker group. */
  readonly verify: readonly VerifyResult[];
}

/** Sends all messages through the cluster to a group of three consumers while the leader is killed and comes back. */
export class DemoRun {
  readonly #cluster: LocalCluster;
  readonly #messages: readonly DemoMessage[];
  readonly #say: (text: string) => void;
  readonly #deadlineMs: number;
  readonly #check: DeliveryCheck;
  readonly #killAfter: number;
  /** By broker group. */
  readonly #gaps = new Map<string, GapMeter>();
  readonly #said = new Set<string>();
  #acknowledged = 0;
  #sendErrors = 0;

  /** @param deadlineMs performance.now() after which it gives up */
  constructor(cluster: LocalCluster, messages: readonly DemoMessage[], deadlineMs: number, say: (text: string) => void) {
    this.#cluster = cluster;
    this.#messages = messages;
    this.#deadlineMs = deadlineMs;
    this.#say = say;
    this.#check = new DeliveryCheck(messages.length);
    this.#killAfter = Math.max(1, randomInt(Math.floor(messages.length * 0.2), Math.floor(messages.length * 0.8) + 1));
  }

  /** For progress lines. */
  get state(): string {
    return `${grouped(this.#acknowledged)} acknowledged, ${grouped(this.#check.consumed)} consumed`;
  }

  /** @throws CommandError (timed out) when it does not come to its end */
  async run(): Promise<DemoReport> {
    const { endpoints } = this.#cluster;
    await ensureTopic(endpoints, TOPIC, QUEUES);
    const clients: LedgerClient[] = [];
    try {
      for (let at = 0; at < CONSUMERS; at++) clients.push(await this.#consumer(endpoints));
      const producing = await connectClient(endpoints);
      clients.push(producing);
      const startMs = performance.now();
      const killing = this.#killAndBringBack();
      // It is awaited below; a failure before that must not count as unhandled.
      killing.catch(() => undefined);
      await this.#produce(producing);
      const producedMs = performance.now() - startMs;
      const killed = await killing;
      await this.#consumed();
      const verify = await this.#verify();
      return this.#report(producedMs, killed, verify);
    } finally {
      await Promise.all(clients.map((client) => client.close()));
    }
  }

  async #consumer(endpoints: readonly string[]): Promise<LedgerClient> {
    const client = await connectClient(endpoints);
    const consumer = client.consumer({
      group: GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      ordered: true,
      handler: (message) => {
        this.#check.received(message.orderingKey ?? '', Number(message.properties[NUMBER]));
      },
      onError: (error) => this.#sayOnce(`consumer: ${(error as Error).message}`),
    });
    await consumer.start();
    return client;
  }

  /** Consumers meet the same refusal for each queue that moves. */
  #sayOnce(text: string): void {
    if (this.#said.has(text) || this.#said.size === MAX_DIFFERENT_NOTES) return;
    this.#said.add(text);
    this.#say(text);
  }

  /** Sends in order, at most MAX_IN_FLIGHT unanswered. */
  async #produce(client: LedgerClient): Promise<void> {
    const producer = client.producer();
    const messages = this.#messages;
    let next = 0;
    for (const brokerName of this.#cluster.brokerNames) this.#gaps.set(brokerName, new GapMeter(performance.now()));
    const { promise, resolve } = Promise.withResolvers<void>();
    const sendNext = (): void => {
      if (next === messages.length) {
        if (this.#acknowledged + this.#sendErrors === messages.length) resolve();
        return;
      }
      const { key, body } = messages[next] as DemoMessage;
      const message = { topic: TOPIC, body, orderingKey: key, properties: { [NUMBER]: String(next) } };
      next++;
      void producer.send(message, onSettled);
    };
    const onSettled = (error: Error | null, result: SendResult | null): void => {
      if (error === null) {
        this.#acknowledged++;
        this.#gaps.get(result?.brokerName ?? '')?.acknowledged(performance.now());
      } else if (this.#sendErrors++ === 0) this.#say(`a send failed: ${error.message}`);
      sendNext();
    };
    for (let at = 0; at < Math.min(MAX_IN_FLIGHT, messages.length); at++) sendNext();
    const settled = promise.then(() => true);
    await Promise.race([
      settled,
      waitUntil(
        () => this.#acknowledged + this.#sendErrors === messages.length,
        this.#deadlineMs,
        () => this.state,
        50,
      ),
    ]);
  }

  async #killAndBringBack(): Promise<Killed> {
    await waitUntil(
      () => this.#acknowledged >= this.#killAfter,
      this.#deadlineMs,
      () => this.state,
      1,
    );
    const { brokerNames } = this.#cluster;
    const brokerName = brokerNames[randomInt(brokerNames.length)] as string;
    const replicaId = await this.#cluster.waitLeader(brokerName);
    const afterMessages = this.#acknowledged;
    this.#gaps.get(brokerName)?.startAt(performance.now());
    await this.#cluster.kill(replicaId, brokerName);
    this.#say(`killed the leader of group ${brokerName}, replica ${replicaId}, after ${grouped(afterMessages)} acknowledgements (kill -9)`);
    await sleep(AWAY_MS);
    await this.#cluster.restart(replicaId, undefined, brokerName);
    this.#say(`replica ${replicaId} is back`);
    return { brokerName, replicaId, afterMessages };
  }

  async #consumed(): Promise<void> {
    // A message that does not come is a loss to report, not a command that hangs.
    let lastCount = -1;
    let lastMs = performance.now();
    const settled = (): boolean => {
      const { consumed } = this.#check;
      const nowMs = performance.now();
      if (consumed !== lastCount) lastMs = nowMs;
      lastCount = consumed;
      return consumed >= this.#acknowledged || nowMs - lastMs > STALLED_MS;
    };
    await waitUntil(settled, this.#deadlineMs, () => this.state);
    await sleep(SETTLE_MS);
  }

  async #verify(): Promise<VerifyResult[]> {
    this.#say('comparing the replicas');
    using session = await AdminSession.connect(this.#cluster.endpoints);
    const results: VerifyResult[] = [];
    for (const brokerName of this.#cluster.brokerNames) {
      results.push(await verifyReplicas(session, brokerName, Math.max(1000, this.#deadlineMs - performance.now())));
    }
    return results;
  }

  #report(producedMs: number, killed: Killed, verify: readonly VerifyResult[]): DemoReport {
    const { consumed, duplicated, outOfOrder, unknown } = this.#check;
    return {
      sent: this.#acknowledged,
      consumed: consumed + unknown,
      lost: Math.max(0, this.#check.lost(this.#messages.length) - this.#sendErrors),
      duplicated,
      outOfOrder,
      gapMs: Math.round(this.#gaps.get(killed.brokerName)?.longestMs(performance.now(), true) ?? 0),
      msgsPerS: Math.round((this.#acknowledged * 1000) / producedMs),
      keys: new Set(this.#messages.map((message) => message.key)).size,
      sendErrors: this.#sendErrors,
      killed,
      verify,
    };
  }
}
