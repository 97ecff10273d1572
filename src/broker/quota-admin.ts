import type { Quota, QuotaRemoveRequest } from '../protocol/requests.ts';
import { Op } from '../protocol/requests.ts';
import type { BrokerContext } from './context.ts';
import type { PendingCommands } from './pending-commands.ts';
import { quotaFault } from './quotas.ts';
import type { Session } from './session.ts';

/** Quotas as an operator asks for them (F44): changes are commands in the log, what is used is this leader's memory. */
export class QuotaAdmin {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;

  constructor(context: BrokerContext, commands: PendingCommands) {
    this.#context = context;
    this.#commands = commands;
  }

  set(session: Session, requestId: number, quota: Quota): void {
    const fault = quotaFault(quota);
    if (fault !== null) {
      session.refuse(requestId, 'BAD_REQUEST', fault);
      return;
    }
    this.#commands.propose({ type: 'quotaSet', ...quota }, (error) => {
      const { kind, name, each, ...limits } = quota;
      this.#note(session, requestId, 'quota set', { kind, quota: name, each: String(each), ...limits, error: error ?? '' });
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.quotaSet, requestId, {});
    });
  }

  remove(session: Session, requestId: number, { kind, name }: QuotaRemoveRequest): void {
    this.#commands.propose({ type: 'quotaRemove', kind, name }, (error) => {
      this.#note(session, requestId, 'quota remove', { kind, quota: name, error: error ?? '' });
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.quotaRemove, requestId, {});
    });
  }

  list(session: Session, requestId: number): void {
    session.respond(Op.quotaList, requestId, { quotas: this.#context.quotas.use() });
  }

  #note(session: Session, requestId: number, event: string, fields: Readonly<Record<string, string | number>>): void {
    this.#context.metrics.event(event, { ...fields, requestId, client: session.clientId, address: session.address });
  }
}
