import type { Message } from './types.ts';

/** A place that was asked for, by queue, key or selector, is kept: keys wait or fail, they never move. */
export function isMovable(message: Message, arg: unknown): boolean {
  return message.queue === undefined && message.orderingKey === undefined && arg === undefined;
}

/** Placed by its key alone: placed again when its queue is taken away. */
export function isKeyed(message: Message, arg: unknown): boolean {
  return message.queue === undefined && message.orderingKey !== undefined && arg === undefined;
}
