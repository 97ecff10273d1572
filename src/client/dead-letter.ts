import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';

/** Where a dead letter lies: each broker group has its own, in the order in which they died. */
export interface DeadLetterPlace {
  readonly brokerName: string;
  /** In `%DLQ%group` there. */
  readonly offset: number;
}

/** A message that its group gave up (F23). It stays until retention takes it, replayed or not. */
export interface DeadLetter extends DeadLetterPlace {
  /** As it was sent: `topic` is the one that it was sent to. `decodable` may be false. */
  readonly message: ReceivedMessage;
  readonly msgId: string;
  /** Where it was first. A topic that was deleted since has no name. */
  readonly origin: MessageQueue & { readonly offset: number };
  readonly attempts: number;
  /** Log time at which it was given up, ms. */
  readonly deadTimeMs: number;
  /** How often it was sent to its topic again; the last time, log time in ms. */
  readonly replays: number;
  readonly lastReplayMs: number | null;
}
