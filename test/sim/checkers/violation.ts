/** A broken promise, found by a checker. Thrown, it ends the run of its seed. */
export class Violation extends Error {
  override name = 'Violation';
  readonly checker: string;

  constructor(checker: string, detail: string) {
    super(`${checker}: ${detail}`);
    this.checker = checker;
  }
}

/** `brokerName/topic/queueId`. */
export type QueueName = string;

export const queueName = (brokerName: string, topic: string, queueId: number): QueueName => `${brokerName}/${topic}/${queueId}`;

/** A message as somebody saw it at a place. `identity`: its message id; `fingerprint`: a hash over everything of it. */
export interface Seen {
  readonly queue: QueueName;
  readonly offset: number;
  readonly identity: string;
  readonly fingerprint: number;
  readonly body: MessageBody;
}

/** What the workloads write into every body. */
export interface MessageBody {
  readonly producer: number;
  readonly key: number;
  readonly n: number;
  /** False when the body is not one that a workload made or does not match its own checksum. */
  readonly whole: boolean;
}

/** The log at the end of a run, after everything was healed: each queue from its first retained offset. */
export interface FinalLog {
  readonly queues: ReadonlyMap<QueueName, { readonly minOffset: number; readonly messages: readonly Seen[] }>;
}

export function placeOf(seen: { readonly queue: QueueName; readonly offset: number }): string {
  return `${seen.queue}@${seen.offset}`;
}
