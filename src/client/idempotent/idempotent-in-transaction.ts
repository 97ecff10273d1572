import type { ReceivedMessage } from '../message.ts';
import type { ConsumeContext, MessageHandler } from '../types.ts';
import { byMessageId, checkedKey, type IdempotenceKey, isRefused, type TransactionalMarkStore } from './marks.ts';

export interface IdempotentInTransactionOptions<Tx, Done> {
  readonly store: TransactionalMarkStore<Tx, Done>;
  /** Default: the message id. */
  readonly key?: IdempotenceKey;
  /** Told of each message that was not handled because its mark was there. */
  readonly onDuplicate?: (message: ReceivedMessage) => void;
}

type Options<Tx, Done> = IdempotentInTransactionOptions<Tx, Done>;
type Handler<Tx, Done> = (message: ReceivedMessage, tx: Tx, context: ConsumeContext) => Done;

/** Rolls the transaction back for a handler that refused its message without a throw. */
class Refused extends Error {}

/**
 * Handles each key once: the mark is a row of the same transaction as the work, so after a crash there are both or neither.
 * What the handler does with `tx` is covered by that, what it does elsewhere is not.
 *
 *     const handler = idempotentInTransaction({ store: new PostgresMarks(pool) }, async (message, tx) => { await tx.query(…); });
 */
export function idempotentInTransaction<Tx>(options: Options<Tx, Promise<void>>, handler: Handler<Tx, Promise<void>>): MessageHandler;
/** SQLite: a handler that returns a promise is refused. */
export function idempotentInTransaction<Tx>(options: Options<Tx, undefined>, handler: Handler<Tx, undefined>): MessageHandler;
export function idempotentInTransaction<Tx, Done>(options: Options<Tx, Done>, handler: Handler<Tx, Done>): MessageHandler {
  const { store, key = byMessageId, onDuplicate } = options;
  return async (message, context) => {
    const work = (tx: Tx): Done => {
      const done = handler(message, tx, context);
      if (done instanceof Promise) {
        return done.then(() => refuse(context)) as Done;
      }
      refuse(context);
      return done;
    };
    try {
      const first = await store.once(context.group, checkedKey(key(message)), work);
      if (!first) onDuplicate?.(message);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  };
}

function refuse(context: ConsumeContext): void {
  if (isRefused(context)) throw new Refused();
}
