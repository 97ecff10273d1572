/** One queue of a topic. Offsets in it are dense from 0 and strictly first in, first out. */
export interface MessageQueue {
  readonly topic: string;
  readonly brokerName: string;
  readonly queueId: number;
}
