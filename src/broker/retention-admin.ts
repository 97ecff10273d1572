import type { LongerRetention, RetentionRemoveRequest } from '../protocol/requests.ts';
import { Op } from '../protocol/requests.ts';
import type { BrokerContext } from './context.ts';
import { retentionFault } from './longer-retentions.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { Session } from './session.ts';

/** Longer retentions as an operator asks for them (F34): changes are commands in the log. */
export class RetentionAdmin {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;

  constructor(context: BrokerContext, commands: PendingCommands) {
    this.#context = context;
    this.#commands = commands;
  }

  set(session: Session, requestId: number, retention: LongerRetention): void {
    const fault = retentionFault(retention);
    if (fault !== null) {
      session.refuse(requestId, 'BAD_REQUEST', fault);
      return;
    }
    const { name, retentionMs, maxBytes } = retention;
    this.#commands.propose({ type: 'retentionSet', name, retentionMs, maxBytes }, (error) => {
      this.#note(session, requestId, 'retention set', { name, retentionMs, maxBytes, error: error ?? '' });
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.retentionSet, requestId, {});
    });
  }

  remove(session: Session, requestId: number, { name }: RetentionRemoveRequest): void {
    this.#commands.propose({ type: 'retentionRemove', name }, (error) => {
      this.#note(session, requestId, 'retention remove', { name, error: error ?? '' });
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.retentionRemove, requestId, {});
    });
  }

  list(session: Session, requestId: number): void {
    const { retentions, kept } = this.#context.state;
    session.respond(Op.retentionList, requestId, { retentions: retentions.all().map((one) => ({ ...one, ...kept.use(one.name) })) });
  }

  #note(session: Session, requestId: number, event: string, fields: Readonly<Record<string, string | number>>): void {
    this.#context.metrics.event(event, { ...fields, requestId, client: session.clientId, address: session.address });
  }
}
