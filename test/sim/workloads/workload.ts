import type { Consumer } from '../../../src/client/consumer.ts';
import { LedgerClient } from '../../../src/client/ledger-client.ts';
import type { Producer } from '../../../src/client/producer.ts';
import type { Message, SendResult } from '../../../src/client/types.ts';
import type { BrokerConfig } from '../../../src/config.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import type { Quota, TopicDescription } from '../../../src/protocol/requests.ts';
import type { Stage } from '../actors.ts';
import { type FinalLog, Violation } from '../checkers/violation.ts';
import type { Prng } from '../prng.ts';

/**
 * One feature under attack: clients of its own on topics of its own, and what must hold for them. Which features are attacked
 * is drawn by swarm, like the faults: a run has none, one or two.
 */
export interface Workload {
  /** A process each: killed and started again like any other client, every life from the beginning. */
  readonly actors: readonly WorkloadActor[];
  /** Topics of QUEUES queues that are pulled as they are stored: read to the end at the end, and judged as those of every run. */
  readonly topics?: readonly string[];
  /** Of the brokers, in runs with this feature. */
  readonly config?: Partial<BrokerConfig>;
  /**
   * Asked in the liveness phase, when no new work may begin (stage.open is false): what is not done yet, in words; null when everything
   * is. Throws a Violation as soon as one is seen.
   */
  unfinished(retained: Retained): string | null;
  /** At the very end, when all replicas have the same log. Throws a Violation. */
  judge(retained: Retained, inTheEnd: InTheEnd): void;
  /** After that, of its topics: what one replica of each group shows to a reader. Throws a Violation. */
  shown?(log: FinalLog): void;
}

/** What a broker group has in the end, as all its replicas say. */
export interface InTheEnd {
  topicsAt(brokerName: string): readonly TopicDescription[];
  quotasAt(brokerName: string): readonly Quota[];
}

/** Is that place still in the log? What retention has cut nobody can be given any more. */
export type Retained = (place: {
  readonly brokerName: string;
  readonly topic: string;
  readonly queueId: number;
  readonly offset: number;
}) => boolean;

export type WorkloadActor = (io: Io, stage: Stage) => Promise<void>;

/** @param prng of the workload alone @param brokerNames of the run's groups */
export type MakeWorkload = (prng: Prng, brokerNames: readonly string[]) => Workload;

export const sleep = (io: Io, ms: number): Promise<void> => new Promise((resolve) => void io.clock.setTimer(ms, resolve));

/** Tries until it is done: brokers come and go. What is no LedgerError is the run's failure. */
export async function insist<T>(io: Io, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      await sleep(io, 200);
    }
  }
}

/** The topic, made by whoever is first. Every broker group has `queues` of it. */
export async function ensureTopic(io: Io, client: LedgerClient, topic: string, queues: number): Promise<void> {
  await insist(io, async () => {
    const { topics } = { topics: await client.admin().topics([topic]) };
    if (topics.length === 0) await client.admin().createTopic(topic, { queues });
  });
}

/** What one producer sends all the time while new work may begin; nothing waits for an answer. @param meanMs between two sends */
export async function keepSending(
  { io, stage, prng, producer }: { io: Io; stage: Stage; prng: Prng; producer: Producer },
  meanMs: number,
  next: (number: number, n: number) => Message,
  stored: (result: SendResult, number: number, n: number) => void,
): Promise<void> {
  const number = stage.nextProducer();
  for (let n = 0; stage.open; n++) {
    stage.referee.fabricated.sent(number, n);
    const message = next(number, n);
    const settled = stage.begin();
    producer
      .send(message)
      .then((result) => stored(result, number, n))
      .catch(() => {})
      .finally(settled);
    await sleep(io, prng.exponential(meanMs));
  }
}

/** A member that joins and leaves, again and again while new work may begin; who has joined after that stays. */
export async function comeAndGo(io: Io, stage: Stage, prng: Prng, join: () => Consumer): Promise<never> {
  for (;;) {
    const consumer = join();
    try {
      await consumer.start();
      do await sleep(io, 1_000 + prng.exponential(6_000));
      while (!stage.open || prng.chance(0.5));
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
    await consumer.close();
    await sleep(io, prng.exponential(1_000));
  }
}

/** Of a workload whose verdict is that nothing is left undone. */
export const finishing = (referee: Pick<Workload, 'unfinished'>): Pick<Workload, 'unfinished' | 'judge'> => ({
  unfinished: (retained) => referee.unfinished(retained),
  judge: (retained) => {
    const left = referee.unfinished(retained);
    if (left !== null) throw new Violation('lost', left);
  },
});

export const clientOf = (io: Io, stage: Stage): LedgerClient => new LedgerClient({ endpoints: stage.endpoints, io });
