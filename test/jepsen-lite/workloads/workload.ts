import { setTimeout as sleep } from 'node:timers/promises';
import { type LedgerClient, LedgerError, type TopicDefinition } from '../../../src/index.ts';
import type { Prng } from '../../sim/prng.ts';
import type { HistoryWriter } from '../history.ts';
import type { Counts, Lane } from './lane.ts';

/** What a workload is given. */
export interface Stage {
  readonly endpoints: readonly string[];
  /** Of this worker among those of its workload. */
  readonly id: number;
  readonly historyPath: string;
  readonly originNs: bigint;
  readonly history: HistoryWriter;
  readonly counts: Counts;
  readonly prng: Prng;
  /** Messages per second of this worker; Infinity: as many as it can. */
  readonly rate: number;
  /** Aborted when no new operation is to begin. */
  readonly stop: AbortSignal;
  /** A lane of this worker, by a number of its own below 1,000. */
  lane(number: number): Lane;
  /** The number of such a lane among those of the whole run. */
  laneNumber(number: number): number;
  client(): LedgerClient;
}

export interface Workload {
  /** Resolves when operations can begin. */
  start(): Promise<void>;
  /** After `stop`: waits for what is under way, and for what must still arrive, until the deadline that it names. */
  drain(): Promise<void>;
}

const CREATE_TIMEOUT_MS = 60_000;
const AGAIN_MS = 200;

/** Makes the topic, or finds it made by another worker. */
export async function ensureTopic(client: LedgerClient, topic: string, definition: TopicDefinition): Promise<void> {
  const deadlineMs = performance.now() + CREATE_TIMEOUT_MS;
  for (;;) {
    try {
      await client.admin().createTopic(topic, definition);
      return;
    } catch (error) {
      if (!(error instanceof LedgerError) || performance.now() > deadlineMs) throw error;
      if (error.code === 'TOPIC_EXISTS') return;
      await sleep(AGAIN_MS);
    }
  }
}

/** Polls until `condition` holds. @returns false when it did not by the deadline */
export async function waitFor(condition: () => boolean | Promise<boolean>, timeoutMs: number, pollMs = 100): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) return false;
    await sleep(pollMs);
  }
  return true;
}

export const queueName = (queue: { readonly topic: string; readonly brokerName: string; readonly queueId: number }): string =>
  `${queue.topic}/${queue.brokerName}/${queue.queueId}`;
